//! The state as it would be written by who cares for nothing but being right: lists that are searched from end to end.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::outcomes;
use crate::command::*;
use crate::formats::Format;
use crate::kv::{Change, Limits, Ticket};
use crate::record::{Marks, Rare, Record, base64};

#[derive(Debug, Clone)]
pub(super) struct Entry {
    value: Vec<u8>,
    is_bytes: bool,
    content_type: Option<String>,
    created: u64,
    modified: u64,
    version: u64,
    deadline: Option<u64>,
}

impl Entry {
    pub(super) fn record(&self) -> Record {
        let marks = Marks { create_index: self.created, modify_index: self.modified, version: self.version };
        let content_type = self.content_type.as_deref().map(Into::into);
        Record::new(marks, &Rare { is_bytes: self.is_bytes, content_type, deadline_ms: self.deadline }, &self.value)
    }

    fn json(&self) -> serde_json::Value {
        match self.is_bytes {
            true => serde_json::json!({"base64": base64(&self.value)}),
            false => serde_json::from_slice(&self.value).unwrap(),
        }
    }
}

/// A holder of a lock, or a waiter.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    name: Key,
    pub(super) ticket: u64,
    /// Its fencing token, if it holds the lock.
    pub(super) token: Option<u64>,
    ttl: u64,
    deadline: u64,
    body: Option<Bytes>,
}

#[derive(Debug, Clone)]
struct Kept {
    key: String,
    digest: u128,
    index: u64,
    deadline: u64,
    bytes: u64,
    reply: Reply,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) now: u64,
    pub(super) keys: BTreeMap<Key, Entry>,
    /// In the order in which they came.
    pub(super) claims: Vec<Claim>,
    kept: Vec<Kept>,
    limits: Limits,
    changes: Vec<Change>,
    pub(super) format: Format,
}

type Ended<T> = Result<T, Failure>;

