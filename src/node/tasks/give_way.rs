//! A leader that gets nothing committed hands over to a voter that may do better.
//!
//! It helps where the leader's own ways are at fault, and not all of them: with five voters, say, large packets to three of
//! them get lost (an MTU hole), and the fourth acknowledges entries. That one may reach the three. Nobody can know before
//! it leads, so this is a trial, and a cluster makes one a minute at most: each voter hears of a transfer, and begins none
//! for as long after it.
//!
//! Heartbeats are small, and arrive where entries do not. So the successor must have acknowledged *entries*: all that the
//! leader had half a second ago, one that waits among them. It must have answered within two heartbeats, as must a
//! majority, which has to elect it. A leader whose disk hangs is not counted into that majority: it can save no vote.
//!
//! The leader only warns where nobody acknowledges what waits:
//! * with three voters always. One that acknowledges is a majority together with the leader, so nothing waits.
//! * where the leader's packets get lost on the way to all others.
//! * where the disks of a majority hang.
//!
//! A leader alone whose disk hangs needs no successor: it commits what the others have on their disks, before it has it on
//! its own.

use std::time::Duration;

use futures_util::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use crate::node::Node;
use crate::node::membership::transfer::TRANSFER_TIMEOUT;
use crate::node::read::quorum_acks::is_quorum;
use crate::node::status::silence;
use crate::raft_types::RaftId;
use crate::task;

/// The least time between two transfers, the second of which is such a trial.
const TRIAL_INTERVAL: Duration = Duration::from_secs(60);

impl Node {
    /// Leadership is being handed over, by this leader or another.
    pub(in crate::node) fn note_transfer(&self) {
        *self.inner.transfer_at.lock() = Some(Instant::now());
    }

    /// As the leader of a cluster in which nothing goes on: hands over to the voter that has acknowledged most, if there
    /// is one that has the entry `last_before`, and if it is time for a trial.
    pub(in crate::node) fn give_way(&self, last_before: Option<u64>, disk_hangs: bool) {
        if self.inner.transfer_at.lock().is_some_and(|at| at.elapsed() < TRIAL_INTERVAL) {
            return;
        }
        let successors = self.successors(last_before, disk_hangs);
        if successors.is_empty() {
            return;
        }
        // Before it is known whether one answers: whoever was looked for in vain is not there half a second later, either.
        self.note_transfer();
        let node = self.clone();
        task::spawn(async move {
            let answers = join_all(successors.iter().map(|id| node.answers_now(*id))).await;
            let Some(successor) = successors.into_iter().zip(answers).find_map(|(id, is)| is.then_some(id)) else {
                return;
            };
            let name = node.name_of(successor);
            tracing::warn!("nothing is committed here: handing leadership to {name}, which acknowledged what waits");
            match node.transfer_to(successor, Instant::now() + TRANSFER_TIMEOUT).await {
                Some(leader) => tracing::info!("{} leads", node.name_of(leader)),
                None => tracing::warn!("{name} did not become the leader in time"),
            }
        });
    }

    /// The voters that may do better than this leader, the best first.
    fn successors(&self, last_before: Option<u64>, disk_hangs: bool) -> Vec<RaftId> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return Vec::new();
        }
        let recent = Duration::from_millis(self.inner.options.heartbeat_ms * 2);
        let answered = |id: RaftId| silence(&metrics, id).is_some_and(|silence| silence <= recent);
        let votes = |id: RaftId| if id == metrics.id { !disk_hangs } else { answered(id) };
        let membership = &metrics.membership_config;
        if !is_quorum(membership.membership().get_joint_config(), votes) {
            return Vec::new();
        }
        let committed = metrics.local_committed.map(|id| id.index);
        let matched = |id: RaftId| Some(metrics.replication.as_ref()?.get(&id)?.as_ref()?.index);
        let others = membership.voter_ids().filter(|id| *id != metrics.id && answered(*id));
        let mut successors: Vec<(Option<u64>, RaftId)> = others.map(|id| (matched(id), id)).collect();
        successors.retain(|(matched, _)| *matched > committed && *matched >= last_before);
        successors.sort_unstable_by(|a, b| b.cmp(a));
        successors.into_iter().map(|(_, id)| id).collect()
    }
}
