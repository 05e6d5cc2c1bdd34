//! When this node last heard from a leader, and how fresh that leader's own authority was.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The last message from a leader.
#[derive(Debug, Default)]
pub(super) struct Contact(Mutex<Option<Instant>>);

impl Contact {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leader was heard just now.
    pub(super) fn heard(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// How long ago a leader was last heard; `None` for never.
    pub(super) fn age(&self) -> Option<Duration> {
        self.lock().map(|at| at.elapsed())
    }
}
