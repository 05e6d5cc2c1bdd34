//! What expired here.

use crate::kv::{Change, Event};
use crate::observe::Counter;

/// Counts keys and locks whose time was up, as they are dropped here.
#[derive(Debug, Default)]
pub struct Expired {
    /// Keys, of leases too.
    pub keys: Counter,
    /// Locks.
    pub locks: Counter,
}

impl Expired {
    /// Counts what is among these changes.
    pub(super) fn count(&self, events: &[Event]) {
        for event in events {
            match event.change {
                Change::Expired { .. } => self.keys.one(),
                Change::LockExpired { .. } => self.locks.one(),
                _ => {}
            }
        }
    }
}
