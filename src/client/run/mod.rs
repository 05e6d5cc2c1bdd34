//! Verbs that run a command: `lock`, `elect`, `watch --exec`.
//!
//! * [`child`]: a command that dies with this process.
//! * [`lock`]: a command while a lock is held. [`watch`]: changes, and a command for each.

mod child;
mod lock;
mod watch;

pub(super) use child::Child;
pub use child::become_bound;
pub(super) use lock::{elect, lock};
pub(super) use watch::watch;
