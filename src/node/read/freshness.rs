//! The age of this node's state, and of its contact with a leader, by this node's own clock alone.
//!
//! A message may have been on its way, or in a socket of a process that stood still, for any time: its receipt says nothing
//! of its age. An age therefore counts from a *stamp*, a moment on this node's clock that went out with an answer and came
//! back with a later message:
//!
//! 1. A follower F puts a stamp `s` on each answer to an append.
//! 2. Its leader L receives the answer at `r`, later than `s` ([`FollowerStamps`](super::follower_stamps::FollowerStamps)).
//! 3. L learns that a quorum followed it at some moment `m`, later than `r`: each of the quorum answered something that L
//!    sent after `m`, and L has given no later vote ([`Node::confirmed`]).
//! 4. L reads its commit index `c` and sends F the word that `s` is covered by `c` ([`Confirmed`]).
//! 5. F is as fresh as `s` once it has applied `c`. Its age is the time that its own clock counts since `s`.
//!
//! The claim of step 4 is: whatever anybody had seen committed when `s` was given, its index is at most `c`.
//!
//! * *Seen from leaders of later terms*: there is nothing. Such a leader needs a majority of votes, which has a member in
//!   common with the quorum of step 3. That member still followed L at `m`, and votes only grow.
//! * *Seen from L in this term*: a client of L sees an entry once L has applied it, and another node shows it once L has
//!   told that it is committed. `c` is read after `m`, and is the larger of what L has applied and of all commit indexes
//!   that L has begun to send.
//! * *Seen from leaders of earlier terms*: L has all of that in its log, before the first entry of its own term. L says
//!   nothing before an entry of its own term is committed.
//!
//! A voter F counts as one that follows L when it accepts the message of step 4. In a cluster of three, L and F are the
//! quorum, and `m` is the moment at which L sends the message: an idle follower is one to two heartbeats old. In a larger
//! cluster, and at a learner, L waits for answers to its next heartbeat first: two to three.
//!
//! The rest follows from that:
//!
//! * *Several streams, lost and reordered messages*: each claim is true by itself, whenever it arrives. Older ones are
//!   dropped.
//! * *Restarts*: a stamp names its process. L may give back one of F's last process, which F ignores. L forgets all with its
//!   own process, and F is told nothing until it has answered once.
//! * *Another leader*: what the last one said stays true, and F grows older until the new one has heard from it.
//! * *Snapshots*: only the applied index counts, however F came by it.
//! * *A leader that is cut off* goes on sending, and `m` stays where it is.
//! * *A leader's own age* is that of `m`, with the same `c`.
//!
//! Caveat: clocks that count at different speeds do not matter, a clock that stops does. A machine that is suspended, with its
//! monotonic clock, takes its state for younger by that time until a leader is heard.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use crate::node::Node;
use crate::node::leader::Leader;
use crate::node::rpc::{Confirmed, Stamp};
use crate::raft_types::RaftId;

/// Claims that wait to be covered by what is applied.
const MAX_PENDING_CLAIMS: usize = 256;

/// Claims that follow one another faster are dropped: the state is taken for older by so much.
const MIN_CLAIM_INTERVAL: Duration = Duration::from_millis(1);

/// The word of leaders on how fresh this node is.
#[derive(Debug)]
pub(in crate::node) struct LeaderFreshness {
    /// Tells this process's stamps from those of others.
    boot: u64,
    began: Instant,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// When a leader's message was last received, however old it was.
    received: Option<Instant>,
    /// The newest stamp that a leader gave back.
    echoed: Option<Instant>,
    /// The newest moment at which this node's applied state was all that was committed.
    fresh: Option<Instant>,
    /// Moments with the index that covers them, oldest first.
    pending: VecDeque<(Instant, u64)>,
}

impl Heard {
    /// Everything up to this index is applied.
    fn apply(&mut self, applied: u64) {
        while let Some((at, committed)) = self.pending.front().copied()
            && committed <= applied
        {
            self.fresh = self.fresh.max(Some(at));
            self.pending.pop_front();
        }
    }
}

impl LeaderFreshness {
    /// Nothing was heard yet; `boot` is a random number of this process.
    pub(in crate::node) fn new(boot: u64) -> Self {
        Self { boot, began: Instant::now(), heard: Mutex::default() }
    }

