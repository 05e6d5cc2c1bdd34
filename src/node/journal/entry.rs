//! When one entry came how far, for people.

use std::time::{Duration, SystemTime};

use super::timeline::EntryTimes;
use crate::node::Node;

/// When an entry came how far, in microseconds after it was handed to the log of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryView {
    /// Its term, if the log still has it.
    pub term: Option<u64>,
    /// The leader that this node knows.
    pub leader: Option<String>,
    /// The member that passed it on to this node, which led.
    pub from: Option<String>,
    /// When it was handed to the log.
    pub proposed: SystemTime,
    /// When it was on the disk.
    pub flushed_us: Option<u64>,
    /// When it was known to be committed.
    pub committed_us: Option<u64>,
    /// When it was applied.
    pub applied_us: Option<u64>,
    /// At the leader, for each member: when it was sent there, and when that had acknowledged it.
    pub members: Vec<(String, Option<u64>, Option<u64>)>,
}

/// So many of the newest entries have their terms told.
const NEWEST: u64 = 64;

impl Node {
    /// The terms of the newest committed entries in the log of this node, as `(first index, term)`: an entry is of the term
    /// that begins last at or before it.
    pub fn newest_terms(&self) -> Vec<(u64, u64)> {
        let Some(last) = self.last_committed().map(|id| id.index) else { return Vec::new() };
        let first = last.saturating_sub(NEWEST - 1);
        let mut terms: Vec<(u64, u64)> = Vec::new();
        for id in (first..=last).filter_map(|index| self.inner.log.log_id_at(index)) {
            let term = id.leader_id.term;
            if terms.last().is_none_or(|(_, of)| *of != term) {
                terms.push((id.index, term));
            }
        }
        terms
    }

    /// When an entry came how far; `None` where it is too old, or yet to come.
    pub fn entry(&self, index: u64) -> Option<EntryView> {
        let journal = &self.inner.journal;
        let EntryTimes { appended, flushed, committed, applied, peers, from } = journal.timeline.entry(index)?;
        let after = |at: Option<u64>| at.map(|at| at.saturating_sub(appended));
        let ago: Duration = journal.timeline.since(appended);
        Some(EntryView {
            term: self.inner.log.log_id_at(index).map(|id| id.leader_id.term),
            leader: journal.leader(),
            from: from.map(|id| journal.name(id)),
            proposed: SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            flushed_us: after(flushed),
            committed_us: after(committed),
            applied_us: after(applied),
            members: peers.into_iter().map(|(id, sent, acked)| (journal.name(id), after(sent), after(acked))).collect(),
        })
    }
}
