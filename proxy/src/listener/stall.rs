//! The time without progress while something is sent to a client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Runs while bytes wait that the socket does not take; nothing runs while it takes them.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    timer: Option<Pin<Box<Sleep>>>,
    /// What had been sent when the timer was set.
    sent: u64,
}

impl Stall {
    /// Ready when nothing has left for `within`. `sent`: how much has left in all.
    pub(crate) fn poll(&mut self, sent: u64, within: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if sent != self.sent {
            self.timer = None;
        }
        self.sent = sent;
        let timer =
            self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + within)));
        timer.as_mut().poll(cx)
    }

    /// There is nothing that waits.
    pub(crate) fn end(&mut self) {
        self.timer = None;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_begins_the_time_anew() {
        let (mut stall, within) = (Stall::default(), Duration::from_secs(30));
        let mut stalls = async |sent, after: Duration| {
            let stalled = poll_fn(|cx| stall.poll(sent, within, cx));
            tokio::time::timeout(after, stalled).await.is_ok()
        };
        assert!(!stalls(0, Duration::from_secs(20)).await);
        assert!(!stalls(1, Duration::from_secs(20)).await);
        assert!(!stalls(2, Duration::from_secs(29)).await);
        assert!(stalls(2, Duration::from_secs(2)).await);
    }
}
