//! The state that clients read and write.
//!
//! * It is pure: every replica that applies the same commands holds the same state, byte for byte
//!   ([`KvStore::digest`]). It knows no Raft, no file, no clock and no randomness.
//! * Time is *log time*: the stamps that leaders put on commands. It never goes back.
//! * [`KvStore::clone`] is O(1) and shares everything. A clone is a snapshot of the state: neither sees later
//!   changes of the other.
//!
//! Parts: `apply` is the way of a command, `auth` says who may propose it. `keys` and `pages` hold keys and records, `lock` locks and their queues,
//! `lease` leases, `idempotency` the outcomes kept for repeated requests. `leased` writes under leases, and ends them. `txn` runs
//! transactions: `same_json`, `compare` and `number` compare values, `plan` checks operations before they run, `cost` tells what a command costs before it is applied, `quota` refuses what does not fit. `event` tells
//! watchers of changes.
//!
//! Caveats:
//! * While a clone lives, a change copies the nodes on its path (some 8 µs instead of 1.4 µs for the
//!   first change of a node): keep clones no longer than they are needed.
//! * Values are copied when they are applied: a slice would keep the whole request it came with.

mod apply;
mod auth;
mod compare;
mod cost;
mod event;
mod gone;
mod idempotency;
mod keys;
mod lease;
mod leased;
mod lock;
mod number;
mod pages;
mod plan;
mod quota;
mod same_json;
mod sizes;
#[cfg(test)]
mod tests;
mod txn;

use std::ops::Bound;

use bytes::Bytes;
use compact_str::CompactString;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::command::{Action, Condition, Failure, Key, Leased, LockView, Principal, Reply, Value};
use crate::formats::{Format, OLDEST};
use crate::record::{Marks, Rare, Record};
use auth::Owners;
use event::Events;
use number::{add, integer};

pub use auth::{Auth, AuthRecord, MAX_TOKENS, Token};
pub use cost::{weight, weight_is_all};
pub use event::{Change, Event};
pub use gone::Gone;
use idempotency::LIMITS;
pub use idempotency::{Kept, RetryRoom, RetryUse};
pub use lease::Lease;
pub use leased::HeldLock;
use leased::Life;
use lock::{Hold, Moment};
pub use lock::{Lock, Ticket};
pub(crate) use same_json::MAX_DEPTH as MAX_JSON_DEPTH;
#[cfg(test)]
pub(crate) use same_json::same_json;
pub use sizes::Sizes;
pub use txn::MAX_READ_BYTES;

/// Keys in the order of their bytes, locks, leases, kept outcomes, and log time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvStore {
    log_time_ms: u64,
    keys: keys::Keys,
    locks: lock::Locks,
    leases: lease::Leases,
    retries: idempotency::Retries,
    digests: compare::Digests,
    format: Format,
    auth: Auth,
    /// Who made each lease.
    lease_owners: Owners,
    /// The most bytes of keys and values; 0: any number.
    quota: u64,
}

impl KvStore {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer to a repeated request: what was not kept of it is as it is now.
    fn replay(&self, action: &Action, mut reply: Reply) -> Reply {
        if let Reply::Replayed { reply, .. } = &mut reply
            && let Reply::Failed(failure) = &mut **reply
            && let Failure::Precondition { current } = &mut **failure
        {
            *current = condition_key(action).and_then(|key| self.keys.get(key)).cloned();
        }
        let reply = self.leases.replay(self.log_time_ms, reply);
        self.locks.replay(&self.leases, self.log_time_ms, action, reply)
    }

