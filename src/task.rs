//! Starts tasks and blocking work, and reads the machine's clock.
//!
//! All of it is tokio's own. In this crate's tests it goes through [`crate::sim`], which stops, pauses and replays whole
//! nodes and must know whose task each is. Everything that a node starts is therefore started here, openraft's tasks
//! included ([`Runtime`]).

#[cfg(not(test))]
pub use openraft_rt_tokio::TokioRuntime as Runtime;
#[cfg(not(test))]
pub use tokio::task::{spawn, spawn_blocking};
/// A moment, from which this machine's clock measures.
#[cfg(not(test))]
pub use tokio::time::Instant as Moment;

/// Starts a task on other threads than the caller's.
#[cfg(not(test))]
pub fn spawn_on<F>(threads: &tokio::runtime::Handle, future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    threads.spawn(future)
}

#[cfg(test)]
pub use crate::sim::clock::Moment;
#[cfg(test)]
pub use crate::sim::host::{spawn, spawn_blocking, spawn_on};
#[cfg(test)]
pub use crate::sim::runtime::Runtime;
