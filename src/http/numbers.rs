//! What a port counts.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::observe::Counter;

/// The numbers of a port, from its start on.
#[derive(Debug, Default)]
pub struct PortNumbers {
    /// Connections that are open now.
    connections: AtomicUsize,
    /// Connections that were accepted beyond the limit.
    pub excess: Counter,
    /// Bytes that came.
    pub received: Counter,
    /// Bytes that went.
    pub sent: Counter,
}

impl PortNumbers {
    /// So many connections are open.
    pub(super) fn has(&self, connections: usize) {
        self.connections.store(connections, Relaxed);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}
