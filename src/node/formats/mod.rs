//! The cluster's format, as this node knows it, and what members of mixed versions understand.
//!
//! See [`crate::formats`]. The state has the cluster's format. What a member understands, it says itself, when it is asked
//! who it is.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use crate::formats::{Feature, Format, Speaks};
use crate::node::rpc::{PeerReply, PeerRequest, Target};
use crate::node::status::MemberView;
use crate::node::{Node, NodeError};
use crate::raft_types::RaftId;

/// How long a member may take to say what it understands.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a request waits for a format that all members understand: the leader raises it soon.
const RAISE_WAIT: Duration = Duration::from_secs(3);

impl Node {
    /// The cluster's format, as far as this node has applied the log.
    pub fn format(&self) -> Format {
        self.inner.map.format()
    }

    /// Ok where the cluster has the format that a feature needs; otherwise why not. Waits a moment where the leader is about
    /// to raise it. Call it before a command of that format is made: this is what keeps such commands from old nodes.
    ///
    /// # Errors
    /// [`NodeError::NotYet`]: names the members that are too old, or silent, and the version that they need.
    pub async fn require(&self, feature: Feature, deadline: Instant) -> Result<(), NodeError> {
        if self.format() >= feature.format() { Ok(()) } else { Box::pin(self.wait_for(feature, deadline)).await }
    }

    async fn wait_for(&self, feature: Feature, deadline: Instant) -> Result<(), NodeError> {
        let (needed, mut applied) = (feature.format(), self.inner.map.applied());
        let until = deadline.min(Instant::now() + RAISE_WAIT);
        let lacking = self.lacking(needed).await;
        let raised = applied.wait_for(|_| self.format() >= needed);
        // Nobody raises it while one of them is there.
        let patience = if lacking.is_empty() { until } else { Instant::now() };
        if timeout_at(patience, raised).await.is_ok_and(|raised| raised.is_ok()) {
            return Ok(());
        }
        let why = match lacking.as_slice() {
            [] => "all members understand it, and the leader is about to raise it: try again".to_owned(),
            lacking => lacking.join("; "),
        };
        Err(NodeError::NotYet(format!(
            "{} need {}, which the cluster does not have yet, for it has format {} and not {needed}: {why}",
            feature.name(),
            needed.since(),
            self.format()
        )))
    }

    /// The members that do not understand a format, each with the reason, in words. All are asked now.
    pub(in crate::node) async fn lacking(&self, format: Format) -> Vec<String> {
        let members = self.members();
        let told = join_all(members.iter().map(|member| self.speaks(member))).await;
        let lacking = members.iter().zip(told).filter_map(|(member, speaks)| match speaks {
            Some(speaks) if speaks.understands(format) => None,
            Some(Speaks { version, .. }) => {
                Some(format!("{} runs hraftd {version}: start it with {}", member.server.id, format.since()))
            }
            None => Some(format!("{} does not answer", member.server.id)),
        });
        lacking.collect()
    }

    /// What a member understands, by its own word; `None` where it does not answer.
    pub(in crate::node) async fn speaks(&self, member: &MemberView) -> Option<Speaks> {
        if member.raft_id == self.inner.me.raft_id() {
            return Some(self.inner.me.speaks());
        }
        let target = Target { raft_id: Some(member.raft_id), id: member.server.id.clone() };
        self.speaks_at(&target, member.raft_id).await
    }

    async fn speaks_at(&self, target: &Target, raft_id: RaftId) -> Option<Speaks> {
        let asked = self.inner.peers.call(target, PeerRequest::Identify, ANSWER_TIMEOUT);
        match timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(PeerReply::Identify(who))) if who.raft_id == raft_id => Some(who.speaks),
            _ => None,
        }
    }
}
