//! Leases, and what is written under them.

use super::*;

#[derive(Debug, Clone)]
pub(in crate::kv::tests) struct Lease {
    pub(super) ttl: u64,
    pub(super) deadline: u64,
    pub(super) body: Option<Bytes>,
}

/// The time to live, deadline and body of a lease, its keys, how many claims it has.
type Known = (u64, u64, Option<Bytes>, Vec<Key>, usize);

impl Model {
    pub(super) fn grant(&mut self, index: u64, ttl: u64, body: Option<Bytes>) -> Reply {
        self.leases.insert(index, Lease { ttl, deadline: self.now + ttl, body });
        Reply::Leased { lease: index, ttl_ms: ttl }
    }

    pub(super) fn keep_alive(&mut self, id: u64, ttl: Option<u64>) -> Ended<Reply> {
        let now = self.now;
        let lease = self.leases.get_mut(&id).ok_or(Failure::LeaseLost { place: None, lease: id })?;
        lease.ttl = ttl.unwrap_or(lease.ttl);
        lease.deadline = now + lease.ttl;
        Ok(Reply::Leased { lease: id, ttl_ms: lease.ttl })
    }

    pub(super) fn revoke(&mut self, index: u64, id: u64) -> Ended<Reply> {
        self.of_lease(id, None)?;
        let keys = self.keys.values().filter(|entry| entry.life.lease == Some(id)).count() as u64;
        self.end_lease(index, id);
        Ok(Reply::Deleted(keys))
    }

    /// The life of what is attached, if the lease is alive.
    pub(super) fn of_lease(&self, lease: u64, place: Option<OpIndex>) -> Ended<Life> {
        let life = Life { deadline: None, lease: Some(lease) };
        if self.leases.contains_key(&lease) { Ok(life) } else { Err(Failure::LeaseLost { place, lease }) }
    }

    pub(super) fn left(&self, lease: u64) -> u64 {
        self.leases[&lease].deadline.saturating_sub(self.now)
    }

    pub(super) fn leased(&mut self, index: u64, lease: u64, write: Leased) -> Ended<Reply> {
        let life = self.of_lease(lease, None)?;
        match write {
            Leased::Set { pairs, conditions } => {
                self.check(&pairs[0].0, &conditions)?;
                self.set(index, pairs, life);
                Ok(Reply::Done)
            }
            Leased::Put { key, value, conditions } => {
                self.check(&key, &conditions).map(|()| self.put(index, &key, value, life))
            }
            Leased::Incr { key, by, conditions } => {
                self.check(&key, &conditions).and_then(|()| self.incr(index, &key, by, life, None)).map(Reply::Number)
            }
            Leased::Acquire { name, body, wait_ms } => self.acquire(index, name, (0, Some(lease)), body, wait_ms),
        }
    }

    /// Ends those that are due, the earliest first, while `most` is not used up.
    pub(super) fn end_leases(&mut self, index: u64, most: usize) -> usize {
        let mut left = most;
        while left > 0 {
            let due = self.leases.iter().filter(|(_, lease)| lease.deadline <= self.now);
            let Some(id) = due.min_by_key(|(id, lease)| (lease.deadline, **id)).map(|(id, _)| *id) else { break };
            let keys = self.keys.values().filter(|entry| entry.life.lease == Some(id)).count();
            let claims = self.claims.iter().filter(|claim| claim.lease == Some(id)).count();
            left = left.saturating_sub(1 + keys + claims);
            self.end_lease(index, id);
        }
        left
    }

    fn end_lease(&mut self, index: u64, id: u64) {
        self.leases.remove(&id);
        let keys: Vec<Key> =
            self.keys.iter().filter(|(_, entry)| entry.life.lease == Some(id)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.keys.remove(&key);
            self.changes.push(Change::Expired { key, lease: Some(id) });
        }
        self.claims.retain(|claim| claim.lease != Some(id) || claim.token.is_some());
        let mut held: Vec<Key> =
            self.claims.iter().filter(|claim| claim.lease == Some(id)).map(|claim| claim.name.clone()).collect();
        held.sort();
        for name in held {
            let at = self.claims.iter().position(|claim| claim.name == name && claim.token.is_some()).unwrap();
            let token = self.claims[at].token.unwrap();
            self.changes.push(Change::LockExpired { lock: name, token, lease: Some(id) });
            self.pass_on(index, at);
        }
    }

    /// All that is known of a lease.
    pub(in crate::kv::tests) fn lease(&self, id: u64) -> Option<Known> {
        let Lease { ttl, deadline, body } = self.leases.get(&id)?.clone();
        let keys = self.keys.iter().filter(|(_, entry)| entry.life.lease == Some(id)).map(|(key, _)| key.clone());
        let claims = self.claims.iter().filter(|claim| claim.lease == Some(id)).count();
        Some((ttl, deadline, body, keys.collect(), claims))
    }
}
