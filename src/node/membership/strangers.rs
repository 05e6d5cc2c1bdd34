//! Which strangers called: leaders that know this node's address under another Raft id or cluster.
//!
//! A node with an empty disk listens here before it forms a cluster of its own, a node whose address another cluster has
//! stops serving, and everybody uses it to say a thing once rather than with every heartbeat.
//!
//! Nothing comes in here on the word of one message: `vouch`, beside this, has dialled whom it names.

use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::node_id::PublicId;

/// How long the word of a leader of another cluster counts. A living one calls several times a second.
const FOREIGN_LAPSE: Duration = Duration::from_secs(10);

/// Callers that are dialled at a time. One more takes the place of the one that has not answered for longest.
const MAX_DIALLED: usize = 64;

/// Different things that are said once; then the count begins anew, because others choose how many there are.
const MAX_SAID: usize = 1024;

/// How long after a cluster asked for this node it may still let it in.
const ASKED_LAPSE: Duration = Duration::from_secs(3);

/// The calls of strangers.
#[derive(Debug, Default)]
pub(in crate::node) struct Strangers {
    /// The last leader that called this node's address but meant another Raft node.
    leader: watch::Sender<Option<PublicId>>,
    /// When a node that has a cluster last asked who this one is.
    asked_for: Mutex<Option<Instant>>,
    /// Since when a leader of another cluster has this address for one of its own, by its last call, and what to say of it.
    foreign: Mutex<Option<(Instant, String)>>,
    /// Callers that are being dialled, the first one first.
    dialled: Mutex<VecDeque<(PublicId, CancellationToken)>>,
    said: Mutex<HashSet<String>>,
}

impl Strangers {
    /// A leader called this node's public id, but another Raft id.
    pub(super) fn leader_called(&self, from: PublicId) {
        self.leader.send_replace(Some(from));
    }

    /// The leader that called, once there is one.
    pub(in crate::node) fn leader(&self) -> watch::Receiver<Option<PublicId>> {
        self.leader.subscribe()
    }

    /// A node that has a cluster asked who this one is: to let it in, perhaps.
    pub(in crate::node) fn asks_for(&self) {
        *self.asked_for.lock() = Some(Instant::now());
    }

    /// True for a while after a cluster asked for this node. A leader that lets it in calls it right afterwards.
    pub(in crate::node) fn is_asked_for(&self) -> bool {
        self.asked_for.lock().is_some_and(|at| at.elapsed() < ASKED_LAPSE)
    }

    /// A leader of another cluster has this node's address, which is a reason to refuse requests. True where that is new.
    pub(super) fn set_foreign(&self, why: &str) -> bool {
        let is_new = self.foreign().is_none();
        *self.foreign.lock() = Some((Instant::now(), why.to_owned()));
        is_new
    }

    /// The reason to refuse requests, as long as a leader of another cluster calls this node.
    pub(in crate::node) fn foreign(&self) -> Option<String> {
        let foreign = self.foreign.lock();
        foreign.as_ref().filter(|(at, _)| at.elapsed() < FOREIGN_LAPSE).map(|(_, why)| why.clone())
    }

    /// Ends once no leader of another cluster has called for [`FOREIGN_LAPSE`].
    pub(super) async fn foreign_lapses(&self) {
        while let Some(until) = self.foreign_until() {
            tokio::time::sleep_until(until).await;
        }
    }

    fn foreign_until(&self) -> Option<Instant> {
        let until = self.foreign.lock().as_ref().map(|(at, _)| *at + FOREIGN_LAPSE);
        until.filter(|until| *until > Instant::now())
    }

    /// A place to dial `caller` from; `None` where it is being dialled.
    pub(in crate::node) fn dial(&self, caller: &PublicId) -> Option<Dialled<'_>> {
        let mut dialled = self.dialled.lock();
        if dialled.iter().any(|(other, _)| other == caller) {
            return None;
        }
        if dialled.len() >= MAX_DIALLED
            && let Some((_, gone)) = dialled.pop_front()
        {
            gone.cancel();
        }
        let gone = CancellationToken::new();
        dialled.push_back((caller.clone(), gone.clone()));
        Some(Dialled { strangers: self, caller: caller.clone(), gone })
    }

    /// True for the first call with this text only.
    pub(in crate::node) fn first_time(&self, what: String) -> bool {
        let mut said = self.said.lock();
        if said.len() >= MAX_SAID {
            said.clear();
        }
        said.insert(what)
    }
}

/// The place of a caller that is being dialled, for as long as this lives.
#[derive(Debug)]
pub(in crate::node) struct Dialled<'a> {
    strangers: &'a Strangers,
    caller: PublicId,
    /// Cancelled where another needs the place.
    pub(in crate::node) gone: CancellationToken,
}

impl Drop for Dialled<'_> {
    fn drop(&mut self) {
        // Where it was cancelled the place is not its own any more: the same caller may be dialled anew.
        if !self.gone.is_cancelled() {
            self.strangers.dialled.lock().retain(|(caller, _)| *caller != self.caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 18, B1: callers that are silent do not keep the leader out.
    #[test]
    fn a_caller_that_does_not_answer_makes_place_for_another() {
        let strangers = Strangers::default();
        let id = |n: usize| format!("127.0.0.1:{},127.0.0.1:{}", n + 1, n + 2).parse().unwrap();
        let silent: Vec<_> = (0..MAX_DIALLED).map(|n| strangers.dial(&id(n)).unwrap()).collect();
        assert!(strangers.dial(&id(5)).is_none(), "once at a time");
        let leader = strangers.dial(&id(1_000)).unwrap();
        assert!(silent[0].gone.is_cancelled() && !silent[1].gone.is_cancelled() && !leader.gone.is_cancelled());
        assert!(strangers.dial(&id(0)).is_some(), "and anew afterwards");
        drop((silent, leader));
        assert!(strangers.dialled.lock().is_empty());
    }

    #[test]
    fn a_thousand_strangers_silence_nobody() {
        let strangers = Strangers::default();
        assert!((0..5_000).all(|n| strangers.first_time(format!("{n}"))));
        assert!(!strangers.first_time("4999".to_owned()));
    }
}
