//! The log of a stopped node, read without changing a byte of it.
//!
//! For tools. A damaged log is no error here: the view holds what came before the damage, and the
//! damage itself. Caveat: nothing locks the directory; the caller does.

use std::io;
use std::ops::Range;

use crate::raft_types::alias::{LogEntry, LogId, Vote};
use crate::storage::StorageError;
use crate::storage::disk::Disk;

use super::memory::Memory;
use super::recovery::{Scan, read_back};
use super::segment;

/// Bytes of entries read at a time.
const READ_BYTES: u64 = 1 << 20;
const CACHE_BYTES: usize = 8 << 20;

/// The end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// There is none.
    NoLog,
    /// The node was stopped cleanly.
    Clean,
    /// The node was not stopped cleanly, and no write was torn.
    Open,
    /// A write was torn; a start cuts it off.
    Torn {
        /// The file, as an operator would name it.
        file: String,
        /// Byte offset in it.
        offset: u64,
    },
}

/// The content of a log.
pub struct LogView {
    memory: Memory,
    owner: Option<u64>,
    /// The segment files in use, oldest first, and their bytes.
    pub segments: Vec<(String, u64)>,
    /// How it ends; meaningless if it is damaged.
    pub ending: Ending,
    /// Why a node would not start on it.
    pub damage: Option<StorageError>,
}

impl std::fmt::Debug for LogView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogView")
            .field("head", &self.memory.head)
            .field("segments", &self.segments)
            .field("ending", &self.ending)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

impl LogView {
    /// Reads the log. Blocks.
    ///
    /// `owner` is the Raft id of the node whose log it should be, if that is known: damage is then told more surely. The
    /// log of another node is read as well; see [`owner`](Self::owner).
    pub fn read(disk: &dyn Disk, owner: Option<u64>) -> Self {
        let mut scan = Scan::new(disk, CACHE_BYTES, owner);
        let damage = scan.read().err();
        let ending = match scan.kept.last() {
            None => Ending::NoLog,
            Some(last) if scan.is_torn() => {
                Ending::Torn { file: disk.display(&segment::name(last.id)), offset: scan.end }
            }
            Some(_) if scan.stopped => Ending::Clean,
            Some(_) => Ending::Open,
        };
        let segments = scan.kept.iter().map(|of| (segment::name(of.id), of.file.len().unwrap_or_default())).collect();
        Self { memory: scan.memory, owner: scan.owner, segments, ending, damage }
    }

    /// True if it never held anything: no vote, no entry, no purge point.
    pub fn is_empty(&self) -> bool {
        self.memory.head.vote.is_none() && self.last().is_none() && self.purged().is_none()
    }

    /// The Raft id of the node whose log it says it is.
    pub fn owner(&self) -> Option<u64> {
        self.owner
    }

    /// The last vote.
    pub fn vote(&self) -> Option<Vote> {
        self.memory.head.vote
    }

    /// The last committed log id that was saved; later ones may have been committed too.
    pub fn committed(&self) -> Option<LogId> {
        self.memory.head.committed
    }

    /// Entries up to this one are gone.
    pub fn purged(&self) -> Option<LogId> {
        self.memory.head.purged
    }

    /// The log id of the last entry; without entries, the purge point.
    pub fn last(&self) -> Option<LogId> {
        self.memory.head.last
    }

    /// The log id of an entry that is there.
    pub fn id(&self, index: u64) -> Option<LogId> {
        self.memory.index.get(index).map(|slot| slot.id)
    }

    /// The indexes of the entries.
    pub fn range(&self) -> Range<u64> {
        self.memory.index.first()..self.memory.index.end()
    }

    /// Bytes of the entries.
    pub fn bytes(&self) -> u64 {
        self.memory.index.bytes()
    }