    /// A stamp to give away now.
    pub(in crate::node) fn stamp(&self) -> Stamp {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Stamp { boot: self.boot, micros }
    }

    /// When this process gave a stamp away; `None` where it did not.
    fn given_at(&self, stamp: Stamp) -> Option<Instant> {
        let at = self.began.checked_add(Duration::from_micros(stamp.micros))?;
        (stamp.boot == self.boot && at <= Instant::now()).then_some(at)
    }

    /// A leader's message was received, however old it may be: good enough for timers only.
    pub(in crate::node) fn received(&self) {
        self.heard.lock().received = Some(Instant::now());
    }

    /// A leader's message was accepted that says this, by a node that has applied everything up to `applied`.
    pub(in crate::node) fn heard(&self, echo: Option<Stamp>, confirmed: Option<Confirmed>, applied: u64) {
        self.received();
        let echoed = echo.and_then(|stamp| self.given_at(stamp));
        {
            let mut heard = self.heard.lock();
            heard.echoed = heard.echoed.max(echoed);
        }
        if let Some(Confirmed { stamp, committed }) = confirmed
            && let Some(at) = self.given_at(stamp)
        {
            self.covered(at, committed, applied);
        }
    }

    /// All that anybody had seen committed at this moment has an index of at most `committed`.
    fn covered(&self, at: Instant, committed: u64, applied: u64) {
        let mut heard = self.heard.lock();
        // There is room for this one where nobody asked for the age since many others.
        heard.apply(applied);
        let newest = heard.pending.back().map(|(newest, _)| *newest).max(heard.fresh);
        let is_later = newest.is_none_or(|newest| at >= newest + MIN_CLAIM_INTERVAL);
        // The first to be covered are the oldest: they are not given up for newer ones.
        if is_later && heard.pending.len() < MAX_PENDING_CLAIMS {
            heard.pending.push_back((at, committed));
        }
    }

    /// How long ago a leader's message was received, however old that was; `None` for never.
    pub(in crate::node) fn since_received(&self) -> Option<Duration> {
        self.heard.lock().received.map(|at| at.elapsed())
    }

    /// How long ago, at most, a leader was in contact with this node; `None` for never.
    pub(in crate::node) fn last_contact(&self) -> Option<Duration> {
        self.heard.lock().echoed.map(|at| at.elapsed())
    }

    /// How old the state may be that has everything up to `applied`, in whole milliseconds; `None` for not known.
    fn staleness(&self, applied: u64) -> Option<Duration> {
        let mut heard = self.heard.lock();
        heard.apply(applied);
        heard.fresh.map(|at| whole_ms(at.elapsed()))
    }
}

