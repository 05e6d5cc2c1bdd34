//! The read side of the state.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Shared, index_of};

/// Reads the map beside whoever applies to it; clones share it. It promises nothing of its own about staleness:
/// that is the caller's, who waits until [`applied`](Self::applied) has reached a read index.
#[derive(Debug, Clone)]
pub struct MapReader {
    shared: Arc<Shared>,
}

impl MapReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The value of a key, and the index of the last entry that was applied to the map it was read from (0: none).
    /// Blocks at most for one batch.
    pub fn get(&self, key: &str) -> (Option<Bytes>, u64) {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.kv.get(key), index_of(&state))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner).kv.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Follows the index of the last applied entry (0: none). Once it shows an index, [`get`](Self::get) reads from that
    /// entry on.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }
}
