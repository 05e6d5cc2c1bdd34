//! Locks. Each has one holder and a queue of waiters. Deadlines are in log time.
//!
//! * A holder's token is the index of the entry that granted the lock.
//! * A waiter's ticket is the index of the entry that queued it.
//! * Tokens and tickets only grow. Waiters get the lock in the order of their tickets.
//!
//! A claim under a lease has no time of its own: it lasts as long as the lease does.
//!
//! Caveat: only a tick ends a lock whose deadline has passed. Until then it is held.

mod leased_claims;
mod places;
mod queues;

use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::auth::{Auth, Owners};
use super::event::{Change, Events};
use super::lease::{Lease, Leases};
use crate::command::{Action, Failure, Key, Leased, LockView, Principal, Reply, TokenId};
use leased_claims::LeasedClaims;
use places::{Claim, NEVER, Places};

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    token: u64,
    holder: Claim,
    /// The holder's own ticket.
    ticket: u64,
    waiters: Vec<(u64, Claim)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    token: u64,
    ticket: u64,
    holder: Claim,
    waiters: OrdMap<u64, Claim>,
}

/// The state of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// It waits in the queue.
    Waits,
    /// It holds the lock.
    Holds {
        /// The fencing token.
        token: u64,
        /// How long it holds unless it is renewed, in milliseconds.
        ttl_ms: u64,
    },
    /// It never waited, or it neither waits nor holds any more.
    Gone,
}

/// How long a lock is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// So many milliseconds, unless it is renewed.
    Ttl(u64),
    /// As long as a lease that is alive.
    Lease(u64),
}

/// Invariants: `held` has only locks with a holder; `places` has all holders and waiters, `leased` those that have a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Locks {
    held: OrdMap<Key, Held>,
    places: Places,
    leased: LeasedClaims,
    /// Who asked, by ticket.
    owners: Owners,
}

/// An entry that is applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    /// Its index.
    pub index: u64,
    /// Log time with it.
    pub now_ms: u64,
    /// Its client.
    pub by: Option<&'a Principal>,
    /// Says who may still have a lock.
    pub auth: &'a Auth,
}

impl Locks {
    pub(super) fn acquire(
        &mut self,
        leases: &Leases,
        moment: Moment<'_>,
        name: &Key,
        (hold, wait_ms): (Hold, u64),
        body: Option<&Bytes>,
        events: &mut Events<'_>,
    ) -> Reply {
        let Moment { index, now_ms, by, .. } = moment;
        let is_held = self.held.contains_key(name);
        if is_held && wait_ms == 0 {
            return self.locked(leases, name);
        }
        self.owners.add(index, by);
        if let Hold::Lease(lease) = hold {
            self.leased.add(name, index, lease);
        }
        // A slice would keep the whole request.
        let body = body.map(|body| Bytes::copy_from_slice(body));
        let (ttl_ms, ends_ms) = match hold {
            Hold::Ttl(ttl_ms) => (ttl_ms, now_ms.saturating_add(ttl_ms)),
            Hold::Lease(_) => (0, NEVER),
        };
        if !is_held {
            let claim = Claim { ttl_ms, deadline_ms: ends_ms, body };
            self.grant(index, index, name.clone(), claim, OrdMap::new(), events);
            return match hold {
                Hold::Ttl(ttl_ms) => Reply::Granted { token: index, ttl_ms },
                Hold::Lease(lease) => Reply::Granted { token: index, ttl_ms: left(leases.get(lease), now_ms) },
            };
        }
        let claim = Claim { ttl_ms, deadline_ms: now_ms.saturating_add(wait_ms), body };
        self.places.add(name, index, None, &claim);
        if let Some(lock) = self.held.get_mut(name) {
            lock.waiters.insert(index, claim);
        }
        Reply::Queued
    }

    fn locked(&self, leases: &Leases, name: &Key) -> Reply {
        // By who asks, there is a holder.
        self.view(leases, name).map_or(Reply::None, |view| Reply::failed(Failure::Locked(view)))
    }

