//! The tasks that watch: phases of starting, events for the log, the size of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, interval, timeout};

use crate::node::status::even_voters;
use crate::node::{Leader, Node, Phase};
use crate::raft_types::RaftId;

/// How often silence is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A number of voters that stays this long is meant.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// A snapshot that was asked for and did not come is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A member that acknowledges nothing for this long is reported lost.
const LOST_AFTER: Duration = Duration::from_secs(2);

impl Node {
    /// Moves [`Phase`] on, from joining to ready.
    pub(in crate::node) async fn follow_phases(self) {
        let me = self.inner.me.raft_id();
        let mut metrics = self.metrics();
        // Only a *committed* membership makes a member.
        if metrics.wait_until(|m| m.committed_membership_config.get_node(&me).is_some()).await.is_err() {
            return;
        }
        self.inner.phase.send_replace(Phase::Replaying);
        let mut applied = self.inner.map.applied();
        if applied.wait_for(|applied| *applied >= self.inner.committed_at_open).await.is_err() {
            return;
        }
        self.inner.phase.send_replace(Phase::Recovering);
        loop {
            let deadline = Instant::now() + Duration::from_secs(10);
            if let Ok(index) = self.read_index(deadline).await
                && self.wait_applied(index, deadline).await.is_ok()
            {
                break;
            }
            if self.inner.me.removed().borrow().is_some() {
                return;
            }
        }
        self.inner.phase.send_replace(Phase::Ready);
        tracing::info!("ready: caught up with the cluster at index {}", self.applied_index());
    }

    /// A removed node applies nothing more: who watches here would wait for ever.
    pub(in crate::node) async fn end_watches_once_removed(self) {
        if self.inner.me.removed().wait_for(Option::is_some).await.is_ok() {
            self.watches().close();
        }
    }

    /// One line for each event an operator would act on.
    pub(in crate::node) async fn report_changes(self) {
        let mut server = self.inner.raft.server_metrics();
        let mut last_leader = None;
        let mut lost: BTreeSet<RaftId> = BTreeSet::new();
        let mut since: BTreeMap<RaftId, Instant> = BTreeMap::new();
        let mut even = None;
        loop {
            if matches!(timeout(LOOK_EVERY, server.changed()).await, Ok(Err(_))) {
                return;
            }
            let (leader, term) = {
                let now = server.borrow_and_update();
                (
                    now.current_leader.map(|id| (id, now.membership_config.get_node(&id).cloned())),
                    now.vote.leader_id.term,
                )
            };
            // The same leader in a later term was elected again.
            // After a restart the stored vote names a leader; it is one once it was heard.
            let mine = leader.as_ref().is_some_and(|(id, _)| *id == self.inner.me.raft_id());
            let heard = mine || self.inner.contact.age().is_some();
            let seen = leader.as_ref().filter(|_| heard).map(|(id, _)| (*id, term));
            if seen.is_some() && seen != last_leader {
                if let Some((id, member)) = leader {
                    if id == self.inner.me.raft_id() {
                        tracing::info!("this node is the leader, term {term}");
                    } else if let Some(member) = member {
                        tracing::info!("the leader is {}, term {term}", member.id);
                    }
                }
                last_leader = seen;
            }
            if self.leader() == Some(Leader::NodeIdentity) {
                self.report_even(&mut even);
                self.report_lost(&mut lost, &mut since);
            } else {
                even = None;
                lost.clear();
                since.clear();
            }
        }
    }

    /// As the leader: says that there is an even number of voters, once it has stayed so for a while: a
    /// cluster that grows passes through them.
    fn report_even(&self, even: &mut Option<(usize, Instant, bool)>) {
        let voters = self.members().iter().filter(|member| member.server.voter).count();
        let Some(what) = even_voters(voters) else {
            *even = None;
            return;
        };
        match even {
            Some((seen, since, said)) if *seen == voters => {
                if !*said && since.elapsed() >= SETTLED_AFTER {
                    *said = true;
                    tracing::warn!("{what}");
                }
            }
            _ => *even = Some((voters, Instant::now(), false)),
        }
    }

    /// As the leader: says which members stopped answering and which are back.
    fn report_lost(&self, lost: &mut BTreeSet<RaftId>, since: &mut BTreeMap<RaftId, Instant>) {
        let members = self.members();
        since.retain(|raft_id, _| members.iter().any(|member| member.raft_id == *raft_id));
        for member in members {
            if member.raft_id == self.inner.me.raft_id() {
                continue;
            }
            let silent = match self.silence_of(member.raft_id) {
                Some(silence) => silence > LOST_AFTER,
                // Counted from when this leader first had it as a member.
                None => since.entry(member.raft_id).or_insert_with(Instant::now).elapsed() > LOST_AFTER,
            };
            let id = &member.server.id;
            if silent && lost.insert(member.raft_id) {
                tracing::warn!("{id} does not answer");
            } else if !silent && lost.remove(&member.raft_id) {
                tracing::info!("{id} answers again");
            }
        }
    }

    /// Keeps the log bounded in bytes, not only in entries: big values fill a disk long before the
    /// snapshot threshold counts enough of them.
    pub(in crate::node) async fn bound_the_log(self) {
        let mut tick = interval(LOOK_EVERY);
        let mut asked = None;
        loop {
            tick.tick().await;
            if self.inner.log.bytes() <= self.inner.options.snapshot_bytes {
                continue;
            }
            let (snapshot, applied, purged) = {
                let metrics = self.inner.raft.metrics();
                let metrics = metrics.borrow_watched();
                (metrics.snapshot, metrics.last_applied, metrics.purged)
            };
            // One that could not be written (a full disk) left the snapshot where it was: it is asked for again, later.
            let due = asked.is_none_or(|(at, when): (_, Instant)| snapshot > at || when.elapsed() >= ASK_AGAIN_AFTER);
            if due && applied > snapshot {
                asked = Some((snapshot, Instant::now()));
                if self.inner.raft.trigger().snapshot().await.is_err() {
                    return;
                }
            } else if let Some(snapshot) = snapshot
                && purged < Some(snapshot)
                && self.inner.raft.trigger().purge_log(snapshot.index).await.is_err()
            {
                return;
            }
        }
    }
}
