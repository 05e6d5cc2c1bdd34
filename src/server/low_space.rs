//! Warns in time that the disk is filling up: a full one stops the node.
//!
//! A node needs room for [`LOG_BYTES_BETWEEN_SNAPSHOTS`] of log and for a snapshot beside the present one. It warns where
//! less than that and a margin of 256 MiB is free. It warns once, and again only after a quarter more was free in between:
//! a disk that hovers around the bound fills no log.
//!
//! Caveat: the size of the next snapshot is taken to be that of the present one.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::interval;

use super::LOG_BYTES_BETWEEN_SNAPSHOTS;
use crate::storage::SnapshotStore;
use crate::storage::disk::Disk;

const LOOK_INTERVAL: Duration = Duration::from_secs(10);
const MARGIN_BYTES: u64 = 256 << 20;

/// The task that looks; it ends when this is dropped.
pub(super) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks at the disk from now on.
pub(super) fn watch(disk: Arc<dyn Disk>, snapshots: SnapshotStore) -> Watch {
    Watch(tokio::spawn(async move {
        let mut tick = interval(LOOK_INTERVAL);
        let mut level = Level::default();
        loop {
            tick.tick().await;
            let looked = disk.clone();
            let Ok(free) = spawn_blocking(move || looked.free_bytes()).await else { return };
            match free {
                // A directory in memory.
                Ok(None) => return,
                Ok(Some(free)) => {
                    snapshots.numbers().note_free(free);
                    let needed = needed(snapshots.current().map_or(0, |snapshot| snapshot.len()));
                    level.report(&disk.display(""), free, needed);
                }
                Err(error) => tracing::debug!(%error, "cannot tell how much space is left"),
            }
        }
    }))
}

fn needed(snapshot: u64) -> u64 {
    LOG_BYTES_BETWEEN_SNAPSHOTS + MARGIN_BYTES + snapshot
}

/// Remembers which of the two messages was logged last.
#[derive(Debug, Default)]
struct Level {
    low: bool,
}

impl Level {
    fn report(&mut self, place: &str, free: u64, needed: u64) {
        let mib = |bytes: u64| bytes >> 20;
        match self.turned(free, needed) {
            Some(true) => tracing::warn!(
                "{place}: only {} MiB are left on this disk; log and snapshots may need {} MiB more, and a full disk \
                 stops this node",
                mib(free),
                mib(needed)
            ),
            Some(false) => tracing::info!("{place}: {} MiB are left on this disk, enough again", mib(free)),
            None => {}
        }
    }

    /// `Some(low)` where that has changed.
    fn turned(&mut self, free: u64, needed: u64) -> Option<bool> {
        let low = if self.low { free < needed + needed / 4 } else { free < needed };
        (low != std::mem::replace(&mut self.low, low)).then_some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once() {
        let mut level = Level::default();
        let said: Vec<_> = [200, 100, 99, 50, 110, 124, 125, 100, 99].map(|free| level.turned(free, 100)).into();
        assert_eq!(said, [None, None, Some(true), None, None, None, Some(false), None, Some(true)]);
        assert_eq!(needed(1 << 20), (256 + 256 + 1) << 20);
    }
}