    pub(super) fn renew(&mut self, leases: &Leases, now_ms: u64, name: &Key, token: u64, ttl_ms: Option<u64>) -> Reply {
        let Some(lock) = self.held.get_mut(name).filter(|lock| lock.token == token) else {
            return Reply::failed(Failure::LockLost);
        };
        let ticket = lock.ticket;
        match (self.leased.get(name, ticket), ttl_ms) {
            (Some(lease), None) => return Reply::Granted { token, ttl_ms: left(leases.get(lease), now_ms) },
            // From now on it has a time of its own.
            (Some(_), Some(_)) => self.leased.remove(name, ticket),
            (None, _) => {}
        }
        let ttl_ms = ttl_ms.unwrap_or(lock.holder.ttl_ms);
        self.places.remove(name, ticket, Some(token), &lock.holder);
        lock.holder.ttl_ms = ttl_ms;
        lock.holder.deadline_ms = now_ms.saturating_add(ttl_ms);
        self.places.add(name, ticket, Some(token), &lock.holder);
        Reply::Granted { token, ttl_ms }
    }

    /// The answer to a repeated request. A grant that was kept says nothing of now: it is told again only where it still
    /// holds, with the time that is left. Else the repetition is refused as a new request would be, with the holder. What the
    /// holder of then shows was not kept, and is told as long as it holds the lock.
    pub(super) fn replay(&self, leases: &Leases, now_ms: u64, action: &Action, reply: Reply) -> Reply {
        let Reply::Replayed { index, reply: kept } = &reply else { return reply };
        let acquired = match action {
            Action::Acquire { name, .. } | Action::Leased { write: Leased::Acquire { name, .. }, .. } => Some(name),
            _ => None,
        };
        if let (Some(name), Reply::Failed(failure)) = (acquired, &**kept)
            && let Failure::Locked(view) = &**failure
        {
            let body =
                self.held.get(name).filter(|lock| lock.token == view.token).and_then(|lock| lock.holder.body.clone());
            let locked = Reply::failed(Failure::Locked(LockView { body, ..view.clone() }));
            return Reply::Replayed { index: *index, reply: Box::new(locked) };
        }
        let (name, renewed) = match (action, acquired, &**kept) {
            (_, Some(name), Reply::Granted { .. } | Reply::Queued) => (name, None),
            (Action::Renew { name, token, .. }, _, Reply::Granted { .. }) => (name, Some(*token)),
            _ => return reply,
        };
        let Some(lock) = self.held.get(name) else { return Reply::failed(Failure::LockLost) };
        let is_holder = renewed.map_or(lock.ticket == *index, |token| lock.token == token);
        let view = self.shown(leases, name, lock);
        if is_holder && view.deadline_ms > now_ms {
            let held = Reply::Granted { token: lock.token, ttl_ms: view.deadline_ms - now_ms };
            return Reply::Replayed { index: *index, reply: Box::new(held) };
        }
        match renewed {
            None if lock.waiters.contains_key(index) => reply,
            None if !is_holder => Reply::failed(Failure::Locked(view)),
            _ => Reply::failed(Failure::LockLost),
        }
    }

    pub(super) fn release(&mut self, moment: Moment<'_>, name: &Key, token: u64, events: &mut Events<'_>) -> Reply {
        if self.held.get(name).is_none_or(|lock| lock.token != token) {
            return Reply::failed(Failure::LockLost);
        }
        events.push(Change::Released { lock: name.clone(), token });
        self.pass_on(moment, name, events);
        Reply::Done
    }

    pub(super) fn cancel(&mut self, moment: Moment<'_>, name: &Key, ticket: u64, events: &mut Events<'_>) {
        let Some(lock) = self.held.get_mut(name) else { return };
        if lock.ticket == ticket {
            let token = lock.token;
            self.release(moment, name, token, events);
        } else {
            self.leave_queue(name, ticket);
        }
    }

    /// Takes a waiter out of the queue.
    fn leave_queue(&mut self, name: &Key, ticket: u64) {
        let Some(lock) = self.held.get_mut(name) else { return };
        let Some(claim) = lock.waiters.remove(&ticket) else { return };
        self.places.remove(name, ticket, None, &claim);
        self.leased.remove(name, ticket);
        self.owners.remove(ticket);
    }

