//! Whether this log and others are of one history.

use crate::raft_types::alias::LogId;
use crate::storage::StorageError;
use crate::storage::file_header::damaged;

use super::record::index;
use super::store::LogStore;

impl LogStore {
    /// The first of a leader's log ids that contradicts this log, in which `committed` is final, and what is here in its
    /// place. Ids that this log no longer knows, or does not know yet, are judged by their terms.
    pub fn contradiction<'a>(
        &self,
        committed: Option<LogId>,
        theirs: impl IntoIterator<Item = &'a LogId>,
    ) -> Option<(LogId, LogId)> {
        let committed = committed?;
        self.inner.shared.peek(|memory| {
            theirs.into_iter().find_map(|id| {
                if id.index > committed.index {
                    return (id.leader_id < committed.leader_id).then_some((committed, *id));
                }
                let here =
                    [Some(committed), memory.head.purged].into_iter().flatten().find(|own| own.index == id.index);
                match here.or_else(|| memory.index.get(id.index).map(|slot| slot.id)) {
                    Some(own) => (own != *id).then_some((own, *id)),
                    None => (id.leader_id > committed.leader_id).then_some((committed, *id)),
                }
            })
        })
    }

    /// Checks that nothing is missing at the end of this log, beside a snapshot that covers up to `covered`, and that the two
    /// are of one history. Call it at every start: an older version, or a directory that was put together from copies, may
    /// have left such a log, and openraft does not notice each.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn check_end(&self, covered: Option<LogId>) -> Result<(), StorageError> {
        let (last, committed) = self.inner.shared.peek(|memory| (memory.head.last, memory.head.committed));
        let damaged = |what| Err(damaged(&self.reader.disk.display("log-*"), 0, what));
        if let Some(committed) = committed.filter(|id| Some(id.index) > index(&last).max(index(&covered))) {
            let end = last.map_or_else(|| "there is no entry".to_owned(), |last| format!("the last entry is {last}"));
            return damaged(format!("entry {committed} was committed, and {end}"));
        }
        match covered.and_then(|covered| Some((covered, self.log_id_at(covered.index)?))) {
            Some((covered, own)) if covered != own => {
                damaged(format!("entry {own} stands where the snapshot has {covered}"))
            }
            _ => Ok(()),
        }
    }

    /// The log id at an index, where this log has it or was purged up to it.
    pub fn log_id_at(&self, index: u64) -> Option<LogId> {
        self.inner.shared.peek(|memory| {
            let purged = memory.head.purged.filter(|id| id.index == index);
            purged.or_else(|| memory.index.get(index).map(|slot| slot.id))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};

    use crate::storage::StorageError;
    use crate::storage::disk::MemDisk;
    use crate::storage::log::tests::{entry, id};
    use crate::storage::log::{AtOnce, LogOptions, LogStore};

    /// Entries 3 to 12 of term 2, up to 6 purged.
    async fn log() -> LogStore {
        let options = LogOptions { prezero: false, scheduler: Some(Arc::new(AtOnce)), ..LogOptions::default() };
        let mut log = LogStore::open(Arc::new(MemDisk::new()), options).unwrap();
        log.blocking_append((3..=12).map(|index| entry(2, index, 0)).collect::<Vec<_>>()).await.unwrap();
        log.purge(id(2, 6)).await.unwrap();
        log
    }

    #[tokio::test]
    async fn only_what_is_committed_can_be_contradicted() {
        let log = log().await;
        assert_eq!(log.contradiction(None, &[id(9, 4)]), None, "nothing is committed");
        let committed = Some(id(2, 10));
        for theirs in [id(1, 2), id(2, 2), id(2, 6), id(2, 9), id(2, 10), id(2, 11), id(3, 11), id(3, 99)] {
            assert_eq!(log.contradiction(committed, &[theirs]), None, "{theirs}");
        }
        for (theirs, ours) in [
            (id(3, 2), id(2, 10)),
            (id(1, 6), id(2, 6)),
            (id(3, 9), id(2, 9)),
            (id(1, 9), id(2, 9)),
            (id(3, 10), id(2, 10)),
            (id(1, 11), id(2, 10)),
        ] {
            let found = log.contradiction(committed, &[id(2, 7), theirs, id(9, 1)]);
            assert_eq!(found, Some((ours, theirs)), "{theirs}");
        }
    }

    #[tokio::test]
    async fn an_end_that_was_cut_off_is_noticed_at_the_start() {
        let mut log = log().await;
        for (committed, covered, fits) in [
            (None, None, true),
            (Some(id(2, 12)), None, true),
            (Some(id(2, 25)), None, false),
            (Some(id(2, 25)), Some(id(2, 20)), false),
            (Some(id(2, 25)), Some(id(2, 25)), true),
            (Some(id(2, 12)), Some(id(2, 9)), true),
            (Some(id(2, 12)), Some(id(1, 9)), false),
            (Some(id(2, 12)), Some(id(3, 40)), true),
        ] {
            log.save_committed(committed).await.unwrap();
            let found = log.check_end(covered);
            assert_eq!(found.is_ok(), fits, "{committed:?} {covered:?}");
            assert!(found.is_ok() || matches!(found, Err(StorageError::Damaged { .. })));
        }
    }
}
