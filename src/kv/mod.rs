//! The state that clients read and write: pure, so that every replica that applies the same commands
//! holds the same state, byte for byte ([`KvStore::digest`]).
//!
//! It knows no Raft, no file, no clock and no randomness. Time is *log time*: what the leader stamped on the commands;
//! it never goes back. [`KvStore::clone`] is O(1) and shares everything, so a clone is a snapshot of the state: later
//! changes of either are not seen by the other.
//!
//! * `keys`, `pages`: keys and records. `lock`: locks and their queues. `retry`: outcomes kept for repeated requests.
//! * `txn`, `same_json`: transactions. `event`: what is told to those who watch.
//!
//! Caveats:
//! * While a clone lives, a change copies the nodes on its path (some 8 µs instead of 1.4 µs for the
//!   first change of a node): keep clones no longer than they are needed.
//! * Values are copied when they are applied: a slice would keep the whole request it came with.

mod event;
mod idempotency;
mod keys;
mod lock;
mod page_index;
mod pages;
mod same_json;
#[cfg(test)]
mod tests;
mod txn;

use std::ops::Bound;

use bytes::Bytes;
use compact_str::CompactString;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::command::{
    Action, Command, Condition, Failure, Key, LockView, NotANumber, Op, Place, Reply, Stamped, Value,
};
use crate::record::{Marks, Rare, Record};
use event::Events;

pub use event::{Change, Event};
pub use idempotency::Kept;
use idempotency::{LIMITS, Limits};
pub use lock::{Lock, Ticket};
pub(crate) use same_json::MAX_DEPTH as MAX_JSON_DEPTH;
#[cfg(test)]
pub(crate) use same_json::same_json;
pub use txn::MAX_READ_BYTES;

/// A value of so many bytes costs as much to apply as one more key.
const BYTES_A_KEY: usize = 4 * 1024;

/// Keys in the order of their bytes, locks, kept outcomes, and log time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvStore {
    log_time_ms: u64,
    keys: keys::Keys,
    locks: lock::Locks,
    retries: idempotency::Retries,
}

/// Why an integer could not be added to.
struct Failed {
    key: Key,
    why: NotANumber,
}

impl Failed {
    fn failure(self, place: Option<Place>) -> Failure {
        Failure::NotANumber { place, key: self.key, why: self.why }
    }
}

impl KvStore {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one command, all of it, and answers what it did. The same commands at the same indexes in the same
    /// order give the same state, replies and events everywhere.
    pub fn apply(&mut self, index: u64, command: &Command, events: &mut Vec<Event>) -> Reply {
        self.apply_within(LIMITS, index, command, events)
    }

    fn apply_within(&mut self, limits: Limits, index: u64, command: &Command, events: &mut Vec<Event>) -> Reply {
        let mut events = Events::new(index, events);
        match command {
            Command::Set(pairs) => {
                for (key, value) in pairs {
                    self.store(key, |_| Record::new(Marks::UNKNOWN, &Rare::default(), value), &mut events);
                }
                Reply::Done
            }
            Command::Delete(key) => Reply::Deleted(self.delete(key, &mut events)),
            Command::Stamped(Stamped { stamp_ms, retry, action }) => {
                self.log_time_ms = self.log_time_ms.max(*stamp_ms);
                let Some(retry) = retry else { return self.act(index, action, &mut events) };
                if let Some(reply) = self.retries.check(limits, self.log_time_ms, retry) {
                    return self.locks.replay(self.log_time_ms, action, reply);
                }
                let reply = self.act(index, action, &mut events);
                self.retries.keep(index, self.log_time_ms, retry, &reply);
                reply
            }
        }
    }

