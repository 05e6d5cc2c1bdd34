//! Locks, and those who hold them or wait.

use super::*;
use crate::kv::Ticket;

/// A holder of a lock, or a waiter.
#[derive(Debug, Clone)]
pub(in crate::kv::tests) struct Claim {
    pub(super) name: Key,
    pub(in crate::kv::tests) ticket: u64,
    /// Its fencing token, if it holds the lock.
    pub(super) token: Option<u64>,
    pub(super) ttl: u64,
    /// `None`: it lasts as long as its lease.
    pub(super) deadline: Option<u64>,
    pub(super) lease: Option<u64>,
    pub(super) body: Option<Bytes>,
}

impl Model {
    /// What was granted is told again only to who has it, or waits for it.
    pub(super) fn replayed(&self, action: &Action, index: u64, kept: &Reply) -> Reply {
        let again = |reply: Reply| Reply::Replayed { index, reply: Box::new(reply) };
        let claim = match (action, kept) {
            (
                Action::Acquire { name, .. } | Action::Leased { write: Leased::Acquire { name, .. }, .. },
                Reply::Granted { .. } | Reply::Queued,
            ) => self.claims.iter().find(|claim| claim.name == *name && claim.ticket == index),
            (Action::Renew { name, token, .. }, Reply::Granted { .. }) => {
                self.claims.iter().find(|claim| claim.name == *name && claim.token == Some(*token))
            }
            (_, Reply::Leased { lease, .. }) => {
                return match self.leases.contains_key(lease) {
                    true => again(Reply::Leased { lease: *lease, ttl_ms: self.left(*lease) }),
                    false => Reply::failed(Failure::LeaseLost { place: None, lease: *lease }),
                };
            }
            _ => return again(self.as_now(action, kept.clone())),
        };
        match (claim, action) {
            (Some(Claim { token: None, .. }), _) => again(kept.clone()),
            (Some(claim @ Claim { token: Some(token), .. }), _) if self.lasts(claim).1 > self.now => {
                again(Reply::Granted { token: *token, ttl_ms: self.lasts(claim).1 - self.now })
            }
            (None, Action::Acquire { name, .. } | Action::Leased { write: Leased::Acquire { name, .. }, .. }) => {
                Reply::failed(self.view(name).map_or(Failure::LockLost, Failure::Locked))
            }
            _ => Reply::failed(Failure::LockLost),
        }
    }

    pub(super) fn renew(&mut self, name: &str, token: u64, ttl: Option<u64>) -> Ended<Reply> {
        let at = self.holder(name, token)?;
        let (lease, now) = (self.claims[at].lease, self.now);
        if let (Some(lease), None) = (lease, ttl) {
            return Ok(Reply::Granted { token, ttl_ms: self.left(lease) });
        }
        let claim = &mut self.claims[at];
        claim.lease = None;
        claim.ttl = ttl.unwrap_or(claim.ttl);
        claim.deadline = Some(now + claim.ttl);
        Ok(Reply::Granted { token, ttl_ms: claim.ttl })
    }

    pub(super) fn cancel(&mut self, index: u64, name: &str, ticket: u64) {
        match self.claims.iter().position(|claim| claim.name == name && claim.ticket == ticket) {
            Some(at) if self.claims[at].token.is_some() => self.release(index, at),
            Some(at) => drop(self.claims.remove(at)),
            None => {}
        }
    }

    /// For how long the holder has it, and until when.
    fn lasts(&self, claim: &Claim) -> (u64, u64) {
        match claim.lease.and_then(|lease| self.leases.get(&lease)) {
            Some(lease) => (lease.ttl, lease.deadline),
            None => (claim.ttl, claim.deadline.unwrap()),
        }
    }

    pub(super) fn holder(&self, name: &str, token: u64) -> Ended<usize> {
        let is = |claim: &Claim| claim.name == name && claim.token == Some(token);
        self.claims.iter().position(is).ok_or(Failure::LockLost)
    }

    pub(super) fn acquire(
        &mut self,
        index: u64,
        name: Key,
        (ttl, lease): (u64, Option<u64>),
        body: Option<Bytes>,
        wait: u64,
    ) -> Ended<Reply> {
        let holder = self.view(&name);
        let mut claim = Claim { name, ticket: index, token: None, ttl, deadline: Some(self.now + wait), lease, body };
        match holder {
            Some(view) if wait == 0 => Err(Failure::Locked(view)),
            Some(_) => {
                self.claims.push(claim);
                Ok(Reply::Queued)
            }
            None => {
                claim.token = Some(index);
                claim.deadline = lease.is_none().then_some(self.now + ttl);
                let ttl_ms = lease.map_or(ttl, |lease| self.left(lease));
                self.changes.push(Change::Acquired {
                    lock: claim.name.clone(),
                    token: index,
                    body: claim.body.clone(),
                });
                self.claims.push(claim);
                Ok(Reply::Granted { token: index, ttl_ms })
            }
        }
    }

    pub(super) fn release(&mut self, index: u64, at: usize) {
        let Claim { name, token, .. } = self.claims[at].clone();
        self.changes.push(Change::Released { lock: name, token: token.unwrap() });
        self.pass_on(index, at);
    }

    /// Takes the lock from who holds it, and gives it to the next; those whose time is up go.
    pub(super) fn pass_on(&mut self, index: u64, at: usize) {
        let name = self.claims.remove(at).name;
        while let Some(at) = self.claims.iter().position(|claim| claim.name == name) {
            if self.claims[at].deadline.is_none_or(|at| at > self.now) {
                let claim = &mut self.claims[at];
                claim.token = Some(index);
                claim.deadline = claim.lease.is_none().then_some(self.now + claim.ttl);
                self.changes.push(Change::Acquired { lock: name, token: index, body: claim.body.clone() });
                return;
            }
            self.claims.remove(at);
        }
    }

    pub(in crate::kv::tests) fn view(&self, name: &str) -> Option<LockView> {
        let holder = self.claims.iter().find(|claim| claim.name == name && claim.token.is_some())?;
        let waiting = self.claims.iter().filter(|claim| claim.name == name).count() as u64 - 1;
        let Claim { ticket, body, .. } = holder.clone();
        let (ttl, deadline) = self.lasts(holder);
        Some(LockView { token: holder.token?, ticket, ttl_ms: ttl, deadline_ms: deadline, body, waiting })
    }

    pub(in crate::kv::tests) fn ticket(&self, name: &str, ticket: u64) -> Ticket {
        match self.claims.iter().find(|claim| claim.name == name && claim.ticket == ticket) {
            None => Ticket::Gone,
            Some(Claim { token: None, .. }) => Ticket::Waits,
            Some(claim @ Claim { token: Some(token), .. }) => {
                Ticket::Holds { token: *token, ttl_ms: self.lasts(claim).0 }
            }
        }
    }
}