    /// Hands out the entries from an index on, in their order, some at a time.
    ///
    /// # Errors
    /// An entry cannot be read (`InvalidData`, or an I/O error of the device), or `take` failed.
    pub fn for_each<E: From<io::Error>>(
        &self,
        from: u64,
        mut take: impl FnMut(LogEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let Range { start, end } = self.range();
        let mut next = start.max(from);
        while next < end {
            let fetched = self.memory.fetch(next, end, READ_BYTES);
            next += (fetched.cold.len() + fetched.hot.len()) as u64;
            for cold in fetched.cold {
                take(read_back(&cold)?)?;
            }
            for entry in fetched.hot {
                take(entry)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::storage::RaftLogStorage as _;

    use super::*;
    use crate::storage::disk::MemDisk;
    use crate::storage::log::tests::{append, entry, id, open, state, vote};

    fn files(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
        let names = disk.list().unwrap();
        names.into_iter().map(|name| (name.clone(), disk.bytes(&name).unwrap())).collect()
    }

    fn entries(view: &LogView) -> Vec<LogEntry> {
        let mut all = Vec::new();
        let take = |entry| {
            all.push(entry);
            Ok::<_, io::Error>(())
        };
        view.for_each(0, take).unwrap();
        all
    }

    async fn filled(disk: &MemDisk) -> super::super::LogStore {
        let mut store = open(disk).unwrap();
        store.save_vote(&vote(3)).await.unwrap();
        for index in 0..40 {
            append(&store, vec![entry(2, index, 50)]).await.unwrap();
        }
        store.truncate_after(Some(id(2, 30))).await.unwrap();
        store.save_committed(Some(id(2, 20))).await.unwrap();
        store.purge(id(2, 9)).await.unwrap();
        append(&store, vec![entry(3, 31, 50)]).await.unwrap();
        store
    }

    #[tokio::test]
    async fn it_shows_what_a_start_finds_and_changes_nothing() {
        let disk = MemDisk::new();
        let store = filled(&disk).await;
        let known = state(&store).await;
        for clean in [false, true] {
            if clean {
                store.close().unwrap();
            }
            let before = files(&disk);
            disk.fail_with(Some(io::ErrorKind::ReadOnlyFilesystem));
            let view = LogView::read(&disk, None);
            disk.fail_with(None);
            assert_eq!(files(&disk), before);
            assert!(view.damage.is_none() && view.segments.len() > 2, "{view:?}");
            assert_eq!((view.vote(), view.committed()), (known.vote, known.committed));
            assert_eq!((view.purged(), view.last()), (known.purged, known.last));
            assert_eq!((view.range(), entries(&view)), (10..32, known.entries.clone()));
            assert_eq!(view.ending, if clean { Ending::Clean } else { Ending::Open });
        }
        assert_eq!(LogView::read(&MemDisk::new(), None).ending, Ending::NoLog);
    }

    #[tokio::test]
    async fn a_torn_tail_is_named_and_damage_hides_nothing_before_it() {
        let disk = MemDisk::new();
        drop(filled(&disk).await);
        let view = LogView::read(&disk, None);
        let (last, _) = view.segments.last().unwrap().clone();
        let mut bytes = disk.bytes(&last).unwrap();
        let offset = bytes.len() as u64;
        bytes.extend_from_slice(b"torn");
        disk.put(&last, bytes);
        let torn = LogView::read(&disk, None);
        assert_eq!(torn.ending, Ending::Torn { file: disk.display(&last), offset });
        assert_eq!(entries(&torn), entries(&view));

        let (middle, _) = &view.segments[view.segments.len() - 2];
        disk.remove(middle).unwrap();
        let damaged = LogView::read(&disk, None);
        assert!(matches!(&damaged.damage, Some(StorageError::Damaged { file, .. }) if *file == disk.display(middle)));
        let (all, left) = (entries(&view), entries(&damaged));
        assert!(
            !left.is_empty()
                && left.iter().zip(0..).all(|(entry, nth)| entry.log_id.index == nth + left[0].log_id.index)
        );
        assert!(all.iter().any(|entry| left.contains(entry)));
    }
}
