//! What snapshots cost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::observe::{Counter, Histogram, Scale};

const UNKNOWN: u64 = u64::MAX;

/// How far a snapshot is that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStep {
    /// It is begun.
    Begun,
    /// It is whole and durable.
    Written,
    /// It could not be written.
    Failed,
}

/// Whoever is told of that, with the last index that the snapshot covers.
pub type OnSnapshot = Box<dyn Fn(SnapshotStep, u64) + Send + Sync>;

/// [`OnSnapshot`], once somebody asked for it.
#[derive(Default)]
pub(super) struct Told(pub(super) std::sync::OnceLock<OnSnapshot>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

/// What a store of snapshots counts, and the room that is left on its disk.
#[derive(Debug)]
pub struct SnapshotNumbers {
    /// How long it took to write each.
    pub took: Histogram,
    /// Those that could not be written.
    pub failures: Counter,
    free_bytes: AtomicU64,
}

impl Default for SnapshotNumbers {
    fn default() -> Self {
        Self { took: Histogram::new(Scale::SECONDS), failures: Counter::default(), free_bytes: AtomicU64::new(UNKNOWN) }
    }
}

impl SnapshotNumbers {
    /// So much is free on the disk now.
    pub fn note_free(&self, bytes: u64) {
        self.free_bytes.store(bytes, Relaxed);
    }

    /// How much was free when it was looked last; `None` where there is no disk, or nobody looked.
    pub fn free_bytes(&self) -> Option<u64> {
        let bytes = self.free_bytes.load(Relaxed);
        (bytes != UNKNOWN).then_some(bytes)
    }
}