/// Rounded up: what is told is never below the truth.
fn whole_ms(age: Duration) -> Duration {
    Duration::from_millis(u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

impl Node {
    /// How old this node's state may be, in whole milliseconds; `None` where no leader has said anything yet.
    pub fn staleness(&self) -> Option<Duration> {
        if self.leader() == Some(Leader::ThisNode)
            && let Some((at, committed)) = self.confirmed(None)
        {
            self.inner.freshness.covered(at, committed, self.applied_index());
        }
        self.inner.freshness.staleness(self.applied_index())
    }

    /// As the leader: a moment at which a quorum followed this node, and an index that is at least that of everything
    /// that anybody had seen committed by then. `follower` will accept what it is told, so it follows now.
    fn confirmed(&self, follower: Option<RaftId>) -> Option<(Instant, u64)> {
        let me = self.inner.me.raft_id();
        let leads = || {
            let vote = self.inner.log.vote()?;
            (vote.committed && vote.leader_id.voted_for == me).then_some(vote.leader_id.term)
        };
        leads()?;
        let at = {
            let server = self.inner.raft.server_metrics();
            let server = server.borrow_watched();
            let configs = server.membership_config.membership().get_joint_config();
            self.inner.acks.last_quorum_of(|id| id == me || Some(id) == follower, configs)?
        };
        // In this order: the moment, then the vote that still counts, then what is committed.
        let term = leads()?;
        let told = self.inner.acks.told_commit().filter(|commit| commit.leader_id.term == term);
        let applied_own = || {
            let metrics = self.inner.raft.metrics();
            metrics.borrow_watched().last_applied.is_some_and(|id| id.leader_id.term == term)
        };
        (told.is_some() || applied_own()).then(|| (at, told.map_or(0, |id| id.index).max(self.applied_index())))
    }

    /// The newest stamp got from a member, and, as its leader, the word to it about its freshness.
    pub(in crate::node) fn freshness_of(&self, member: RaftId) -> (Option<Stamp>, Option<Confirmed>) {
        let stamps = &self.inner.stamps;
        let confirmed = self
            .confirmed(Some(member))
            .and_then(|(at, committed)| stamps.received_by(member, at).map(|stamp| Confirmed { stamp, committed }));
        (stamps.newest(member), confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    async fn pass(time: u64) {
        tokio::time::advance(ms(time)).await;
    }

    fn heard(freshness: &LeaderFreshness, stamp: Stamp, committed: u64) {
        freshness.heard(Some(stamp), Some(Confirmed { stamp, committed }), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_is_as_old_as_the_newest_stamp_it_covers() {
        let freshness = LeaderFreshness::new(7);
        pass(1_000).await;
        assert_eq!((freshness.staleness(9), freshness.last_contact()), (None, None));
        let first = freshness.stamp();
        pass(20).await;
        heard(&freshness, first, 5);
        assert_eq!(freshness.staleness(4), None);
        assert_eq!(freshness.staleness(5), Some(ms(20)));
        let second = freshness.stamp();
        pass(100).await;
        heard(&freshness, second, 8);
        assert_eq!(freshness.staleness(7), Some(ms(120)), "what was committed later is not applied yet");
        assert_eq!(freshness.staleness(8), Some(ms(100)));
        // A leader that is cut off says the same for ever, and one that was overtaken says less.
        pass(500).await;
        heard(&freshness, second, 8);
        heard(&freshness, first, 5);
        assert_eq!(freshness.staleness(8), Some(ms(600)));
    }

    /// However long a message was on its way, or waited for a process that stood still.
    #[tokio::test(start_paused = true)]
    async fn time_in_flight_counts() {
        let freshness = LeaderFreshness::new(7);
        let stamp = freshness.stamp();
        pass(4_000).await;
        heard(&freshness, stamp, 1);
        assert_eq!((freshness.staleness(1), freshness.last_contact()), (Some(ms(4_000)), Some(ms(4_000))));
        assert_eq!(freshness.since_received(), Some(ms(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn stamps_of_another_process_or_of_the_future_mean_nothing() {
        let freshness = LeaderFreshness::new(7);
        pass(100).await;
        heard(&freshness, Stamp { boot: 8, micros: 1 }, 0);
        heard(&freshness, Stamp { boot: 7, micros: 200_000 }, 0);
        heard(&freshness, Stamp { boot: 7, micros: u64::MAX }, 0);
        assert_eq!((freshness.staleness(0), freshness.last_contact()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn claims_that_wait_are_bounded() {
        let freshness = LeaderFreshness::new(7);
        for index in 1..=1_000 {
            pass(1).await;
            heard(&freshness, freshness.stamp(), index);
        }
        let oldest_kept = MAX_PENDING_CLAIMS as u64 - 1;
        assert_eq!(freshness.staleness(2_000), Some(ms(1_000 - 1 - oldest_kept)), "the oldest are kept");
        heard(&freshness, freshness.stamp(), 1_000);
        assert_eq!(freshness.staleness(2_000), Some(ms(0)), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_nobody_asks_stays_as_fresh_as_it_is() {
        let freshness = LeaderFreshness::new(7);
        for _ in 0..10 * MAX_PENDING_CLAIMS {
            pass(100).await;
            let stamp = freshness.stamp();
            freshness.heard(Some(stamp), Some(Confirmed { stamp, committed: 5 }), 5);
        }
        assert_eq!(freshness.staleness(5), Some(ms(0)));
    }

    #[test]
    fn ages_are_rounded_up() {
        assert_eq!(whole_ms(Duration::from_nanos(1)), ms(1));
        assert_eq!(whole_ms(ms(3)), ms(3));
        assert_eq!(whole_ms(Duration::from_micros(3_001)), ms(4));
    }
}
