//! A thread for what nobody waits for: it gets a core when requests and changes leave one.
//!
//! A replica looks at all that it runs, and keeps all of it, after each change. On a machine whose
//! cores are busy that must not hold up the next one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

/// The thread. A clone shares it; it ends with the last one.
#[derive(Clone)]
pub struct Background(Arc<Inner>);

struct Inner {
    /// Taken when the thread is to end.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for one more.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, mut wanted) = mpsc::channel::<Job>(JOBS_MAX);
        let thread =
            std::thread::Builder::new().name("background".to_owned()).spawn(move || {
                // For this thread alone. Where that is forbidden it is one like the others.
                let _ = rustix::process::setpriority_process(None, NICENESS);
                while let Some(job) = wanted.blocking_recv() {
                    job();
                }
            })?;
        Ok(Self(Arc::new(Inner { jobs: Some(jobs), thread: Some(thread) })))
    }

    /// Does it there, after what others have asked for. It is done also when nobody waits for it
    /// any more. A panic goes on here.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (done, result) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let job: Job = Box::new(move || {
            // Who asked may have gone.
            let _ = done.send(catch_unwind(AssertUnwindSafe(act)));
        });
        if let Some(jobs) = &self.0.jobs {
            // The thread takes what comes as long as there are senders.
            let _ = jobs.send(job).await;
        }
        match result.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            // Only when the thread has ended, which it does after its last owner.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It catches the panics of its jobs.
            let _ = thread.join();
        }
    }
}

/// How many jobs wait at most; more wait where they are asked for.
const JOBS_MAX: usize = 4;
/// A ninth of what others get where all want a core.
const NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_one_after_the_other_at_a_lower_priority() {
        let background = Background::start().unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let jobs = (0..20).map(|number| {
            let (background, order) = (background.clone(), Arc::clone(&order));
            async move { background.run(move || order.lock().unwrap().push(number)).await }
        });
        futures::future::join_all(jobs).await;
        assert_eq!(order.lock().unwrap().len(), 20);
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let (here, there) = (priority(), background.run(priority).await);
        assert_eq!(there, NICENESS.max(here));
    }

    #[tokio::test]
    async fn a_panic_goes_on_where_it_was_asked_for_and_the_thread_lives() {
        let background = Background::start().unwrap();
        let asked = background.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { asked.run(|| panic!("no")).await });
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_panic());
        assert_eq!(background.run(|| 7).await, 7);
    }

    #[tokio::test]
    async fn what_was_begun_is_done_when_all_have_gone() {
        let (tell, told) = oneshot::channel();
        let background = Background::start().unwrap();
        let (begun, seen) = oneshot::channel();
        let job = background.run(move || {
            let _ = begun.send(());
            std::thread::sleep(std::time::Duration::from_millis(20));
            let _ = tell.send(());
        });
        tokio::select! {
            () = job => {}
            _ = seen => {}
        }
        drop(background);
        told.await.unwrap();
    }
}
