//! The state as it would be written by who cares for nothing but being right: lists that are searched from end to end.

mod leases;
mod locks;
mod txns;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::outcomes;
use crate::command::*;
use crate::formats::Format;
use crate::kv::Change;
use crate::kv::idempotency::Limits;
use crate::record::{Marks, Rare, Record, base64};

#[derive(Debug, Clone)]
pub(super) struct Entry {
    value: Vec<u8>,
    is_bytes: bool,
    content_type: Option<String>,
    created: u64,
    modified: u64,
    version: u64,
    life: Life,
}

impl Entry {
    pub(super) fn record(&self) -> Record {
        let marks = Marks { create_index: self.created, modify_index: self.modified, version: self.version };
        let content_type = self.content_type.as_deref().map(Into::into);
        let Life { deadline, lease } = self.life;
        Record::new(marks, &Rare { is_bytes: self.is_bytes, content_type, deadline_ms: deadline, lease }, &self.value)
    }

    fn json(&self) -> serde_json::Value {
        match self.is_bytes {
            true => serde_json::json!({"base64": base64(&self.value)}),
            false => serde_json::from_slice(&self.value).unwrap(),
        }
    }
}

/// How long a key or a claim lasts: until a time, or as long as a lease.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Life {
    deadline: Option<u64>,
    lease: Option<u64>,
}

use leases::Lease;
use locks::Claim;

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
    pub(super) leases: BTreeMap<u64, Lease>,
    kept: Vec<Kept>,
    limits: Limits,
    changes: Vec<Change>,
    pub(super) format: Format,
    pub(super) quota: u64,
}

type Ended<T> = Result<T, Failure>;

