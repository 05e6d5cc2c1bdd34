//! Writes: proposed here or, one hop away, by the leader.
//!
//! A command is tried again only where it provably reached no log: no leader known, no connection
//! made, or a receiver that says it does not lead. Everything else that is not an answer becomes
//! [`NodeError::Timeout`]: the outcome is unknown.

pub(in crate::node) mod forward;
pub(in crate::node) mod lock_wait;
pub(in crate::node) mod propose;

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::metrics::RaftServerMetrics;
use openraft::{RaftMetrics, ServerState};
use tokio::time::{Instant, timeout_at};

use crate::command::{Command, Reply};
use crate::node::rpc::{ForwardError, Target};
use crate::node::{LEADER_WAIT, Leader, Node, NodeError, Phase, State, Written};
use crate::raft_types::TypeConfig;

/// How long a leader that was succeeded may still take to answer.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How soon to look again where a leader is known but does not lead (yet, or any more).
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Node {
    /// Proposes a command here or at the leader; returns once it is applied there.
    ///
    /// # Errors
    /// [`NodeError::Timeout`] where the outcome is unknown; with any other nothing was done.
    pub async fn write(&self, command: Command, deadline: Instant) -> Result<Written, NodeError> {
        self.refuse_stray()?;
        let mut command = Arc::new(command);
        let mut patience = LeaderWait::new(deadline);
        loop {
            let attempt = match self.leader_by(&patience).await? {
                Leader::NodeIdentity => {
                    self.propose(&mut command, deadline).await.map(|(index, reply)| (index, reply, None))
                }
                // In a box, as is all that is rare below: the future of each write has room for its largest branch.
                Leader::Other(_) => Box::pin(self.forward(command.clone(), deadline))
                    .await
                    .map(|(index, reply, by)| (index, reply, Some(by))),
            };
            match attempt {
                Ok((index, reply, served_by)) => return Ok(Written { index, reply, served_by }),
                Err(ForwardError::Failed(error)) => return Err(error),
                Err(ForwardError::NotLeader) => Box::pin(self.wait_for_a_change(&mut patience)).await?,
            }
        }
    }

    /// A node that was removed, or whose cluster should not be there, says so instead of serving it.
    pub(super) fn refuse_stray(&self) -> Result<(), NodeError> {
        self.refuse_removed()?;
        match self.inner.me.foreign() {
            Some(why) => Err(NodeError::Conflict(why)),
            None => Ok(()),
        }
    }

    /// Proposes a command if this node leads; what a forwarding peer is answered.
    pub(super) async fn propose(
        &self,
        command: &mut Arc<Command>,
        deadline: Instant,
    ) -> Result<(u64, Reply), ForwardError> {
        self.refuse_stray().map_err(ForwardError::Failed)?;
        let term = self.term_led(deadline).await.ok_or(ForwardError::NotLeader)?;
        // One that was tried before was appended to no log, and is not shared any more.
        Arc::make_mut(command).stamp(self.clock().stamp_ms(term));
        let unknown = |why: &str| ForwardError::Failed(NodeError::Timeout(why.to_owned()));
        // The stamp is of this term's leader; in another term it is not appended.
        let leader = openraft::alias::CommittedLeaderIdOf::<TypeConfig>::new(term);
        match timeout_at(deadline, self.inner.proposals.propose(command.clone(), leader)).await {
            Ok(Ok(Ok(response))) => Ok((response.log_id.index, response.data)),
            // openraft's contract: rejected before its entry was appended.
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => Err(ForwardError::NotLeader),
            Ok(Ok(Err(ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(unknown("the leader changed before the entry was committed"))
            }
            Ok(Ok(Err(other))) => Err(ForwardError::Failed(NodeError::Internal(other.to_string()))),
            Ok(Err(_)) => Err(unknown("this node is stopping")),
            Err(_) => Err(unknown("a quorum did not acknowledge it in time")),
        }
    }

    /// The term in which this node leads, once it has applied what was before: only then it may tell log time.
    async fn term_led(&self, deadline: Instant) -> Option<u64> {
        let leads = |m: &RaftMetrics<TypeConfig>| m.state == ServerState::Leader;
        let settled = |m: &RaftMetrics<TypeConfig>| {
            !leads(m) || m.last_applied.is_some_and(|id| id.leader_id.term == m.current_term)
        };
        let mut metrics = self.metrics();
        if let now = metrics.borrow_watched()
            && settled(&now)
        {
            return leads(&now).then_some(now.current_term);
        }
        let waited = Box::pin(timeout_at(LeaderWait::new(deadline).until, metrics.wait_until(settled))).await;
        waited.ok()?.ok().filter(|m| leads(m)).map(|m| m.current_term)
    }

    /// The leader this node believes in, waiting for one as long as there is patience.
    pub(super) async fn leader_by(&self, patience: &LeaderWait) -> Result<Leader, NodeError> {
        // Nearly always it is known: no timer is made for that.
        if *self.inner.phase.borrow() >= Phase::Replaying
            && let Some(leader) = self.leader()
        {
            return Ok(leader);
        }
        Box::pin(self.wait_for_leader(patience)).await
    }

    async fn wait_for_leader(&self, patience: &LeaderWait) -> Result<Leader, NodeError> {
        self.wait_phase_until(Phase::Replaying, patience).await?;
        let mut metrics = self.inner.raft.server_metrics();
        let known = timeout_at(patience.until, metrics.wait_until(|m| m.current_leader.is_some())).await;
        if let Ok(Ok(_)) = known
            && let Some(leader) = self.leader()
        {
            return Ok(leader);
        }
        Err(self.no_leader().await)
    }

    /// The leader this node believes in.
    pub(super) fn leader(&self) -> Option<Leader> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        if leader == self.inner.me.raft_id() {
            // A leader that was removed steps down, yet its vote still names it.
            return (metrics.state == ServerState::Leader).then_some(Leader::NodeIdentity);
        }
        let member = metrics.membership_config.get_node(&leader)?;
        Some(Leader::Other(Target { raft_id: Some(leader), id: member.id.clone() }))
    }

    /// Ends a little after another leader is known: a node that is cut off or frozen holds requests that
    /// nobody will answer any more.
    pub(super) async fn superseded(&self, leader: &Target) {
        let another = |m: &RaftServerMetrics<TypeConfig>| m.current_leader.is_some_and(|id| Some(id) != leader.raft_id);
        if self.inner.raft.server_metrics().wait_until(another).await.is_err() {
            // Raft has ended; the caller's own deadline counts.
            return std::future::pending().await;
        }
        tokio::time::sleep(LAST_WORDS).await;
    }

    /// After an attempt that changed nothing: waits for news, for a moment at most, while there is
    /// patience.
    pub(super) async fn wait_for_a_change(&self, patience: &mut LeaderWait) -> Result<(), NodeError> {
        self.refuse_removed()?;
        if Instant::now() >= patience.until {
            return Err(self.no_leader().await);
        }
        let mut metrics = self.inner.raft.server_metrics();
        drop(metrics.borrow_and_update());
        // Both outcomes mean the same: try again.
        let _ = timeout_at(patience.until.min(Instant::now() + LOOK_AGAIN), metrics.changed()).await;
        Ok(())
    }

    /// The error of a request that found no leader: it names the voters that do not answer.
    pub(super) async fn no_leader(&self) -> NodeError {
        let cluster = self.ask_members(Duration::from_millis(300)).await;
        let silent: Vec<String> = cluster
            .servers
            .iter()
            .filter(|server| server.voter && server.state == State::Lost)
            .map(|server| server.id.to_string())
            .collect();
        let voters = cluster.servers.iter().filter(|server| server.voter).count();
        NodeError::NoLeader(if silent.is_empty() {
            format!("no leader: all {voters} voters answer, an election may be under way; try again")
        } else {
            format!(
                "no leader: {} of {voters} voters do not answer: {}; start them again",
                silent.len(),
                silent.join(" ")
            )
        })
    }
}

/// How long a request waits for a leader: a part of its whole time.
#[derive(Debug)]
pub(super) struct LeaderWait {
    pub(super) until: Instant,
}

impl LeaderWait {
    pub(super) fn new(deadline: Instant) -> Self {
        // A little less than the deadline, so that the answer can say who is missing.
        let (now, spare) = (Instant::now(), Duration::from_millis(400));
        let left = deadline.saturating_duration_since(now);
        Self { until: now + left.saturating_sub(spare).max(left / 2).min(LEADER_WAIT) }
    }
}
