//! Committed entries never change: all nodes apply the same ones, each once and in order.

use std::collections::BTreeMap;

use super::{Applied, Checked};
use crate::kv::Event;
use crate::raft_types::alias::{LogEntry, LogId};

#[derive(Debug, Default)]
pub struct Committed {
    /// By index, with the events that applying it made.
    entries: BTreeMap<u64, (LogEntry, Vec<Event>)>,
    /// The last index in each state.
    last: BTreeMap<u64, u64>,
}

impl Committed {
    /// Notes that a node applied an entry; true where it is the first to do so.
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked<bool> {
        let index = applied.index();
        let last = self.last.insert(applied.state, index).unwrap_or(0);
        // The entry that formed the cluster has index 0.
        if index != last + 1 && (index, last) != (0, 0) {
            return Err(format!("committed: node {} applied {index} after {last}", applied.by));
        }
        let Some((entry, events)) = self.entries.get(&index) else {
            let newest = self.entries.last_key_value().map(|(_, (entry, _))| entry.log_id);
            if newest.is_some_and(|newest| newest.leader_id > applied.entry.log_id.leader_id) {
                return Err(format!("committed: {} was committed after {newest:?}", applied.entry.log_id));
            }
            self.entries.insert(index, (applied.entry.clone(), applied.events.to_vec()));
            return Ok(true);
        };
        if entry != applied.entry {
            return Err(format!(
                "committed entries never change: node {} applied {:?} where {entry:?} was committed",
                applied.by, applied.entry
            ));
        }
        if events != applied.events {
            return Err(format!(
                "watches: applying {index} told {:?} on node {}, and {events:?} before",
                applied.events, applied.by
            ));
        }
        Ok(false)
    }

    /// A node begins with the state of a snapshot, or is given one.
    pub fn loaded(&mut self, by: u16, state: u64, last_log_id: LogId) -> Checked {
        self.last.insert(state, last_log_id.index);
        match self.entries.get(&last_log_id.index) {
            Some((entry, _)) if entry.log_id == last_log_id => Ok(()),
            Some((entry, _)) => Err(format!(
                "committed: node {by} has a snapshot of {last_log_id} where {} was committed",
                entry.log_id
            )),
            None => Err(format!("committed: node {by} has a snapshot of {last_log_id}, which nobody applied")),
        }
    }

    pub fn entry(&self, index: u64) -> Option<&LogEntry> {
        self.entries.get(&index).map(|(entry, _)| entry)
    }

    /// Index of the newest.
    pub fn newest(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }
}
