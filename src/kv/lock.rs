//! Locks. Each has one holder and a queue of waiters. Deadlines are in log time.
//!
//! * A holder's token is the index of the entry that granted the lock.
//! * A waiter's ticket is the index of the entry that queued it.
//! * Tokens and tickets only grow. Waiters get the lock in the order of their tickets.
//!
//! Caveat: only a tick ends a lock whose deadline has passed. Until then it is held.

use std::ops::Bound;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::event::{Change, Events};
use crate::command::{Action, Failure, Key, LockView, Reply};

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    token: u64,
    holder: Claim,
    /// The holder's own ticket.
    ticket: u64,
    waiters: Vec<(u64, Claim)>,
}

/// The request of a holder or a waiter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    ttl_ms: u64,
    /// When the lock or the place in the queue is lost, in milliseconds of log time.
    deadline_ms: u64,
    body: Option<Bytes>,
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

/// Invariants: `held` has only locks with a holder; `places` has all holders and waiters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Locks {
    held: OrdMap<Key, Held>,
    places: Places,
}

/// The deadlines of all holders and waiters, with their names and tickets, and the sum of their digests: it is asked for
/// at any time, and there may be many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Places {
    deadlines: OrdSet<(u64, Key, u64)>,
    digest: u64,
}

impl Places {
    /// Adds a holder, who has a token, or a waiter.
    fn add(&mut self, name: &Key, ticket: u64, token: Option<u64>, claim: &Claim) {
        self.deadlines.insert((claim.deadline_ms, name.clone(), ticket));
        self.digest = self.digest.wrapping_add(place_digest(name, ticket, token, claim));
    }

    fn remove(&mut self, name: &Key, ticket: u64, token: Option<u64>, claim: &Claim) {
        self.deadlines.remove(&(claim.deadline_ms, name.clone(), ticket));
        self.digest = self.digest.wrapping_sub(place_digest(name, ticket, token, claim));
    }
}

fn place_digest(name: &Key, ticket: u64, token: Option<u64>, claim: &Claim) -> u64 {
    xxh3_64(&postcard::to_stdvec(&(name, ticket, token, claim)).expect("every claim can be encoded"))
}

impl Locks {
    pub(super) fn acquire(
        &mut self,
        index: u64,
        now_ms: u64,
        name: &Key,
        (ttl_ms, wait_ms): (u64, u64),
        body: Option<&Bytes>,
        events: &mut Events<'_>,
    ) -> Reply {
        // A slice would keep the whole request.
        let body = body.map(|body| Bytes::copy_from_slice(body));
        let Some(lock) = self.held.get_mut(name) else {
            let claim = Claim { ttl_ms, deadline_ms: now_ms.saturating_add(ttl_ms), body };
            self.grant(index, index, name.clone(), claim, OrdMap::new(), events);
            return Reply::Granted { token: index, ttl_ms };
        };
        if wait_ms == 0 {
            return Reply::failed(Failure::Locked(lock.view()));
        }
        let claim = Claim { ttl_ms, deadline_ms: now_ms.saturating_add(wait_ms), body };
        self.places.add(name, index, None, &claim);
        lock.waiters.insert(index, claim);
        Reply::Queued
    }

    pub(super) fn renew(&mut self, now_ms: u64, name: &Key, token: u64, ttl_ms: Option<u64>) -> Reply {
        let Some(lock) = self.held.get_mut(name).filter(|lock| lock.token == token) else {
            return Reply::failed(Failure::LockLost);
        };
        let ttl_ms = ttl_ms.unwrap_or(lock.holder.ttl_ms);
        self.places.remove(name, lock.ticket, Some(token), &lock.holder);
        lock.holder.ttl_ms = ttl_ms;
        lock.holder.deadline_ms = now_ms.saturating_add(ttl_ms);
        self.places.add(name, lock.ticket, Some(token), &lock.holder);
        Reply::Granted { token, ttl_ms }
    }

