//! Starting tasks, and blocking work beside them; and the clock of the machine that they run on.
//!
//! It is tokio's own. Only in this crate's tests does it go through [`crate::sim`], which stops, pauses and replays whole
//! nodes and must therefore know whose task each is; there, too, it is tokio's where nothing is simulated. So what a node
//! starts is started here, openraft's tasks included ([`Runtime`]).

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
pub use crate::sim::host::{Moment, spawn, spawn_blocking, spawn_on};
#[cfg(test)]
pub use crate::sim::runtime::Runtime;