    fn act(&mut self, index: u64, action: &Action, events: &mut Events<'_>) -> Reply {
        let now_ms = self.log_time_ms;
        match action {
            Action::Set { pairs, ttl_ms, conditions } => {
                if let Some(refused) = pairs.first().and_then(|(key, _)| self.refused(key, conditions)) {
                    return refused;
                }
                self.set(index, pairs, *ttl_ms, events);
                Reply::Done
            }
            Action::Put { key, value, ttl_ms, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| self.put(index, key, value, *ttl_ms, events))
            }
            Action::Delete { key, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| Reply::Deleted(self.delete(key, events)))
            }
            Action::DeletePrefix { prefix } => Reply::Deleted(self.delete_prefix(prefix, events)),
            Action::Incr { key, by, ttl_ms, conditions } => self.refused(key, conditions).unwrap_or_else(|| {
                self.incr(index, key, *by, *ttl_ms, events)
                    .map_or_else(|failed| Reply::failed(failed.failure(None)), Reply::Number)
            }),
            Action::Touch { key, ttl_ms, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| self.touch(key, *ttl_ms))
            }
            Action::Txn(txn) => self.txn(index, txn, events),
            Action::Acquire { name, ttl_ms, body, wait_ms } => {
                self.locks.acquire(index, now_ms, name, (*ttl_ms, *wait_ms), body.as_ref(), events)
            }
            Action::Renew { name, token, ttl_ms } => self.locks.renew(now_ms, name, *token, *ttl_ms),
            Action::Release { name, token } => self.locks.release(index, now_ms, name, *token, events),
            Action::Cancel { name, ticket } => {
                self.locks.cancel(index, now_ms, name, *ticket, events);
                Reply::Done
            }
            Action::Tick { most } => self.tick(index, *most as usize, events),
        }
    }

    /// The answer of a write whose conditions do not hold.
    fn refused(&self, key: &str, conditions: &[Condition]) -> Option<Reply> {
        if conditions.is_empty() {
            return None;
        }
        let current = self.keys.get(key);
        let index = current.map_or(0, Record::modify_index);
        let holds = |condition: &Condition| match condition {
            Condition::Exists => current.is_some(),
            Condition::Missing => current.is_none(),
            Condition::ModifiedBy(indexes) => current.is_some() && indexes.contains(&index),
            Condition::NotModifiedBy(indexes) => current.is_none() || !indexes.contains(&index),
        };
        let refused = !conditions.iter().all(holds);
        refused.then(|| Reply::failed(Failure::Precondition { current: current.cloned() }))
    }

    fn store(&mut self, key: &Key, make: impl FnOnce(Option<&Record>) -> Record, events: &mut Events<'_>) {
        let record = self.keys.put(key, make);
        events.push(Change::Set { key: key.clone(), record });
    }

    fn deadline(&self, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.map(|ttl_ms| self.log_time_ms.saturating_add(ttl_ms))
    }

    fn set(&mut self, index: u64, pairs: &[(Key, Bytes)], ttl_ms: Option<u64>, events: &mut Events<'_>) {
        let rare = Rare { deadline_ms: self.deadline(ttl_ms), ..Rare::default() };
        for (key, value) in pairs {
            self.store(key, |old| Record::new(Marks::next(old, index), &rare, value), events);
        }
    }

    fn put(&mut self, index: u64, key: &Key, value: &Value, ttl_ms: Option<u64>, events: &mut Events<'_>) -> Reply {
        let Value { data, is_bytes, content_type } = value;
        let rare = Rare { is_bytes: *is_bytes, content_type: content_type.clone(), deadline_ms: self.deadline(ttl_ms) };
        let mut created = false;
        let make = |old: Option<&Record>| {
            created = old.is_none();
            Record::new(Marks::next(old, index), &rare, data)
        };
        self.store(key, make, events);
        Reply::Put { created }
    }

    fn delete(&mut self, key: &str, events: &mut Events<'_>) -> u64 {
        let removed = self.keys.remove(key).is_some();
        if removed {
            events.push(Change::Deleted { key: key.into() });
        }
        u64::from(removed)
    }

    fn delete_prefix(&mut self, prefix: &str, events: &mut Events<'_>) -> u64 {
        let keys: Vec<Key> = self.keys.with_prefix(prefix, None).map(|(key, _)| key.clone()).collect();
        keys.iter().map(|key| self.delete(key, events)).sum()
    }

    fn incr(
        &mut self,
        index: u64,
        key: &Key,
        by: i64,
        ttl_ms: Option<u64>,
        events: &mut Events<'_>,
    ) -> Result<i64, Failed> {
        let old = self.keys.get(key);
        let sum = old.map_or(Ok(0), integer).and_then(|number| number.checked_add(by).ok_or(NotANumber::Overflow));
        let sum = match sum {
            Ok(sum) => sum,
            Err(why) => return Err(Failed { key: key.clone(), why }),
        };
        // It was no plain overwrite: what is known of the key stays.
        let mut rare = old.map(Record::rare).unwrap_or_default();
        rare.deadline_ms = self.deadline(ttl_ms).or(rare.deadline_ms);
        self.store(key, |old| Record::new(Marks::next(old, index), &rare, sum.to_string().as_bytes()), events);
        Ok(sum)
    }

    fn touch(&mut self, key: &Key, ttl_ms: u64) -> Reply {
        let Some(record) = self.keys.get(key) else { return Reply::failed(Failure::Missing) };
        let modify_index = record.modify_index();
        let touched = record.with_deadline(self.deadline(Some(ttl_ms)));
        self.keys.put(key, |_| touched);
        Reply::Touched { modify_index }
    }

    fn tick(&mut self, index: u64, most: usize, events: &mut Events<'_>) -> Reply {
        let now_ms = self.log_time_ms;
        let mut due = self.keys.due(now_ms, most);
        due.sort_unstable();
        for key in &due {
            self.keys.remove(key);
            events.push(Change::Expired { key: key.clone() });
        }
        let mut left = most.saturating_sub(due.len());
        left -= self.locks.expire(index, now_ms, left, events);
        self.retries.expire(now_ms, left);
        Reply::Ticked { more: self.next_deadline().is_some_and(|deadline| deadline <= now_ms) }
    }

    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<&Record> {
        self.keys.get(key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys and their records, in the order of the keys' bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Record)> {
        self.keys.iter()
    }

    /// The keys that begin with `prefix` and come after `after`, in the order of their bytes.
    pub fn range<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = (&'a Key, &'a Record)> {
        self.keys.with_prefix(prefix, after)
    }

    /// The keys that begin with `prefix`, from a bound on that is not before `prefix`, in the order of their bytes.
    pub fn range_from<'a>(
        &'a self,
        prefix: &'a str,
        from: Bound<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Record)> {
        self.keys.with_prefix_from(prefix, from)
    }

    /// Who holds a lock.
    pub fn lock(&self, name: &str) -> Option<LockView> {
        self.locks.view(name)
    }

    /// What became of who asked for a lock with the entry at index `ticket`.
    pub fn ticket(&self, name: &str, ticket: u64) -> Ticket {
        self.locks.ticket(name, ticket)
    }

    /// All locks that are held, by name.
    pub fn locks(&self) -> impl Iterator<Item = (&Key, Lock)> {
        self.locks.iter()
    }

    /// All outcomes kept for repeated requests, by their `Idempotency-Key`.
    pub fn kept(&self) -> impl Iterator<Item = (&CompactString, &Kept)> {
        self.retries.iter()
    }

    /// The newest stamp that was applied, in milliseconds; it begins with 0 and never goes back.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// When the next key, lock, place in a queue or kept outcome is due, in milliseconds of log time.
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = [self.keys.next_deadline(), self.locks.next_deadline(), self.retries.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// A hash of all of it: the same on replicas that applied the same entries.
    pub fn digest(&self) -> u64 {
        let parts =
            [self.log_time_ms, self.len() as u64, self.keys.digest(), self.locks.digest(), self.retries.digest()];
        parts.iter().fold(0, |hash, part| xxh3_64_with_seed(&part.to_le_bytes(), hash))
    }

    /// Puts one key as it is, for a state that is rebuilt from a snapshot.
    pub fn restore(&mut self, key: Key, record: Record) {
        self.keys.put(&key, |_| record);
    }

    /// Puts one lock as it is, for a state that is rebuilt from a snapshot.
    pub fn restore_lock(&mut self, name: Key, lock: Lock) {
        self.locks.restore(name, lock);
    }

    /// Puts one kept outcome as it is, for a state that is rebuilt from a snapshot.
    pub fn restore_kept(&mut self, key: CompactString, kept: Kept) {
        self.retries.restore(key, kept);
    }

    /// Sets the log time of a state that is rebuilt from a snapshot.
    pub fn restore_log_time(&mut self, log_time_ms: u64) {
        self.log_time_ms = log_time_ms;
    }
}

