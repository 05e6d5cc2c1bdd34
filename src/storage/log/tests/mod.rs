//! Tests of the log as a whole, on a disk that can be stopped at any operation and then crashed.
//!
//! A [`Script`] performs steps and keeps every state the log went through, entry by entry; what a
//! reopened log holds must be one of those, and none from before the last acknowledged step.

mod crash;
mod damage;
mod failure;
mod format;
#[path = "../../../../tests/fuzz/log.rs"]
mod fuzz;
mod store;
mod upgrade;

use std::io;
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::sync::oneshot;

use super::{AtOnce, LogOptions, LogStore};
use crate::command::Command;
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::{LogEntry, LogId, Vote};
use crate::storage::StorageError;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::test_disk::{Change, HookedDisk, countdown};

pub fn id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id::<TypeConfig>(term, 0, index)
}

pub fn vote(term: u64) -> Vote {
    Vote::new(term, 1)
}

/// An entry with a value of `bytes` bytes.
pub fn entry(term: u64, index: u64, bytes: usize) -> LogEntry {
    let command = Command::Set(vec![(format!("k{index}").into(), vec![b'v'; bytes].into())]);
    openraft::Entry { log_id: id(term, index), payload: openraft::EntryPayload::Normal(command.into()) }
}

/// Segments of a few hundred bytes, next to no cache, nothing in the background.
pub fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 700,
        cache_bytes: 300,
        prezero: false,
        owner: Some(1),
        // Their scripts commit and truncate at random.
        keeps_committed: false,
        ..LogOptions::default()
    }
}

pub fn open(disk: &MemDisk) -> Result<LogStore, StorageError> {
    LogStore::open(Arc::new(disk.clone()), small())
}

/// A callback, and what it will be called with.
pub fn callback() -> (IOFlushed<TypeConfig>, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = TypeConfig::oneshot();
    (IOFlushed::signal(sender), receiver)
}

/// Appends and waits until it is flushed.
pub async fn append(store: &LogStore, entries: Vec<LogEntry>) -> io::Result<()> {
    let (callback, receiver) = callback();
    store.clone().append(entries, callback).await?;
    receiver.await.expect("a callback is always called")
}

/// All that a log holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub entries: Vec<LogEntry>,
}

pub async fn state(store: &LogStore) -> State {
    let mut store = store.clone();
    let mut reader = store.get_log_reader().await;
    let ends = store.get_log_state().await.unwrap();
    State {
        vote: reader.read_vote().await.unwrap(),
        committed: store.read_committed().await.unwrap(),
        purged: ends.last_purged_log_id,
        last: ends.last_log_id,
        entries: reader.try_get_log_entries(..).await.unwrap(),
    }
}

#[derive(Debug, Clone)]
pub enum Step {
    Vote(Vote),
    Committed(LogId),
    Append(Vec<LogEntry>),
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// Steps performed, and the states they went through.
pub struct Script {
    rng: SmallRng,
    pub states: Vec<State>,
    /// The position in `states` that was acknowledged last, and the one before.
    pub acknowledged: usize,
    pub before: usize,
    term: u64,
}

impl Script {
    pub fn new(rng: SmallRng, from: State) -> Self {
        Self {
            rng,
            term: from.vote.map_or(1, |vote| vote.leader_id.term),
            states: vec![from],
            acknowledged: 0,
            before: 0,
        }
    }

    pub fn now(&self) -> &State {
        self.states.last().expect("never empty")
    }

    /// A step that openraft could take.
    pub fn choose(&mut self) -> Step {
        let now = self.states.last().expect("never empty").clone();
        let first = now.purged.map_or(0, |id| id.index + 1);
        let next = now.last.map_or(0, |id| id.index + 1);
        match self.rng.random_range(0..20) {
            0 | 1 => {
                self.term += 1;
                Step::Vote(vote(self.term))
            }
            2 | 3 if next > 0 => Step::Committed(now.last.expect("there is a last")),
            4 if next > first => {
                let keep = self.rng.random_range(first..next);
                Step::Truncate(if keep == 0 { None } else { now.id_at(keep - 1) })
            }
            5 | 6 if next > first => Step::Purge(now.id_at(self.rng.random_range(first..next)).expect("in range")),
            // As after a snapshot was installed: beyond the end.
            7 if self.rng.random_range(0..4) == 0 => Step::Purge(id(self.term, next + self.rng.random_range(0..9))),
            _ => {
                let count = self.rng.random_range(1..5);
                let sizes: Vec<usize> = (0..count).map(|_| self.rng.random_range(0..60)).collect();
                Step::Append((next..).zip(sizes).map(|(index, size)| entry(self.term, index, size)).collect())
            }
        }
    }

    fn expect(&mut self, step: &Step) {
        let mut now = self.now().clone();
        match step {
            Step::Vote(vote) => now.vote = Some(*vote),
            Step::Committed(committed) => now.committed = Some(*committed),
            Step::Append(entries) => {
                for entry in entries {
                    now.last = Some(entry.log_id);
                    now.entries.push(entry.clone());
                    self.states.push(now.clone());
                }
                return;
            }
            Step::Truncate(after) => {
                now.entries.retain(|entry| after.is_some_and(|after| entry.log_id.index <= after.index));
                now.last = *after;
            }
            Step::Purge(upto) => {
                now.entries.retain(|entry| entry.log_id.index > upto.index);
                now.purged = Some(*upto);
                now.last = now.last.max(Some(*upto));
            }
        }
        self.states.push(now);
    }

    pub async fn perform(&mut self, store: &LogStore, step: Step) -> io::Result<()> {
        self.expect(&step);
        let mut store = store.clone();
        match step {
            Step::Vote(vote) => store.save_vote(&vote).await?,
            Step::Append(entries) => append(&store, entries).await?,
            Step::Truncate(after) => store.truncate_after(after).await?,
            // Neither waits for the disk.
            Step::Committed(committed) => return store.save_committed(Some(committed)).await,
            Step::Purge(upto) => return store.purge(upto).await,
        }
        (self.before, self.acknowledged) = (self.acknowledged, self.states.len() - 1);
        Ok(())
    }

    /// Performs random steps until one fails.
    pub async fn play(&mut self, store: &LogStore, steps: usize) {
        for _ in 0..steps {
            let step = self.choose();
            if self.perform(store, step).await.is_err() {
                return;
            }
        }
    }

    /// Checks that a reopened log holds all that was acknowledged, and nothing invented.
    pub fn allows(&self, found: &State) -> bool {
        self.states[self.acknowledged..].contains(found)
    }
}

impl State {
    fn id_at(&self, index: u64) -> Option<LogId> {
        let entry = self.entries.iter().find(|entry| entry.log_id.index == index);
        entry.map(|entry| entry.log_id).or(self.purged.filter(|id| id.index == index))
    }
}
