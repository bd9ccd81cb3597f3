//! A thread that owns what must not be shared or must not block the runtime: SQLite connections.

use tokio::sync::{mpsc, oneshot};

/// Jobs waiting before callers wait.
const QUEUE: usize = 256;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// The only way to the state; its thread ends when the last clone is gone.
pub struct Owner<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S> Clone for Owner<S> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<S: Send + 'static> Owner<S> {
    pub fn spawn(name: &str, mut state: S) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job<S>>(QUEUE);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut state);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the thread; `None` when the thread is gone.
    pub async fn call<R: Send + 'static>(&self, job: impl FnOnce(&mut S) -> R + Send + 'static) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // The asker may have stopped waiting; what was asked is done all the same.
            let _ = answer.send(job(state));
        });
        self.jobs.send(job).await.ok()?;
        answered.await.ok()
    }
}
