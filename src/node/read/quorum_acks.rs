//! The members that have answered this leader since a read began.
//!
//! Reads count requests themselves instead of going by openraft's times of acknowledgement. Where several appends are under
//! way to a follower (`appends`), openraft takes the answer to one for an answer to those behind it that add no entries
//! (0.10.0-alpha.37, `InflightAppendQueue::drain_acked`): a leader that was cut off just now would confirm a read by an
//! answer to what it sent before the read began, while another leader was elected in between.
//!
//! No clock is needed for that. Reads have numbers, and each request carries away the number of the newest read that began
//! before it was sent. The age of a quorum, which is told with weaker reads, counts from the time of sending, likewise.
//!
//! Answers are kept without the term that they were given in. That is sound for a leader that has given no later vote than
//! the one it leads by: a member that followed this node in that term or an earlier one, at some moment, had then given no
//! later vote either. A caller that counts answers must therefore compare the vote before and after
//! ([`Node::confirm_as_leader`](crate::node::Node::confirm_as_leader)): answers to a *later* term of this node would else
//! confirm a read of an earlier one, while another led in between.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::raft_types::RaftId;
use crate::raft_types::alias::{LogId, StoredMembership};

/// When something was sent.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Sent {
    /// The newest read that had begun.
    read: u64,
    at: Instant,
}

impl Sent {
    /// How long ago that was.
    pub(in crate::node) fn elapsed(self) -> Duration {
        self.at.elapsed()
    }
}

/// The answers of all members.
#[derive(Debug, Default)]
pub(in crate::node) struct QuorumAcks {
    reads: AtomicU64,
    /// By member, the newest that it has answered, as one that follows this node.
    answered: Mutex<BTreeMap<RaftId, Sent>>,
    changed: Notify,
    /// The newest commit index that was told to any member.
    told_commit: Mutex<Option<LogId>>,
}

