//! Handing leadership over: when the leader is told to stop, or asked to.
//!
//! openraft takes no writes from the moment it begins a transfer, and has no way back: a target that stands still costs an
//! election timeout without a leader. The target is therefore asked for an answer right before. One that comes to stand
//! still within that round trip costs as much as ever.

use std::time::Duration;

use futures_util::future::join_all;
use openraft::LogIdOptionExt;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::node::leader::Leader;
use crate::node::membership::{AtLeader, find};
use crate::node::rpc::EventKind;
use crate::node::rpc::{PeerReply, PeerRequest, Target};
use crate::node::status::silence;
use crate::node::{Node, NodeError};
use crate::raft_types::RaftId;
use crate::task;

/// Longer than this a transfer does not take; openraft refuses writes meanwhile.
pub(in crate::node) const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// A member that is to lead answers within this, or is not given the leadership.
const TARGET_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

impl Node {
    /// If this node leads, hands leadership to the voter that has most of the log and answered within
    /// two heartbeats; returns when another leads, or when `patience` is over.
    ///
    /// Caveat: openraft's transfer has no answer; it is only seen to have worked.
    pub async fn hand_over(&self, patience: Duration) {
        self.inner.journal.note(EventKind::Stopping, 0, None, format!("{} stops.", self.id()));
        if self.leader() != Some(Leader::ThisNode) {
            return;
        }
        // Nobody could be elected, and this leader would only be gone sooner.
        if self.check_quorum().is_err() {
            return;
        }
        let deadline = Instant::now() + patience;
        let Some(successor) = self.successor_by(deadline).await else { return };
        match self.transfer_to(successor, deadline).await {
            Some(leader) => tracing::info!("leadership handed over to {}", self.name_of(leader)),
            None => tracing::warn!("leadership could not be handed over in time; the others will elect a leader"),
        }
    }

    /// A successor; where those that follow are slow to answer, on machines that have too much to do, they are asked again.
    async fn successor_by(&self, deadline: Instant) -> Option<RaftId> {
        loop {
            let asked = Instant::now();
            if let Some(successor) = self.successor().await {
                return Some(successor);
            }
            // Those that refuse, or are gone, say so at once.
            let was_slow = asked.elapsed() >= TARGET_ANSWER_TIMEOUT;
            if !was_slow || Instant::now() + TARGET_ANSWER_TIMEOUT >= deadline || self.check_quorum().is_err() {
                return None;
            }
        }
    }

    /// As the leader that is to be removed: whether another leads now. The caller has the turn.
    pub(in crate::node) async fn step_aside(&self, deadline: Instant) -> bool {
        if self.check_quorum().is_err() {
            return false;
        }
        let Some(successor) = self.successor().await else { return false };
        self.transfer_to(successor, deadline.min(Instant::now() + TRANSFER_TIMEOUT)).await.is_some()
    }

    /// As the leader: hands leadership to the voter named, or to the best. Runs to its end even where
    /// the asker goes away.
    pub(in crate::node) async fn lead_here(&self, wanted: Option<String>, deadline: Instant) -> AtLeader {
        let node = self.clone();
        let done = task::spawn(async move {
            let to = match node.choose(wanted.as_deref()).await {
                Ok(to) => to,
                Err(error) => return Ok(Err(error)),
            };
            let name = node.name_of(to);
            let not_yet = || {
                NodeError::Timeout(format!(
                    "{name} leads, but nothing of its term is known to be committed yet; try again"
                ))
            };
            if to == node.inner.me.raft_id() {
                return Ok(node.committed_in_its_term(deadline).await.then_some(()).ok_or_else(not_yet));
            }
            // openraft takes no writes while it hands over: a membership change would wait in vain.
            let Ok(_turn) = timeout_at(deadline, node.inner.membership_turn.lock()).await else {
                return Ok(Err(NodeError::Timeout("a membership change took too long".to_owned())));
            };
            if let Err(error) = node.check_quorum() {
                return Ok(Err(error));
            }
            if !node.answers_now(to).await {
                return Ok(Err(NodeError::Conflict(format!("{name} does not answer, so it cannot lead"))));
            }
            let deadline = deadline.min(Instant::now() + TRANSFER_TIMEOUT);
            Ok(match node.transfer_to(to, deadline).await {
                Some(leader) if leader == to && node.committed_in_its_term(deadline).await => Ok(()),
                Some(leader) if leader == to => Err(not_yet()),
                Some(other) => {
                    Err(NodeError::Conflict(format!("{} became the leader instead of {name}", node.name_of(other))))
                }
                None => Err(NodeError::Timeout(format!("{name} did not become the leader in time; it still may"))),
            })
        });
        done.await.unwrap_or_else(|error| Ok(Err(NodeError::Internal(error.to_string()))))
    }

