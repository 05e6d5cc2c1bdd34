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
    /// Connections that were closed to make room for others, because nobody was known on them yet.
    pub made_room: Counter,
    /// Requests that were refused because long heads had no room left.
    pub long_heads_refused: Counter,
    /// Bytes that came.
    pub received: Counter,
    /// Bytes that went.
    pub sent: Counter,
    /// Connections of HTTP/2 that are open now.
    pub(super) http2: AtomicUsize,
    /// Requests of HTTP/2 that are open now: streams.
    pub(super) streams: AtomicUsize,
    /// Streams that began.
    pub streams_begun: Counter,
    /// Streams that were reset because their clients took nothing of the answer.
    pub streams_cut: Counter,
    /// Connections of HTTP/2 that were ended because their clients sent too much that means nothing, or half a head.
    pub calmed: Counter,
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

    /// How many of them speak HTTP/2.
    pub fn http2_connections(&self) -> usize {
        self.http2.load(Relaxed)
    }

    /// How many requests of HTTP/2 are open.
    pub fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }
}