impl Model {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            now: 0,
            keys: BTreeMap::new(),
            claims: Vec::new(),
            kept: Vec::new(),
            limits,
            changes: Vec::new(),
            format: Format::default(),
        }
    }

    pub(super) fn apply(&mut self, index: u64, command: Command) -> (Reply, Vec<Change>) {
        let reply = self.reply(index, command);
        (reply, std::mem::take(&mut self.changes))
    }

    fn reply(&mut self, index: u64, command: Command) -> Reply {
        let Stamped { stamp_ms, retry, action } = match command {
            Command::Set(pairs) => {
                for (key, value) in pairs {
                    self.keys.remove(&key);
                    self.write(1, &key, &value, (false, None), None);
                }
                return Reply::Done;
            }
            Command::Delete(key) => return Reply::Deleted(self.delete(&key)),
            Command::Stamped(stamped) => stamped,
        };
        self.now = self.now.max(stamp_ms);
        let Some(retry) = retry else { return self.act(index, action) };
        self.forget(4);
        if let Some(kept) = self.kept.iter().find(|kept| kept.key == retry.key && kept.deadline > self.now) {
            return match kept.digest == retry.digest {
                true => self.replayed(&action, kept.index, &kept.reply),
                false => Reply::failed(Failure::RetryMismatch),
            };
        }
        let is_known = self.kept.iter().any(|kept| kept.key == retry.key);
        let bytes: u64 = self.kept.iter().map(|kept| kept.bytes).sum();
        if !is_known && (self.kept.len() >= self.limits.kept || bytes >= self.limits.kept_bytes) {
            return Reply::failed(Failure::RetriesFull);
        }
        let reply = self.act(index, action);
        let mut kept = reply.clone();
        outcomes::cut(&mut kept);
        self.kept.retain(|other| other.key != retry.key);
        let bytes = retry.key.len() as u64 + 16 + size(&kept);
        let (key, deadline) = (retry.key.to_string(), self.now + retry.window_ms);
        self.kept.push(Kept { key, digest: retry.digest, index, deadline, bytes, reply: kept });
        reply
    }

    /// What was granted is told again only to who has it, or waits for it.
    fn replayed(&self, action: &Action, index: u64, kept: &Reply) -> Reply {
        let again = |reply: Reply| Reply::Replayed { index, reply: Box::new(reply) };
        let claim = match (action, kept) {
            (Action::Acquire { name, .. }, Reply::Granted { .. } | Reply::Queued) => {
                self.claims.iter().find(|claim| claim.name == *name && claim.ticket == index)
            }
            (Action::Renew { name, token, .. }, Reply::Granted { .. }) => {
                self.claims.iter().find(|claim| claim.name == *name && claim.token == Some(*token))
            }
            _ => return again(self.as_now(action, kept.clone())),
        };
        match (claim, action) {
            (Some(Claim { token: None, .. }), _) => again(kept.clone()),
            (Some(Claim { token: Some(token), deadline, .. }), _) if *deadline > self.now => {
                again(Reply::Granted { token: *token, ttl_ms: deadline - self.now })
            }
            (None, Action::Acquire { name, .. }) => {
                Reply::failed(self.view(name).map_or(Failure::LockLost, Failure::Locked))
            }
            _ => Reply::failed(Failure::LockLost),
        }
    }

    /// Forgets outcomes that are due, the earliest first.
    fn forget(&mut self, most: usize) {
        for _ in 0..most {
            let due = self.kept.iter().filter(|kept| kept.deadline <= self.now);
            let Some(first) = due.min_by_key(|kept| (kept.deadline, kept.key.clone())) else { return };
            let key = first.key.clone();
            self.kept.retain(|kept| kept.key != key);
        }
    }

    fn act(&mut self, index: u64, action: Action) -> Reply {
        let result = match action {
            Action::Set { pairs, ttl_ms, conditions } => match conditions.is_empty() {
                true => Ok(()),
                false => self.check(&pairs[0].0, &conditions),
            }
            .map(|()| self.set(index, pairs, ttl_ms))
            .map(|_| Reply::Done),
            Action::Put { key, value, ttl_ms, conditions } => self.check(&key, &conditions).map(|()| {
                let created = !self.keys.contains_key(&key);
                let kind = (value.is_bytes, value.content_type.map(|name| name.to_string()));
                self.write(index, &key, &value.data, kind, ttl_ms.map(|ttl| self.now + ttl));
                Reply::Put { created }
            }),
            Action::Delete { key, conditions } => {
                self.check(&key, &conditions).map(|()| Reply::Deleted(self.delete(&key)))
            }
            Action::DeletePrefix { prefix } => Ok(Reply::Deleted(self.delete_prefix(&prefix))),
            Action::Incr { key, by, ttl_ms, conditions } => {
                self.check(&key, &conditions).and_then(|()| self.incr(index, &key, by, ttl_ms, None)).map(Reply::Number)
            }
            Action::Touch { key, ttl_ms, conditions } => self.check(&key, &conditions).and_then(|()| {
                let entry = self.keys.get_mut(&key).ok_or(Failure::Missing)?;
                entry.deadline = Some(self.now + ttl_ms);
                Ok(Reply::Touched { modify_index: entry.modified })
            }),
            Action::Txn(txn) => self.txn(index, txn),
            Action::Acquire { name, ttl_ms, body, wait_ms } => self.acquire(index, name, ttl_ms, body, wait_ms),
            Action::Renew { name, token, ttl_ms } => self.holder(&name, token).map(|at| {
                let claim = &mut self.claims[at];
                claim.ttl = ttl_ms.unwrap_or(claim.ttl);
                claim.deadline = self.now + claim.ttl;
                Reply::Granted { token, ttl_ms: claim.ttl }
            }),
            Action::Release { name, token } => self.holder(&name, token).map(|at| {
                self.release(index, at);
                Reply::Done
            }),
            Action::Cancel { name, ticket } => {
                match self.claims.iter().position(|claim| claim.name == name && claim.ticket == ticket) {
                    Some(at) if self.claims[at].token.is_some() => self.release(index, at),
                    Some(at) => drop(self.claims.remove(at)),
                    None => {}
                }
                Ok(Reply::Done)
            }
            Action::Tick { most } => Ok(self.tick(index, most as usize)),
            Action::Mark => Ok(Reply::Done),
            Action::Raise { to } => {
                self.format = self.format.max(to);
                Ok(Reply::Done)
            }
        };
        result.unwrap_or_else(Reply::failed)
    }

    fn check(&self, key: &Key, conditions: &[Condition]) -> Ended<()> {
        let entry = self.keys.get(key);
        for condition in conditions {
            let holds = match (condition, entry) {
                (Condition::Exists, entry) => entry.is_some(),
                (Condition::Missing, entry) => entry.is_none(),
                (Condition::ModifiedBy(any), Some(entry)) => any.contains(&entry.modified),
                (Condition::ModifiedBy(_), None) => false,
                (Condition::NotModifiedBy(none), Some(entry)) => !none.contains(&entry.modified),
                (Condition::NotModifiedBy(_), None) => true,
            };
            if !holds {
                return Err(Failure::Precondition { current: entry.map(Entry::record) });
            }
        }
        Ok(())
    }

    fn write(&mut self, index: u64, key: &Key, value: &[u8], kind: (bool, Option<String>), deadline: Option<u64>) {
        let old = self.keys.get(key);
        let (created, version) = old.map_or((index, 1), |old| (old.created, old.version + 1));
        let (value, (is_bytes, content_type)) = (value.to_vec(), kind);
        let entry = Entry { value, is_bytes, content_type, created, modified: index, version, deadline };
        self.changes.push(Change::Set { key: key.clone(), record: entry.record() });
        self.keys.insert(key.clone(), entry);
    }

    fn set(&mut self, index: u64, pairs: Vec<(Key, Bytes)>, ttl: Option<u64>) -> u64 {
        for (key, value) in &pairs {
            self.write(index, key, value, (false, None), ttl.map(|ttl| self.now + ttl));
        }
        pairs.len() as u64
    }

    fn delete(&mut self, key: &Key) -> u64 {
        let removed = self.keys.remove(key).is_some();
        if removed {
            self.changes.push(Change::Deleted { key: key.clone() });
        }
        u64::from(removed)
    }

    fn delete_prefix(&mut self, prefix: &str) -> u64 {
        let keys: Vec<Key> = self.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        keys.iter().map(|key| self.delete(key)).sum()
    }

    fn incr(&mut self, index: u64, key: &Key, by: i64, ttl: Option<u64>, place: Option<OpIndex>) -> Ended<i64> {
        let failed = |why| Failure::NotANumber { place, key: key.clone(), why };
        let old = self.keys.get(key).cloned();
        let number = match &old {
            None => 0,
            Some(old) if old.is_bytes => return Err(failed(NotANumber::Other)),
            Some(old) => match (serde_json::from_slice(&old.value), serde_json::from_slice::<String>(&old.value)) {
                (Ok(number), _) => number,
                (_, Ok(text)) if text.parse::<i64>().is_ok() => return Err(failed(NotANumber::TextOfNumber)),
                _ => return Err(failed(NotANumber::Other)),
            },
        };
        let sum = i64::checked_add(number, by).ok_or_else(|| failed(NotANumber::Overflow))?;
        let (content_type, deadline) = old.map_or((None, None), |old| (old.content_type, old.deadline));
        let deadline = ttl.map_or(deadline, |ttl| Some(self.now + ttl));
        self.write(index, key, sum.to_string().as_bytes(), (false, content_type), deadline);
        Ok(sum)
    }

    fn txn(&mut self, index: u64, txn: Txn) -> Ended<Reply> {
        let holds = |test: &Test| {
            let entry = self.keys.get(&test.key);
            match &test.of {
                TestOf::Exists(exists) => entry.is_some() == *exists,
                TestOf::ModifyIndex(index) => entry.map_or(0, |entry| entry.modified) == *index,
                TestOf::CreateIndex(index) => entry.map_or(0, |entry| entry.created) == *index,
                TestOf::Version(version) => entry.map_or(0, |entry| entry.version) == *version,
                TestOf::Value(value) => entry
                    .is_some_and(|entry| entry.json() == serde_json::from_slice::<serde_json::Value>(value).unwrap()),
            }
        };
        let succeeded = txn.tests.iter().all(holds);
        let before = self.clone();
        let mut results = Vec::new();
        for (at, op) in (0..).zip(if succeeded { txn.then } else { txn.otherwise }) {
            let place = Some(OpIndex { then: succeeded, at });
            let result = match op {
                Op::Set { pairs, ttl_ms } => Ok(OpResult::Set(self.set(index, pairs, ttl_ms))),
                Op::Incr { pairs, ttl_ms } => {
                    let add = |(key, by): (Key, i64)| Ok((key.clone(), self.incr(index, &key, by, ttl_ms, place)?));
                    pairs.into_iter().map(add).collect::<Ended<_>>().map(OpResult::Numbers)
                }
                Op::Delete(key) => Ok(OpResult::Deleted(self.delete(&key))),
                Op::DeletePrefix(prefix) => Ok(OpResult::Deleted(self.delete_prefix(&prefix))),
                Op::Get(key) => Ok(OpResult::Got(key.clone(), self.keys.get(&key).map(Entry::record))),
            };
            results.push(result.inspect_err(|_| *self = before.clone())?);
        }
        Ok(Reply::Txn { succeeded, results })
    }

    fn holder(&self, name: &str, token: u64) -> Ended<usize> {
        let is = |claim: &Claim| claim.name == name && claim.token == Some(token);
        self.claims.iter().position(is).ok_or(Failure::LockLost)
    }

    fn acquire(&mut self, index: u64, name: Key, ttl: u64, body: Option<Bytes>, wait: u64) -> Ended<Reply> {
        let holder = self.view(&name);
        let mut claim = Claim { name, ticket: index, token: None, ttl, deadline: self.now + wait, body };
        match holder {
            Some(view) if wait == 0 => Err(Failure::Locked(view)),
            Some(_) => {
                self.claims.push(claim);
                Ok(Reply::Queued)
            }
            None => {
                claim.token = Some(index);
                claim.deadline = self.now + ttl;
                self.changes.push(Change::Acquired {
                    lock: claim.name.clone(),
                    token: index,
                    body: claim.body.clone(),
                });
                self.claims.push(claim);
                Ok(Reply::Granted { token: index, ttl_ms: ttl })
            }
        }
    }

    fn release(&mut self, index: u64, at: usize) {
        let Claim { name, token, .. } = self.claims[at].clone();
        self.changes.push(Change::Released { lock: name, token: token.unwrap() });
        self.pass_on(index, at);
    }

    /// Takes the lock from who holds it, and gives it to the next; those whose time is up go.
    fn pass_on(&mut self, index: u64, at: usize) {
        let name = self.claims.remove(at).name;
        while let Some(at) = self.claims.iter().position(|claim| claim.name == name) {
            if self.claims[at].deadline > self.now {
                let claim = &mut self.claims[at];
                claim.token = Some(index);
                claim.deadline = self.now + claim.ttl;
                self.changes.push(Change::Acquired { lock: name, token: index, body: claim.body.clone() });
                return;
            }
            self.claims.remove(at);
        }
    }

    fn tick(&mut self, index: u64, most: usize) -> Reply {
        let mut due: Vec<(u64, Key)> = self
            .keys
            .iter()
            .filter_map(|(key, entry)| Some((entry.deadline.filter(|deadline| *deadline <= self.now)?, key.clone())))
            .collect();
        due.sort();
        due.truncate(most);
        let mut left = most - due.len();
        due.sort_by(|a, b| a.1.cmp(&b.1));
        for (_, key) in due {
            self.keys.remove(&key);
            self.changes.push(Change::Expired { key });
        }
        while left > 0 {
            let due = (0..self.claims.len()).filter(|at| self.claims[*at].deadline <= self.now);
            let Some(at) = due.min_by_key(|at| {
                let claim = &self.claims[*at];
                (claim.deadline, claim.name.clone(), claim.ticket)
            }) else {
                break;
            };
            left -= 1;
            match self.claims[at].token {
                None => drop(self.claims.remove(at)),
                Some(token) => {
                    self.changes.push(Change::LockExpired { lock: self.claims[at].name.clone(), token });
                    self.pass_on(index, at);
                }
            }
        }
        self.forget(left);
        Reply::Ticked { more: self.next_deadline().is_some_and(|deadline| deadline <= self.now) }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let keys = self.keys.values().filter_map(|entry| entry.deadline);
        let claims = self.claims.iter().map(|claim| claim.deadline);
        keys.chain(claims).chain(self.kept.iter().map(|kept| kept.deadline)).min()
    }

    pub(super) fn view(&self, name: &str) -> Option<LockView> {
        let holder = self.claims.iter().find(|claim| claim.name == name && claim.token.is_some())?;
        let waiting = self.claims.iter().filter(|claim| claim.name == name).count() as u64 - 1;
        let Claim { ticket, ttl, deadline, body, .. } = holder.clone();
        Some(LockView { token: holder.token?, ticket, ttl_ms: ttl, deadline_ms: deadline, body, waiting })
    }

    pub(super) fn ticket(&self, name: &str, ticket: u64) -> Ticket {
        match self.claims.iter().find(|claim| claim.name == name && claim.ticket == ticket) {
            None => Ticket::Gone,
            Some(Claim { token: None, .. }) => Ticket::Waits,
            Some(Claim { token: Some(token), ttl, .. }) => Ticket::Holds { token: *token, ttl_ms: *ttl },
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}

/// Bytes that a kept reply counts.
fn size(reply: &Reply) -> u64 {
    let bytes = match reply {
        Reply::Txn { results, .. } => results
            .iter()
            .map(|result| match result {
                OpResult::Numbers(numbers) => numbers.iter().map(|(key, _)| key.len() + 8).sum(),
                _ => 8,
            })
            .sum(),
        Reply::Failed(failure) => match &**failure {
            Failure::NotANumber { key, .. } => key.len(),
            _ => 0,
        },
        _ => 0,
    };
    bytes as u64
}
