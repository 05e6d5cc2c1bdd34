//! The newest entry that each follower has acknowledged to this leader, by term: a follower that later lacks it has lost it.
//!
//! openraft takes a conflict at or below what a follower acknowledged for a mistake of the network, and tries again without
//! end; in debug builds it panics (0.10.0-alpha.37, `Updater::update_conflicting`). Its own way out,
//! `allow_log_reversion`, sends everything anew, and lets a node vote that forgot its votes. So such a conflict never
//! reaches it.
//!
//! An answer proves a loss only if it answers what was sent after the acknowledgement had arrived: requests of several
//! streams overtake one another.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

use openraft::raft::{StreamAppendError, StreamAppendResult};
use tokio::time::Instant;

use crate::raft_types::alias::{LogId, Vote};
use crate::raft_types::{RaftId, TypeConfig};

/// A follower is told at most this often.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// What followers have acknowledged to this process.
#[derive(Debug, Default)]
pub(in crate::node) struct Acknowledged {
    newest: Mutex<BTreeMap<RaftId, (Vote, LogId)>>,
    told: Mutex<BTreeMap<RaftId, Instant>>,
}

/// A request that is about to be sent, and what had been acknowledged by then.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Asked {
    vote: Vote,
    acknowledged: Option<LogId>,
}

impl Asked {
    /// The entry that the follower has lost, if this answer proves it.
    pub(in crate::node) fn lost_by(&self, outcome: &StreamAppendResult<TypeConfig>) -> Option<(Vote, LogId)> {
        let Err(StreamAppendError::Conflict(lacks)) = outcome else { return None };
        self.acknowledged.filter(|acknowledged| lacks.index <= acknowledged.index).map(|lost| (self.vote, lost))
    }
}

impl Acknowledged {
    /// The leader of `vote` is about to send something to a follower.
    pub(in crate::node) fn asking(&self, follower: RaftId, vote: Vote) -> Asked {
        let newest = self.newest.lock();
        let of_this_term = newest.get(&follower).filter(|(acknowledged_to, _)| *acknowledged_to == vote);
        Asked { vote, acknowledged: of_this_term.map(|(_, id)| *id) }
    }

    /// The follower has this entry, and all before it, on its disk.
    pub(in crate::node) fn answered(&self, follower: RaftId, vote: Vote, entry: LogId) {
        let mut newest = self.newest.lock();
        let known = newest.entry(follower).or_insert((vote, entry));
        if known.0 != vote || known.1 < entry {
            *known = (vote, entry);
        }
    }

    /// Tells whether a follower has acknowledged this entry, or a later one, to the leader of `vote`.
    pub(in crate::node) fn has(&self, follower: RaftId, vote: Vote, entry: LogId) -> bool {
        self.newest.lock().get(&follower).is_some_and(|(to, newest)| *to == vote && *newest >= entry)
    }

    /// True where it is time to tell a follower what it lost.
    pub(in crate::node) fn is_to_be_told(&self, follower: RaftId) -> bool {
        let mut told = self.told.lock();
        if told.get(&follower).is_some_and(|at| at.elapsed() < TELL_INTERVAL) {
            return false;
        }
        told.insert(follower, Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        openraft::testing::log_id::<TypeConfig>(term, 1, index)
    }

    #[test]
    fn only_a_conflict_about_what_was_acknowledged_before_proves_a_loss() {
        let (acknowledged, vote) = (Acknowledged::default(), Vote::new_committed(3, 1));
        let conflict = |index| Err(StreamAppendError::Conflict(id(3, index)));
        let before = acknowledged.asking(2, vote);
        acknowledged.answered(2, vote, id(3, 7));
        acknowledged.answered(2, vote, id(3, 5));
        let after = acknowledged.asking(2, vote);
        assert_eq!(before.lost_by(&conflict(5)), None, "it was sent before");
        assert_eq!(after.lost_by(&conflict(7)), Some((vote, id(3, 7))));
        assert_eq!(after.lost_by(&conflict(1)), Some((vote, id(3, 7))));
        assert_eq!(after.lost_by(&conflict(8)), None, "it never said that it has it");
        assert_eq!(after.lost_by(&Ok(Some(id(3, 5)))), None);
        assert!(acknowledged.has(2, vote, id(3, 7)) && acknowledged.has(2, vote, id(3, 6)));
        assert!(!acknowledged.has(2, vote, id(3, 8)) && !acknowledged.has(4, vote, id(3, 1)));
        assert!(!acknowledged.has(2, Vote::new_committed(4, 1), id(3, 1)), "another term");
        assert_eq!(acknowledged.asking(4, vote).lost_by(&conflict(1)), None, "another follower");
        let later = Vote::new_committed(4, 1);
        assert_eq!(acknowledged.asking(2, later).lost_by(&conflict(1)), None, "another term");
        acknowledged.answered(2, later, id(3, 2));
        assert_eq!(acknowledged.asking(2, later).lost_by(&conflict(2)), Some((later, id(3, 2))));
        assert_eq!(acknowledged.asking(2, vote).lost_by(&conflict(2)), None);
    }
}
