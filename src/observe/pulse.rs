//! Whether threads still turn: a task on each notes that it had its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How often somebody who waits for a turn looks again.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The last turns of some runtimes. Clones share them.
#[derive(Debug, Clone)]
pub struct Pulses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    every: Duration,
    /// By name, in milliseconds since the beginning.
    turns: Vec<(String, AtomicU64)>,
}

/// The tasks that take turns, until this is dropped.
#[derive(Debug)]
pub struct PulseTasks(Vec<JoinHandle<()>>);

impl Drop for PulseTasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Pulses {
    /// A task on each of these runtimes that has a turn every so often.
    pub fn begin(every: Duration, runtimes: Vec<(String, Handle)>) -> (Self, PulseTasks) {
        let turns = runtimes.iter().map(|(name, _)| (name.clone(), AtomicU64::new(0))).collect();
        let pulses = Self(Arc::new(Shared { began: Instant::now(), every, turns }));
        let tasks = runtimes.iter().enumerate().map(|(nth, (_, runtime))| runtime.spawn(pulses.clone().turn(nth)));
        (pulses.clone(), PulseTasks(tasks.collect()))
    }

    /// No runtimes: nothing to look at.
    pub fn none() -> Self {
        Self(Arc::new(Shared { began: Instant::now(), every: Duration::from_secs(1), turns: Vec::new() }))
    }

    async fn turn(self, nth: usize) {
        loop {
            if let Some((_, turned)) = self.0.turns.get(nth) {
                turned.store(self.now_ms(), Relaxed);
            }
            sleep(self.0.every).await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn late(&self, most: Duration) -> Option<String> {
        let now_ms = self.now_ms();
        let late = |(name, turned): &(String, AtomicU64)| {
            let age = Duration::from_millis(now_ms.saturating_sub(turned.load(Relaxed)));
            (age > most).then(|| format!("the threads of {name} have not turned for {} ms", age.as_millis()))
        };
        self.0.turns.iter().find_map(late)
    }

    /// Checks that each has had a turn within `most`. Where not, it has a moment to have one: a process that was stopped
    /// and goes on is alive.
    ///
    /// # Errors
    /// A text that names the one that stands still.
    pub async fn check(&self, most: Duration) -> Result<(), String> {
        let until = Instant::now() + self.0.every;
        loop {
            match self.late(most) {
                None => return Ok(()),
                Some(late) if Instant::now() >= until => return Err(late),
                Some(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_is_blocked_is_named() {
        let runtime = |_| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let [first, second] = [0, 1].map(runtime);
        let every = Duration::from_millis(10);
        let named = |name: &str, of: &tokio::runtime::Runtime| (name.to_owned(), of.handle().clone());
        let (pulses, _tasks) = Pulses::begin(every, vec![named("Raft", &first), named("clients", &second)]);
        let most = Duration::from_millis(500);
        assert_eq!(first.block_on(pulses.check(most)), Ok(()));
        let (let_go, blocked) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        second.spawn(async move {
            tell.send(()).unwrap();
            let _ = blocked.recv();
        });
        told.recv().unwrap();
        let why = first.block_on(async {
            loop {
                match pulses.check(most).await {
                    Ok(()) => sleep(every).await,
                    Err(why) => return why,
                }
            }
        });
        assert!(why.starts_with("the threads of clients have not turned for"), "{why}");
        drop(let_go);
        first.block_on(async { while pulses.check(most).await.is_err() {} });
        first.shutdown_background();
        second.shutdown_background();
    }
}