    /// Ends all claims of a lease that has ended: first those that wait, so that none of them is granted what it gives up.
    pub(super) fn end_lease(&mut self, moment: Moment<'_>, lease: u64, events: &mut Events<'_>) {
        let claims: Vec<(Key, u64)> =
            self.leased.of_lease(lease).map(|(name, ticket)| (name.clone(), ticket)).collect();
        let holds = |locks: &Self, name: &Key, ticket| locks.held.get(name).is_some_and(|lock| lock.ticket == ticket);
        for (name, ticket) in &claims {
            if !holds(self, name, *ticket) {
                self.leave_queue(name, *ticket);
            }
        }
        for (name, ticket) in &claims {
            if let Some(lock) = self.held.get(name).filter(|lock| lock.ticket == *ticket) {
                events.push(Change::LockExpired { lock: name.clone(), token: lock.token, lease: Some(lease) });
                self.pass_on(moment, name, events);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.places.deadlines.get_min().map(|(deadline, ..)| *deadline)
    }

    /// Drops at most `most` holders and waiters whose deadline has passed. Returns how many it dropped.
    pub(super) fn expire(&mut self, moment: Moment<'_>, most: usize, events: &mut Events<'_>) -> usize {
        let mut dropped = 0;
        while dropped < most
            && let Some((deadline_ms, name, ticket)) = self.places.deadlines.get_min().cloned()
            && deadline_ms <= moment.now_ms
        {
            dropped += 1;
            // By the invariants it is there.
            let Some(lock) = self.held.get(&name) else { break };
            if lock.ticket == ticket {
                events.push(Change::LockExpired { lock: name.clone(), token: lock.token, lease: None });
                self.pass_on(moment, &name, events);
            } else {
                self.leave_queue(&name, ticket);
            }
        }
        dropped
    }

    /// Takes the lock from its holder and grants it to the first waiter whose deadline has not passed, and who may have it.
    fn pass_on(&mut self, moment: Moment<'_>, name: &Key, events: &mut Events<'_>) {
        let Moment { index, now_ms, auth, .. } = moment;
        let Some(mut lock) = self.held.remove(name) else { return };
        self.places.remove(name, lock.ticket, Some(lock.token), &lock.holder);
        self.leased.remove(name, lock.ticket);
        self.owners.remove(lock.ticket);
        while let Some((ticket, mut claim)) = lock.waiters.get_min().cloned() {
            lock.waiters.remove(&ticket);
            self.places.remove(name, ticket, None, &claim);
            if claim.deadline_ms > now_ms && auth.may_lock(self.owners.get(ticket), name, now_ms) {
                let is_leased = self.leased.get(name, ticket).is_some();
                claim.deadline_ms = if is_leased { NEVER } else { now_ms.saturating_add(claim.ttl_ms) };
                return self.grant(index, ticket, name.clone(), claim, lock.waiters, events);
            }
            self.leased.remove(name, ticket);
            self.owners.remove(ticket);
        }
    }

    fn grant(
        &mut self,
        token: u64,
        ticket: u64,
        name: Key,
        holder: Claim,
        waiters: OrdMap<u64, Claim>,
        events: &mut Events<'_>,
    ) {
        self.places.add(&name, ticket, Some(token), &holder);
        events.push(Change::Acquired { lock: name.clone(), token, body: holder.body.clone() });
        self.held.insert(name, Held { token, ticket, holder, waiters });
    }

    pub(super) fn view(&self, leases: &Leases, name: &str) -> Option<LockView> {
        self.held.get_key_value(name).map(|(name, lock)| self.shown(leases, name, lock))
    }

    /// What is held under a lease lasts as long as that.
    fn shown(&self, leases: &Leases, name: &Key, lock: &Held) -> LockView {
        let view = lock.view();
        match self.leased.get(name, lock.ticket).and_then(|lease| leases.get(lease)) {
            Some(Lease { ttl_ms, deadline_ms, .. }) => LockView { ttl_ms: *ttl_ms, deadline_ms: *deadline_ms, ..view },
            None => view,
        }
    }

    /// The first lock from there on, if its name begins with `prefix`.
    pub(super) fn next(&self, leases: &Leases, prefix: &str, from: Bound<&str>) -> Option<(&Key, LockView)> {
        let (name, held) = self.held.range::<_, str>((from, Bound::Unbounded)).next()?;
        name.starts_with(prefix).then(|| (name, self.shown(leases, name, held)))
    }

    pub(super) fn is_held(&self, name: &Key, token: u64) -> bool {
        self.held.get(name).is_some_and(|lock| lock.token == token)
    }

    pub(super) fn ticket(&self, leases: &Leases, name: &str, ticket: u64) -> Ticket {
        match self.held.get_key_value(name) {
            Some((name, lock)) if lock.ticket == ticket => {
                Ticket::Holds { token: lock.token, ttl_ms: self.shown(leases, name, lock).ttl_ms }
            }
            Some((_, lock)) if lock.waiters.contains_key(&ticket) => Ticket::Waits,
            _ => Ticket::Gone,
        }
    }

    /// Whether somebody may renew and release a lock that is held with this token: who took it may.
    pub(super) fn lets(&self, name: &Key, token: u64, by: Option<&Principal>) -> bool {
        let held = self.held.get(name).filter(|lock| lock.token == token);
        held.is_none_or(|lock| self.owners.lets(lock.ticket, by))
    }

    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Puts an owner back as a snapshot has it.
    pub(super) fn restore_owner(&mut self, ticket: u64, owner: TokenId) {
        self.owners.restore(ticket, owner);
    }

    /// The lease of a lock's holder.
    pub(super) fn lease_of(&self, name: &str) -> Option<u64> {
        let (name, lock) = self.held.get_key_value(name)?;
        self.leased.get(name, lock.ticket)
    }

    /// How many claims a lease has.
    pub(super) fn count_of_lease(&self, lease: u64) -> usize {
        self.leased.of_lease(lease).count()
    }

    /// All claims under leases, for a snapshot.
    pub(super) fn leased(&self) -> impl Iterator<Item = (&Key, u64, u64)> {
        self.leased.iter()
    }

    /// Puts the lease of a claim back as a snapshot has it.
    pub(super) fn attach(&mut self, name: &Key, ticket: u64, lease: u64) {
        self.leased.add(name, ticket, lease);
    }

    /// A hash of all claims under leases.
    pub(super) fn digest_of_leases(&self) -> u64 {
        self.leased.digest()
    }

    /// All locks by name, for a snapshot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, Lock)> {
        self.held.iter().map(|(name, held)| (name, held.flat()))
    }

    /// Puts one lock back as a snapshot has it.
    pub(super) fn restore(&mut self, name: Key, lock: Lock) {
        let Lock { token, holder, ticket, waiters } = lock;
        self.places.add(&name, ticket, Some(token), &holder);
        for (ticket, claim) in &waiters {
            self.places.add(&name, *ticket, None, claim);
        }
        self.held.insert(name, Held { token, ticket, holder, waiters: waiters.into_iter().collect() });
    }

    /// How many are held, and how many wait for one.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.held.len(), self.places.count.saturating_sub(self.held.len()))
    }

    /// The bytes of what holders and waiters show.
    pub(super) fn bytes(&self) -> u64 {
        self.places.bytes
    }

    /// A hash of all locks.
    pub(super) fn digest(&self) -> u64 {
        self.places.digest
    }
}

/// What is left of a lease, in milliseconds.
fn left(lease: Option<&Lease>, now_ms: u64) -> u64 {
    lease.map_or(0, |lease| lease.deadline_ms.saturating_sub(now_ms))
}

impl Held {
    fn view(&self) -> LockView {
        LockView {
            token: self.token,
            ticket: self.ticket,
            ttl_ms: self.holder.ttl_ms,
            deadline_ms: self.holder.deadline_ms,
            body: self.holder.body.clone(),
            waiting: self.waiters.len() as u64,
        }
    }

    fn flat(&self) -> Lock {
        let waiters = self.waiters.iter().map(|(ticket, claim)| (*ticket, claim.clone())).collect();
        Lock { token: self.token, holder: self.holder.clone(), ticket: self.ticket, waiters }
    }
}
