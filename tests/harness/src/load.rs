//! A steady load on several servers, of which every request is accounted for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::{Client, Counts};

/// Clients at work. They end when this is dropped.
pub struct Load {
    is_over: Arc<AtomicBool>,
    clients: JoinSet<Tally>,
}

/// What clients have seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// What became of requests and connections.
    pub counts: Counts,
    /// Answers of another status than 200.
    pub not_ok: u64,
    /// The first thing that was wrong.
    pub example: Option<String>,
}

impl Load {
    /// Asks each of `servers` for `/` of `host`: over one connection that is kept, with a pause of
    /// [`PAUSE`] after each answer, and over a new one for each request, with [`PAUSE_FRESH`].
    #[must_use]
    pub fn start(servers: &[SocketAddr], host: &str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for server in servers {
            for is_kept in [true, false] {
                clients.spawn(ask(*server, host.to_owned(), is_kept, Arc::clone(&is_over)));
            }
        }
        Self { is_over, clients }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a client panics.
    pub async fn stop(mut self) -> Result<Tally> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        while let Some(one) = self.clients.join_next().await {
            let Tally { counts, not_ok, example } = one?;
            all.counts += counts;
            all.not_ok += not_ok;
            all.example = all.example.or(example);
        }
        Ok(all)
    }

    /// Ends it; gives how many requests were sent.
    ///
    /// # Errors
    /// When a request had no answer or another one than 200, or a kept connection was closed early.
    pub async fn stop_without_a_loss(self) -> Result<u64> {
        let Tally { counts, not_ok, example } = self.stop().await?;
        let Counts { sent, answered, failed, opened: _, closed, retired: _ } = counts;
        ensure!(sent > 0, "nothing was asked");
        ensure!(
            answered == sent && failed == 0 && not_ok == 0 && closed == 0,
            "{counts:?}, {not_ok} of another status; the first: {example:?}"
        );
        Ok(sent)
    }
}

async fn ask(to: SocketAddr, host: String, is_kept: bool, is_over: Arc<AtomicBool>) -> Tally {
    let mut client = Client::plain(to);
    let (mut not_ok, mut example) = (0, None);
    while !is_over.load(Ordering::Relaxed) {
        let fault = match client.get(&host, "/").await {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => {
                not_ok += 1;
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                Some(format!("{to} answers {}: {body}", answer.status))
            }
            Err(error) => Some(format!("{to}: {error:#}")),
        };
        example = example.or(fault);
        if !is_kept {
            client.close();
        }
        tokio::time::sleep(if is_kept { PAUSE } else { PAUSE_FRESH }).await;
    }
    Tally { counts: client.counts().await, not_ok, example }
}

/// The pause after an answer over a connection that is kept.
pub const PAUSE: Duration = Duration::from_millis(10);

/// The pause after one over a connection of its own: each takes a local port for a minute, and
/// servers that are started again want theirs back.
pub const PAUSE_FRESH: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Reply};

    #[tokio::test]
    async fn a_request_that_fails_is_seen() {
        let good = Backend::start("good").await.unwrap();
        let load = Load::start(&[good.address], "a.example");
        while good.requests() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(load.stop_without_a_loss().await.unwrap() >= 3);

        let refuse = |_| Reply {
            response: http::Response::builder().status(503).body("no".into()).unwrap(),
            after: Duration::ZERO,
        };
        let bad = Backend::start_with("bad", "127.0.0.1:0".parse().unwrap(), refuse).await.unwrap();
        let load = Load::start(&[good.address, bad.address], "a.example");
        while bad.requests() < 3 {
            tokio::task::yield_now().await;
        }
        let error = load.stop_without_a_loss().await.unwrap_err().to_string();
        assert!(error.contains("answers 503") && error.contains("no"), "{error}");
    }
}