    fn act(&mut self, index: u64, by: Option<&Principal>, action: &Action, events: &mut Events<'_>) -> Reply {
        let now_ms = self.log_time_ms;
        let moment = Moment { index, now_ms, by, auth: &self.auth };
        let name_of = || by.map_or(crate::command::ROOT, Principal::name);
        match action {
            Action::Set { pairs, ttl_ms, conditions } => {
                if let Some(refused) = pairs.first().and_then(|(key, _)| self.refused(key, conditions)) {
                    return refused;
                }
                self.set(index, pairs, self.life(*ttl_ms), events);
                Reply::Done
            }
            Action::Put { key, value, ttl_ms, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| self.put(index, key, value, self.life(*ttl_ms), events))
            }
            Action::Delete { key, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| Reply::Deleted(self.delete(key, events)))
            }
            Action::DeletePrefix { prefix } => Reply::Deleted(self.delete_prefix(prefix, events)),
            Action::Incr { key, by, ttl_ms, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| self.incr(index, key, *by, self.life(*ttl_ms), events))
            }
            Action::Touch { key, ttl_ms, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| self.touch(key, *ttl_ms))
            }
            Action::Txn(txn) => self.txn(index, txn, events),
            Action::Acquire { name, ttl_ms, body, wait_ms } => {
                let hold = Hold::Ttl(*ttl_ms);
                self.locks.acquire(&self.leases, moment, name, (hold, *wait_ms), body.as_ref(), events)
            }
            Action::Renew { name, token, ttl_ms } => self.locks.renew(&self.leases, now_ms, name, *token, *ttl_ms),
            Action::Release { name, token } => self.locks.release(moment, name, *token, events),
            Action::Cancel { name, ticket } => {
                self.locks.cancel(moment, name, *ticket, events);
                Reply::Done
            }
            Action::Tick { most } => self.tick(index, *most as usize, events),
            Action::Mark => Reply::Done,
            Action::Raise { to } => {
                self.format = self.format.max(*to);
                Reply::Done
            }
            Action::Grant { ttl_ms, body } => {
                self.lease_owners.add(index, by);
                self.leases.grant(index, now_ms, *ttl_ms, body.as_ref())
            }
            Action::KeepAlive { lease, ttl_ms } => self.leases.keep_alive(*lease, now_ms, *ttl_ms),
            Action::Revoke { lease } => self.revoke(index, *lease, events),
            Action::Leased { lease, write } => self.leased((index, by), *lease, write, events),
            Action::Authentication { on, anonymous, first } => {
                self.auth.set(index, name_of(), *on, anonymous.as_ref(), *first)
            }
            Action::PutToken { name, id, hash, grants, ttl_ms, certificate } => {
                let life = (*ttl_ms, certificate.as_ref());
                self.auth.put((index, now_ms), name_of(), name, (*id, hash), grants, life)
            }
            Action::RotateToken { name, id, hash, grace_ms } => {
                self.auth.rotate((index, now_ms), name, (*id, hash), *grace_ms)
            }
            Action::DeleteToken { name } => self.auth.delete(index, name_of(), name),
            Action::Quota { bytes } => {
                self.quota = *bytes;
                Reply::Done
            }
        }
    }

    /// The reply to a write whose conditions do not hold; `None` if they do.
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

    fn set(&mut self, index: u64, pairs: &[(Key, Bytes)], life: Life, events: &mut Events<'_>) {
        let Life { deadline_ms, lease } = life;
        let rare = Rare { deadline_ms, lease, ..Rare::default() };
        for (key, value) in pairs {
            self.store(key, |old| Record::new(Marks::next(old, index), &rare, value), events);
        }
    }

    fn put(&mut self, index: u64, key: &Key, value: &Value, life: Life, events: &mut Events<'_>) -> Reply {
        let (Value { data, is_bytes, content_type }, Life { deadline_ms, lease }) = (value, life);
        let rare = Rare { is_bytes: *is_bytes, content_type: content_type.clone(), deadline_ms, lease };
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

    fn incr(&mut self, index: u64, key: &Key, by: i64, life: Life, events: &mut Events<'_>) -> Reply {
        let old = self.keys.get(key).map_or(Ok(0), |old| integer(old.is_bytes(), old.value()));
        match old.and_then(|old| add(old, by)) {
            Ok(sum) => {
                self.store_integer(index, key, sum, life, events);
                Reply::Number(sum)
            }
            Err(why) => Reply::failed(Failure::NotANumber { place: None, key: key.clone(), why }),
        }
    }

    fn store_integer(&mut self, index: u64, key: &Key, number: i64, life: Life, events: &mut Events<'_>) {
        // It was no plain overwrite: what is known of the key stays.
        let mut rare = self.keys.get(key).map(Record::rare).unwrap_or_default();
        if !life.is_endless() {
            (rare.deadline_ms, rare.lease) = (life.deadline_ms, life.lease);
        }
        self.store(key, |old| Record::new(Marks::next(old, index), &rare, number.to_string().as_bytes()), events);
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
            events.push(Change::Expired { key: key.clone(), lease: None });
        }
        let mut left = self.expire_leases(index, most.saturating_sub(due.len()), events);
        let moment = Moment { index, now_ms, by: None, auth: &self.auth };
        left -= self.locks.expire(moment, left, events);
        left -= self.retries.expire(now_ms, left);
        self.auth.expire(now_ms, left);
        Reply::Ticked { more: self.next_deadline().is_some_and(|deadline| deadline <= now_ms) }
    }

    /// The record of a key.
    pub fn get(&self, key: &str) -> Option<&Record> {
        self.keys.get(key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there are no keys.
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

    /// The keys that begin with `prefix`, in the order of their bytes. `from` must not be before `prefix`.
    pub fn range_from<'a>(
        &'a self,
        prefix: &'a str,
        from: Bound<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Record)> {
        self.keys.with_prefix_from(prefix, from)
    }

    /// How many keys begin with `prefix`. It looks at one in sixteen keys.
    pub fn count(&self, prefix: &str) -> usize {
        self.keys.count_with_prefix(prefix)
    }

    /// About how many keys begin with `prefix`, and hardly less; at little cost.
    pub fn about_count(&self, prefix: &str) -> usize {
        self.keys.about_with_prefix(prefix)
    }

    /// The first lock whose name begins with `prefix` and is not before `from`, which is not before `prefix`.
    pub fn next_lock(&self, prefix: &str, from: Bound<&str>) -> Option<(&Key, LockView)> {
        self.locks.next(&self.leases, prefix, from)
    }

    /// A lock, if somebody holds it.
    pub fn lock(&self, name: &str) -> Option<LockView> {
        self.locks.view(&self.leases, name)
    }

    /// The state of the request for a lock that the entry at index `ticket` made.
    pub fn ticket(&self, name: &str, ticket: u64) -> Ticket {
        self.locks.ticket(&self.leases, name, ticket)
    }

    /// All locks that are held, by name.
    pub fn locks(&self) -> impl Iterator<Item = (&Key, Lock)> {
        self.locks.iter()
    }

    /// All outcomes kept for repeated requests, by their `Idempotency-Key`.
    pub fn kept(&self) -> impl Iterator<Item = (&CompactString, &Kept)> {
        self.retries.iter()
    }

    /// The room for one more kept outcome, that of this `Idempotency-Key`.
    pub fn retry_room(&self, key: &str) -> RetryRoom {
        self.retries.room(LIMITS, key)
    }

    /// How much of it is gone since it was made, in all its clones.
    pub fn gone(&self) -> Gone {
        self.keys.gone.clone()
    }

    /// The newest stamp that was applied, in milliseconds; it begins with 0 and never goes back.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// When the next key, lease, lock, place in a queue or kept outcome is due, in milliseconds of log time.
    pub fn next_deadline(&self) -> Option<u64> {
        let (keys, locks) = (self.keys.next_deadline(), self.locks.next_deadline());
        let deadlines =
            [keys, self.leases.next_deadline(), locks, self.retries.next_deadline(), self.auth.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// The format of the cluster.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A hash of the whole state. Replicas that applied the same entries have the same.
    pub fn digest(&self) -> u64 {
        self.digest_with(self.len() as u64, self.keys.digest())
    }

    /// The digest of this state, had it so many keys, whose [digests](Record::digest) have this sum: for who reads them
    /// and does not keep them.
    pub fn digest_with(&self, keys: u64, sum: u64) -> u64 {
        let parts = [self.log_time_ms, keys, sum, self.locks.digest(), self.retries.digest()];
        // Without leases it is that of hraftd 0.1.0, which knows nothing of formats either.
        let leases = [self.leases.digest(), self.locks.digest_of_leases()];
        let leases = if self.leases.is_empty() { &[][..] } else { &leases };
        // The same goes for authentication.
        let auth = [self.auth.digest(), self.locks.owners().digest(), self.lease_owners.digest()];
        let has_auth = !self.auth.is_empty() || !self.locks.owners().is_empty() || !self.lease_owners.is_empty();
        let auth = if has_auth { &auth[..] } else { &[] };
        let quota = [self.quota];
        let quota = if self.quota == 0 { &[][..] } else { &quota };
        let hash = parts
            .iter()
            .chain(leases)
            .chain(auth)
            .chain(quota)
            .fold(0, |hash, part| xxh3_64_with_seed(&part.to_le_bytes(), hash));
        if self.format == OLDEST { hash } else { xxh3_64_with_seed(&self.format.0.to_le_bytes(), hash) }
    }

    /// Puts one key back as a snapshot has it.
    pub fn restore(&mut self, key: Key, record: Record) {
        self.keys.put(&key, |_| record);
    }

    /// Puts one lock back as a snapshot has it.
    pub fn restore_lock(&mut self, name: Key, lock: Lock) {
        self.locks.restore(name, lock);
    }

    /// Puts one kept outcome back as a snapshot has it.
    pub fn restore_kept(&mut self, key: CompactString, kept: Kept) {
        self.retries.restore(key, kept);
    }

    /// Sets the format that a snapshot has.
    pub fn restore_format(&mut self, format: Format) {
        self.format = format;
    }

    /// Sets the log time that a snapshot has.
    pub fn restore_log_time(&mut self, log_time_ms: u64) {
        self.log_time_ms = log_time_ms;
    }
}

/// The key that the conditions of an action are about.
fn condition_key(action: &Action) -> Option<&Key> {
    match action {
        Action::Set { pairs, .. } | Action::Leased { write: Leased::Set { pairs, .. }, .. } => {
            pairs.first().map(|(key, _)| key)
        }
        Action::Put { key, .. }
        | Action::Delete { key, .. }
        | Action::Incr { key, .. }
        | Action::Touch { key, .. }
        | Action::Leased { write: Leased::Put { key, .. } | Leased::Incr { key, .. }, .. } => Some(key),
        _ => None,
    }
}