    /// Waits until an entry of the present term is applied here: before it has one, a leader takes no write, and what
    /// stops the others then has it lead in vain. False where there is none by the deadline.
    async fn committed_in_its_term(&self, deadline: Instant) -> bool {
        let mut metrics = self.metrics();
        let term = metrics.borrow_watched().current_term;
        let committed = metrics.wait_until(|m| m.last_applied.is_some_and(|last| last.leader_id.term >= term));
        matches!(timeout_at(deadline, committed).await, Ok(Ok(_)))
    }

    async fn choose(&self, wanted: Option<&str>) -> Result<RaftId, NodeError> {
        let Some(wanted) = wanted else {
            let none = || NodeError::Conflict("no other voter answers, so there is none to lead".to_owned());
            return self.successor().await.ok_or_else(none);
        };
        let members = self.members();
        let member = find::find(&members, wanted)?;
        if !member.server.voter {
            return Err(NodeError::Conflict(format!("{} is not a voter, so it cannot lead", member.server.id)));
        }
        if !self.answered_lately(member.raft_id) {
            return Err(NodeError::Conflict(format!("{} does not answer, so it cannot lead", member.server.id)));
        }
        Ok(member.raft_id)
    }

    pub(in crate::node) fn name_of(&self, raft_id: RaftId) -> String {
        let members = self.members();
        let found = members.iter().find(|member| member.raft_id == raft_id);
        found.map_or_else(|| raft_id.to_string(), |member| member.server.id.to_string())
    }

    /// Triggers the transfer and waits for another leader.
    pub(in crate::node) async fn transfer_to(&self, to: RaftId, deadline: Instant) -> Option<RaftId> {
        let me = self.inner.me.raft_id();
        let mut metrics = self.metrics();
        self.note_transfer();
        let (from, term) = (self.id().to_string(), metrics.borrow_watched().current_term);
        self.inner.journal.transfers(&from, &self.name_of(to), term);
        self.inner.raft.trigger().transfer_leader(to).await.ok()?;
        let handed = metrics.wait_until(|m| m.current_leader.is_some_and(|leader| leader != me));
        timeout_at(deadline, handed).await.ok()?.ok()?.current_leader
    }

    /// Asks a member for any answer at all.
    pub(in crate::node) async fn answers_now(&self, raft_id: RaftId) -> bool {
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.raft_id == raft_id) else { return false };
        let target = Target { raft_id: Some(raft_id), id: member.server.id.clone() };
        let asked = self.inner.peers.call(&target, PeerRequest::Status, TARGET_ANSWER_TIMEOUT);
        matches!(timeout(TARGET_ANSWER_TIMEOUT, asked).await, Ok(Ok(PeerReply::Status(..))))
    }

    /// The voter that has most of the log, of those that answer now.
    async fn successor(&self) -> Option<RaftId> {
        let candidates = self.candidates();
        let answers = join_all(candidates.iter().map(|id| self.answers_now(*id))).await;
        candidates.into_iter().zip(answers).find_map(|(id, answers)| answers.then_some(id))
    }

    /// The other voters that answered within two heartbeats, those with most of the log first.
    fn candidates(&self) -> Vec<RaftId> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let recent = Duration::from_millis(self.inner.options.heartbeat_ms * 2);
        let answered = |id: &RaftId| silence(&metrics, *id).is_some_and(|silence| silence <= recent);
        let matched = |id: &RaftId| metrics.replication.as_ref().and_then(|r| r.get(id)).map_or(0, |m| m.next_index());
        let voters = metrics.membership_config.voter_ids();
        let mut candidates: Vec<RaftId> = voters.filter(|id| *id != metrics.id && answered(id)).collect();
        candidates.sort_by_key(|id| std::cmp::Reverse(matched(id)));
        candidates
    }
}
