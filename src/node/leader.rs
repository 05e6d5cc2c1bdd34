//! The leader this node believes in, and how long a request waits for one.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use tokio::time::{Instant, timeout_at};

use crate::node::rpc::Target;
use crate::node::state::Phase;
use crate::node::{Node, NodeError, State};
use crate::raft_types::TypeConfig;

/// Without a leader a request waits this long for one.
pub(super) const LEADER_WAIT: Duration = Duration::from_secs(3);

/// How long a leader that was succeeded may still take to answer.
const SUPERSEDED_ANSWER_WAIT: Duration = Duration::from_millis(300);

/// How soon to look again where a leader is known but does not lead (yet, or any more).
pub(super) const LEADER_CHANGE_WAIT: Duration = Duration::from_millis(50);

/// The leader this node believes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leader {
    ThisNode,
    Other(Target),
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

impl Node {
    /// The leader this node believes in, waiting for one as long as `wait` allows.
    pub(super) async fn leader_by(&self, wait: &LeaderWait) -> Result<Leader, NodeError> {
        // Nearly always it is known: no timer is made for that.
        if *self.inner.phase.borrow() >= Phase::Replaying
            && let Some(leader) = self.leader()
        {
            return Ok(leader);
        }
        Box::pin(self.wait_for_leader(wait)).await
    }

    async fn wait_for_leader(&self, wait: &LeaderWait) -> Result<Leader, NodeError> {
        self.wait_phase_until(Phase::Replaying, wait).await?;
        let mut metrics = self.inner.raft.server_metrics();
        let known = timeout_at(wait.until, metrics.wait_until(|m| m.current_leader.is_some())).await;
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
            return (metrics.state == ServerState::Leader).then_some(Leader::ThisNode);
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
        tokio::time::sleep(SUPERSEDED_ANSWER_WAIT).await;
    }

    /// After an attempt that changed nothing: waits a moment for another leader, while `wait`
    /// allows.
    pub(super) async fn wait_for_a_change(&self, wait: &LeaderWait) -> Result<(), NodeError> {
        self.refuse_out()?;
        if Instant::now() >= wait.until {
            return Err(self.no_leader().await);
        }
        let mut metrics = self.inner.raft.server_metrics();
        drop(metrics.borrow_and_update());
        match timeout_at(wait.until.min(Instant::now() + LEADER_CHANGE_WAIT), metrics.changed()).await {
            // Raft has ended: nothing changes any more, and whoever tries again would only spin.
            Ok(Err(_)) => Err(NodeError::NoLeader("this node is stopping; ask another".to_owned())),
            // A change, or none so far: try again.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// The error of a request that found no leader: it names the voters that do not answer.
    pub(super) async fn no_leader(&self) -> NodeError {
        let cluster = self.who_is_silent().await;
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
                "no leader: {} of {voters} voters do not answer: {}; start them again, or, if they are lost for good, hraftd recover",
                silent.len(),
                silent.join(" ")
            )
        })
    }

    /// How long a follower may hear no leader before that is worth a thought: an election should be
    /// over by then.
    pub(super) fn silence_allowed(&self) -> Duration {
        self.inner.options.election_max() * 2
    }
}