/// The integer that a record holds.
fn integer(record: &Record) -> Result<i64, NotANumber> {
    let parse = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    // A body may end in a newline.
    let value = record.value().trim_ascii();
    match value {
        _ if record.is_bytes() => Err(NotANumber::Other),
        [b'"', text @ .., b'"'] => Err(parse(text).map_or(NotANumber::Other, |_| NotANumber::TextOfNumber)),
        _ => parse(value).ok_or(NotANumber::Other),
    }
}

/// What applying a command costs, in keys that are changed or looked at.
pub fn weight(command: &Command) -> usize {
    let keys = match command {
        Command::Set(pairs) => pairs.len(),
        Command::Delete(_) => 1,
        Command::Stamped(stamped) => match &stamped.action {
            Action::Set { pairs, .. } => pairs.len(),
            // Nobody knows how many.
            Action::DeletePrefix { .. } => usize::MAX / 2,
            Action::Txn(txn) => txn.tests.len() + txn.then.iter().chain(&txn.otherwise).map(weight_of).sum::<usize>(),
            Action::Tick { most } => (*most).try_into().unwrap_or(usize::MAX / 2),
            _ => 1,
        },
    };
    keys.saturating_add(command.bytes() / BYTES_A_KEY)
}

fn weight_of(op: &Op) -> usize {
    match op {
        Op::Set { pairs, .. } => pairs.len(),
        Op::Incr { pairs, .. } => pairs.len(),
        Op::DeletePrefix(_) => usize::MAX >> 16,
        Op::Delete(_) | Op::Get(_) => 1,
    }
}