impl QuorumAcks {
    /// A read begins; its number.
    pub(in crate::node) fn begin(&self) -> u64 {
        self.reads.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A request is about to be sent that tells this commit index. Gives what to pass to
    /// [`answered`](Self::answered) once it is answered.
    pub(in crate::node) fn sending(&self, commit: Option<LogId>) -> Sent {
        let mut told = self.told_commit.lock();
        *told = (*told).max(commit);
        drop(told);
        Sent { read: self.reads.load(Ordering::SeqCst), at: Instant::now() }
    }

    /// The newest commit index that any member can have heard of from this node.
    pub(in crate::node) fn told_commit(&self) -> Option<LogId> {
        *self.told_commit.lock()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RaftId, Sent>> {
        // Each change is one assignment, so a panic elsewhere leaves nothing half done.
        self.answered.lock()
    }

    /// A member that follows this node has answered what was sent then.
    pub(in crate::node) fn answered(&self, by: RaftId, sent: Sent) {
        let mut answered = self.lock();
        let newest = answered.entry(by).or_insert(Sent { read: 0, ..sent });
        let is_news = newest.read < sent.read;
        *newest = Sent { read: newest.read.max(sent.read), at: newest.at.max(sent.at) };
        drop(answered);
        if is_news {
            self.changed.notify_waiters();
        }
    }

    /// When the newest was sent that a majority of each of these sets of voters has answered, where `me` has answered all.
    pub(in crate::node) fn last_quorum(&self, me: RaftId, configs: &[BTreeSet<RaftId>]) -> Option<Instant> {
        self.last_quorum_of(|id| id == me, configs)
    }

    /// The same, where all members for which `follows_now` holds have answered all.
    pub(in crate::node) fn last_quorum_of(
        &self,
        follows_now: impl Fn(RaftId) -> bool,
        configs: &[BTreeSet<RaftId>],
    ) -> Option<Instant> {
        let (answered, now) = (self.lock(), Instant::now());
        reached(configs, |id| if follows_now(id) { Some(now) } else { answered.get(&id).map(|sent| sent.at) })
    }

    /// How long ago a quorum answered: as openraft has it, or longer.
    pub(in crate::node) fn at_least(&self, acked: Duration, me: RaftId, membership: &StoredMembership) -> Duration {
        let configs = membership.membership().get_joint_config();
        self.last_quorum(me, configs).map_or(acked, |at| acked.max(at.elapsed()))
    }

    /// Waits until a quorum has answered something sent after this read began, as [`last_quorum`](Self::last_quorum)
    /// counts; the voters may change meanwhile.
    pub(in crate::node) async fn since(&self, read: u64, me: RaftId, voters: impl Fn() -> Vec<BTreeSet<RaftId>>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look: what is answered after it must be heard.
            changed.as_mut().enable();
            // Not under the lock: callers look at openraft's metrics, and others come here while they hold these.
            let configs = voters();
            if self.last_read(me, &configs) >= Some(read) {
                return;
            }
            changed.await;
        }
    }

    /// The newest read since which a quorum has answered something.
    fn last_read(&self, me: RaftId, configs: &[BTreeSet<RaftId>]) -> Option<u64> {
        let answered = self.lock();
        reached(configs, |id| if id == me { Some(u64::MAX) } else { answered.get(&id).map(|sent| sent.read) })
    }
}

/// Tells whether these are a majority of each of these sets of voters.
pub(in crate::node) fn is_quorum(configs: &[BTreeSet<RaftId>], is_one: impl Fn(RaftId) -> bool) -> bool {
    reached(configs, |id| Some(is_one(id))) == Some(true)
}

/// The most that a majority of each of these sets of voters has reached.
fn reached<T: Ord + Copy>(configs: &[BTreeSet<RaftId>], by: impl Fn(RaftId) -> Option<T>) -> Option<T> {
    let of = |voters: &BTreeSet<RaftId>| {
        let mut each: Vec<_> = voters.iter().map(|id| by(*id)).collect();
        each.sort_unstable_by(|a, b| b.cmp(a));
        each.get(voters.len() / 2).copied().flatten()
    };
    configs.iter().map(of).min().flatten()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_was_sent_before_a_read_does_not_count_for_it() {
        let acks = QuorumAcks::default();
        let since = async |read| acks.since(read, 1, || vec![BTreeSet::from([1, 2, 3, 4, 5])]).await;
        let before = acks.sending(None);
        let read = acks.begin();
        let mut quorum = Box::pin(since(read));
        acks.answered(2, before);
        acks.answered(3, before);
        assert_eq!(quorum.as_mut().now_or_never(), None);
        let after = acks.sending(None);
        acks.answered(2, after);
        acks.answered(6, after);
        assert_eq!(quorum.as_mut().now_or_never(), None, "two of five, and one who is none of them");
        acks.answered(3, after);
        assert_eq!(quorum.now_or_never(), Some(()));
        acks.answered(3, before);
        assert_eq!(since(read).now_or_never(), Some(()), "an older answer takes nothing back");
        let joint = || vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])];
        assert_eq!(acks.since(read, 1, joint).now_or_never(), None, "both must have a majority");
        let next = acks.begin();
        assert_eq!(since(next).now_or_never(), None);
        assert_eq!(acks.since(next, 1, || vec![BTreeSet::from([1])]).now_or_never(), Some(()), "alone");
    }

    /// The first answer of a member was kept, and nobody woken.
    #[tokio::test(start_paused = true)]
    async fn a_read_that_waits_is_woken_by_the_first_answer_of_all() {
        let acks = QuorumAcks::default();
        let read = acks.begin();
        let answers = async {
            tokio::task::yield_now().await;
            acks.answered(2, acks.sending(None));
        };
        let confirmed = acks.since(read, 1, || vec![BTreeSet::from([1, 2, 3])]);
        let both = async { tokio::join!(confirmed, answers) };
        tokio::time::timeout(Duration::from_secs(1), both).await.expect("it is woken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quorum_is_as_old_as_what_it_answered() {
        let (acks, began) = (QuorumAcks::default(), Instant::now());
        let voters = [BTreeSet::from([1, 2, 3, 4, 5])];
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(acks.sending(None));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let at = |secs| Some(began + Duration::from_secs(secs));
        acks.answered(2, sent[2]);
        assert_eq!(acks.last_quorum(1, &voters), None, "two of five");
        acks.answered(3, sent[0]);
        assert_eq!(acks.last_quorum(1, &voters), at(0));
        acks.answered(4, sent[1]);
        acks.answered(2, sent[0]);
        assert_eq!(acks.last_quorum(1, &voters), at(1));
        let joint = [voters[0].clone(), BTreeSet::from([1, 2, 3])];
        assert_eq!(acks.last_quorum(1, &joint), at(1));
        let joint = [voters[0].clone(), BTreeSet::from([1, 3])];
        assert_eq!(acks.last_quorum(1, &joint), at(0));
        assert_eq!(acks.last_quorum(1, &[BTreeSet::from([1])]), at(3), "alone, it is now");
    }
}