    /// The answer to a repeated request. A grant that was kept says nothing of now: it is told again only where it still
    /// holds, with the time that is left. Else the repetition is refused as a new request would be, with the holder. What the
    /// holder of then shows was not kept, and is told as long as it holds the lock.
    pub(super) fn replay(&self, now_ms: u64, action: &Action, reply: Reply) -> Reply {
        let Reply::Replayed { index, reply: kept } = &reply else { return reply };
        if let (Action::Acquire { name, .. }, Reply::Failed(failure)) = (action, &**kept)
            && let Failure::Locked(view) = &**failure
        {
            let body =
                self.held.get(name).filter(|lock| lock.token == view.token).and_then(|lock| lock.holder.body.clone());
            let locked = Reply::failed(Failure::Locked(LockView { body, ..view.clone() }));
            return Reply::Replayed { index: *index, reply: Box::new(locked) };
        }
        let (name, renewed) = match (action, &**kept) {
            (Action::Acquire { name, .. }, Reply::Granted { .. } | Reply::Queued) => (name, None),
            (Action::Renew { name, token, .. }, Reply::Granted { .. }) => (name, Some(*token)),
            _ => return reply,
        };
        let Some(lock) = self.held.get(name) else { return Reply::failed(Failure::LockLost) };
        let is_holder = renewed.map_or(lock.ticket == *index, |token| lock.token == token);
        if is_holder && lock.holder.deadline_ms > now_ms {
            let held = Reply::Granted { token: lock.token, ttl_ms: lock.holder.deadline_ms - now_ms };
            return Reply::Replayed { index: *index, reply: Box::new(held) };
        }
        match renewed {
            None if lock.waiters.contains_key(index) => reply,
            None if !is_holder => Reply::failed(Failure::Locked(lock.view())),
            _ => Reply::failed(Failure::LockLost),
        }
    }

    pub(super) fn release(
        &mut self,
        index: u64,
        now_ms: u64,
        name: &Key,
        token: u64,
        events: &mut Events<'_>,
    ) -> Reply {
        if self.held.get(name).is_none_or(|lock| lock.token != token) {
            return Reply::failed(Failure::LockLost);
        }
        events.push(Change::Released { lock: name.clone(), token });
        self.pass_on(index, now_ms, name, events);
        Reply::Done
    }

    pub(super) fn cancel(&mut self, index: u64, now_ms: u64, name: &Key, ticket: u64, events: &mut Events<'_>) {
        let Some(lock) = self.held.get_mut(name) else { return };
        if lock.ticket == ticket {
            let token = lock.token;
            self.release(index, now_ms, name, token, events);
        } else if let Some(claim) = lock.waiters.remove(&ticket) {
            self.places.remove(name, ticket, None, &claim);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.places.deadlines.get_min().map(|(deadline, ..)| *deadline)
    }

    /// Drops at most `most` holders and waiters whose deadline has passed. Returns how many it dropped.
    pub(super) fn expire(&mut self, index: u64, now_ms: u64, most: usize, events: &mut Events<'_>) -> usize {
        let mut dropped = 0;
        while dropped < most
            && let Some((deadline_ms, name, ticket)) = self.places.deadlines.get_min().cloned()
            && deadline_ms <= now_ms
        {
            dropped += 1;
            // By the invariants it is there.
            let Some(lock) = self.held.get_mut(&name) else { break };
            if lock.ticket == ticket {
                events.push(Change::LockExpired { lock: name.clone(), token: lock.token });
                self.pass_on(index, now_ms, &name, events);
            } else if let Some(claim) = lock.waiters.remove(&ticket) {
                self.places.remove(&name, ticket, None, &claim);
            }
        }
        dropped
    }

    /// Takes the lock from its holder and grants it to the first waiter whose deadline has not passed.
    fn pass_on(&mut self, index: u64, now_ms: u64, name: &Key, events: &mut Events<'_>) {
        let Some(mut lock) = self.held.remove(name) else { return };
        self.places.remove(name, lock.ticket, Some(lock.token), &lock.holder);
        while let Some((ticket, mut claim)) = lock.waiters.get_min().cloned() {
            lock.waiters.remove(&ticket);
            self.places.remove(name, ticket, None, &claim);
            if claim.deadline_ms > now_ms {
                claim.deadline_ms = now_ms.saturating_add(claim.ttl_ms);
                return self.grant(index, ticket, name.clone(), claim, lock.waiters, events);
            }
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

    pub(super) fn view(&self, name: &str) -> Option<LockView> {
        self.held.get(name).map(Held::view)
    }

    /// The first lock from there on, if its name begins with `prefix`.
    pub(super) fn next(&self, prefix: &str, from: Bound<&str>) -> Option<(&Key, LockView)> {
        let (name, held) = self.held.range::<_, str>((from, Bound::Unbounded)).next()?;
        name.starts_with(prefix).then(|| (name, held.view()))
    }

    pub(super) fn ticket(&self, name: &str, ticket: u64) -> Ticket {
        match self.held.get(name) {
            Some(lock) if lock.ticket == ticket => Ticket::Holds { token: lock.token, ttl_ms: lock.holder.ttl_ms },
            Some(lock) if lock.waiters.contains_key(&ticket) => Ticket::Waits,
            _ => Ticket::Gone,
        }
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

    /// A hash of all locks.
    pub(super) fn digest(&self) -> u64 {
        self.places.digest
    }
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