impl Model {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            now: 0,
            keys: BTreeMap::new(),
            claims: Vec::new(),
            leases: BTreeMap::new(),
            kept: Vec::new(),
            limits,
            changes: Vec::new(),
            format: Format::default(),
            quota: 0,
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
                    self.write(1, &key, &value, (false, None), Life::default());
                }
                return Reply::Done;
            }
            Command::Delete(key) => return Reply::Deleted(self.delete(&key)),
            // Who asks is looked at before all that is here: see the tests of authentication.
            Command::Stamped(stamped) | Command::By(_, stamped) => stamped,
        };
        self.now = self.now.max(stamp_ms);
        let Some(retry) = retry else { return self.act_if_it_fits(index, action) };
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
        let reply = self.act_if_it_fits(index, action);
        if matches!(&reply, Reply::Failed(failure) if matches!(**failure, Failure::Quota { .. })) {
            return reply;
        }
        let mut kept = reply.clone();
        outcomes::cut(&mut kept);
        self.kept.retain(|other| other.key != retry.key);
        let bytes = retry.key.len() as u64 + 16 + size(&kept);
        let (key, deadline) = (retry.key.to_string(), self.now + retry.window_ms);
        self.kept.push(Kept { key, digest: retry.digest, index, deadline, bytes, reply: kept });
        reply
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

    pub(super) fn bytes(&self) -> u64 {
        let shown = |body: &Option<Bytes>| body.as_ref().map_or(0, Bytes::len);
        let keys = self.keys.iter().map(|(key, entry)| key.len() + entry.value.len());
        let leases = self.leases.values().map(|lease| shown(&lease.body));
        let claims = self.claims.iter().map(|claim| shown(&claim.body));
        keys.chain(leases).chain(claims).sum::<usize>() as u64
    }

    fn act_if_it_fits(&mut self, index: u64, action: Action) -> Reply {
        let (before, bytes) = (self.clone(), self.bytes());
        let may_refuse = self.quota > 0;
        let reply = self.act(index, action);
        if may_refuse && self.bytes() > before.quota && self.bytes() > bytes {
            let quota = before.quota;
            *self = before;
            return Reply::failed(Failure::Quota { bytes, quota });
        }
        reply
    }

    fn act(&mut self, index: u64, action: Action) -> Reply {
        let result = match action {
            Action::Set { pairs, ttl_ms, conditions } => match conditions.is_empty() {
                true => Ok(()),
                false => self.check(&pairs[0].0, &conditions),
            }
            .map(|()| self.set(index, pairs, self.until(ttl_ms)))
            .map(|_| Reply::Done),
            Action::Put { key, value, ttl_ms, conditions } => {
                self.check(&key, &conditions).map(|()| self.put(index, &key, value, self.until(ttl_ms)))
            }
            Action::Delete { key, conditions } => {
                self.check(&key, &conditions).map(|()| Reply::Deleted(self.delete(&key)))
            }
            Action::DeletePrefix { prefix } => Ok(Reply::Deleted(self.delete_prefix(&prefix))),
            Action::Incr { key, by, ttl_ms, conditions } => {
                let life = self.until(ttl_ms);
                self.check(&key, &conditions).and_then(|()| self.incr(index, &key, by, life, None)).map(Reply::Number)
            }
            Action::Touch { key, ttl_ms, conditions } => self
                .check(&key, &conditions)
                .and_then(|()| self.touch(&key, ttl_ms).ok_or(Failure::Missing))
                .map(|modify_index| Reply::Touched { modify_index }),
            Action::Txn(txn) => self.txn(index, txn),
            Action::Acquire { name, ttl_ms, body, wait_ms } => self.acquire(index, name, (ttl_ms, None), body, wait_ms),
            Action::Renew { name, token, ttl_ms } => self.renew(&name, token, ttl_ms),
            Action::Release { name, token } => self.holder(&name, token).map(|at| {
                self.release(index, at);
                Reply::Done
            }),
            Action::Cancel { name, ticket } => {
                self.cancel(index, &name, ticket);
                Ok(Reply::Done)
            }
            Action::Tick { most } => Ok(self.tick(index, most as usize)),
            Action::Mark => Ok(Reply::Done),
            Action::Raise { to } => {
                self.format = self.format.max(to);
                Ok(Reply::Done)
            }
            Action::Quota { bytes } => {
                self.quota = bytes;
                Ok(Reply::Done)
            }
            Action::Grant { ttl_ms, body } => Ok(self.grant(index, ttl_ms, body)),
            Action::KeepAlive { lease, ttl_ms } => self.keep_alive(lease, ttl_ms),
            Action::Revoke { lease } => self.revoke(index, lease),
            Action::Leased { lease, write } => self.leased(index, lease, write),
            Action::Authentication { .. }
            | Action::PutToken { .. }
            | Action::RotateToken { .. }
            | Action::DeleteToken { .. } => panic!("tests of authentication have a model of their own"),
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

    fn until(&self, ttl: Option<u64>) -> Life {
        Life { deadline: ttl.map(|ttl| self.now + ttl), lease: None }
    }

    fn write(&mut self, index: u64, key: &Key, value: &[u8], kind: (bool, Option<String>), life: Life) {
        let old = self.keys.get(key);
        let (created, version) = old.map_or((index, 1), |old| (old.created, old.version + 1));
        let (value, (is_bytes, content_type)) = (value.to_vec(), kind);
        let entry = Entry { value, is_bytes, content_type, created, modified: index, version, life };
        self.changes.push(Change::Set { key: key.clone(), record: entry.record() });
        self.keys.insert(key.clone(), entry);
    }

    fn set(&mut self, index: u64, pairs: Vec<(Key, Bytes)>, life: Life) -> u64 {
        for (key, value) in &pairs {
            self.write(index, key, value, (false, None), life);
        }
        pairs.len() as u64
    }

    fn put(&mut self, index: u64, key: &Key, value: Value, life: Life) -> Reply {
        let created = !self.keys.contains_key(key);
        let kind = (value.is_bytes, value.content_type.map(|name| name.to_string()));
        self.write(index, key, &value.data, kind, life);
        Reply::Put { created }
    }

    /// The index that last changed the key, if it is there.
    fn touch(&mut self, key: &Key, ttl: u64) -> Option<u64> {
        let life = self.until(Some(ttl));
        let entry = self.keys.get_mut(key)?;
        entry.life = life;
        Some(entry.modified)
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

    fn incr(&mut self, index: u64, key: &Key, by: i64, life: Life, place: Option<OpIndex>) -> Ended<i64> {
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
        let (content_type, kept) = old.map_or((None, Life::default()), |old| (old.content_type, old.life));
        let life = if life.deadline.is_none() && life.lease.is_none() { kept } else { life };
        self.write(index, key, sum.to_string().as_bytes(), (false, content_type), life);
        Ok(sum)
    }

    fn tick(&mut self, index: u64, most: usize) -> Reply {
        let mut due: Vec<(u64, Key)> = self
            .keys
            .iter()
            .filter_map(|(key, entry)| {
                Some((entry.life.deadline.filter(|deadline| *deadline <= self.now)?, key.clone()))
            })
            .collect();
        due.sort();
        due.truncate(most);
        let mut left = most - due.len();
        due.sort_by(|a, b| a.1.cmp(&b.1));
        for (_, key) in due {
            self.keys.remove(&key);
            self.changes.push(Change::Expired { key, lease: None });
        }
        left = self.end_leases(index, left);
        while left > 0 {
            let due = (0..self.claims.len()).filter(|at| self.claims[*at].deadline.is_some_and(|at| at <= self.now));
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
                    self.changes.push(Change::LockExpired { lock: self.claims[at].name.clone(), token, lease: None });
                    self.pass_on(index, at);
                }
            }
        }
        self.forget(left);
        Reply::Ticked { more: self.next_deadline().is_some_and(|deadline| deadline <= self.now) }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let keys = self.keys.values().filter_map(|entry| entry.life.deadline);
        let claims = self.claims.iter().filter_map(|claim| claim.deadline);
        let leases = self.leases.values().map(|lease| lease.deadline);
        keys.chain(claims).chain(leases).chain(self.kept.iter().map(|kept| kept.deadline)).min()
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
