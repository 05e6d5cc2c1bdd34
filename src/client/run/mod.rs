//! Verbs that run a command: `lock`, `elect`, `watch --exec`.
//!
//! * [`child`]: a command that dies with this process. [`signals`]: what this process is told to do.
//! * [`lock`]: a command while a lock is held. [`watch`]: changes, and a command for each.

mod child;
mod lock;
mod signals;
mod watch;

pub use child::become_bound;
pub(super) use lock::{elect, lock};
pub(super) use signals::{Signals, ended_by};
pub(super) use watch::watch;
