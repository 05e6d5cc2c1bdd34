//! The cluster's format, as this node knows it, and what members of mixed versions understand.
//!
//! See [`crate::formats`]. The state has the cluster's format. What a member understands, it says itself, with each request
//! and when it is asked who it is. `raise` raises the format once all understand a higher one. From then on:
//! * No node that does not understand it is added to the membership, and none gets a snapshot of it.
//! * No member takes a message of one that does not, but for first words. So one that comes back too old is out, whatever
//!   it has; both sides log that.
//!
//! A member that is replaced by an older binary between its word and the entry lacks the entry, for it cannot read it: it
//! counts as down until it is newer again.

mod raise;

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use crate::formats::{Feature, Format, Speaks};
use crate::node::rpc::{Envelope, PeerReply, PeerRequest, Peers, Refusal, Target};
use crate::node::status::MemberView;
use crate::node::{Node, NodeError};
use crate::seldom::Seldom;

pub(super) use raise::Proposed;

/// How long a member may take to say what it understands.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a request waits for a format that all members understand: the leader raises it soon.
const RAISE_WAIT: Duration = Duration::from_secs(3);

/// What each member understands; `None` where it does not answer.
pub(super) type Told = Vec<(MemberView, Option<Speaks>)>;

/// What the Raft node at a target understands, by its own word; `None` where it does not answer.
pub(in crate::node) async fn ask(peers: &dyn Peers, target: &Target) -> Option<Speaks> {
    let asked = peers.call(target, PeerRequest::Identify, ANSWER_TIMEOUT);
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(PeerReply::Identify(who))) if Some(who.raft_id) == target.raft_id => Some(who.speaks),
        _ => None,
    }
}

/// Whoever reaches the Raft port can be as many nodes as it likes.
static TOO_OLD_LINES: Seldom = Seldom::new();

impl Node {
    /// The cluster's format, as far as this node has applied the log.
    pub fn format(&self) -> Format {
        *self.inner.map.format().borrow()
    }

    /// What this node understands.
    pub fn speaks(&self) -> Speaks {
        self.inner.me.speaks()
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
        let (needed, mut format) = (feature.format(), self.inner.map.format());
        let until = deadline.min(Instant::now() + RAISE_WAIT);
        let lacking = self.lacking(needed).await;
        // Nobody raises it while one of them is there.
        let until = if lacking.is_empty() { until } else { Instant::now() };
        if timeout_at(until, format.wait_for(|format| *format >= needed)).await.is_ok_and(|raised| raised.is_ok()) {
            return Ok(());
        }
        let why = match lacking.as_slice() {
            [] => "all members understand that, and the leader is about to raise it: try again".to_owned(),
            lacking => lacking.join("; "),
        };
        Err(NodeError::NotYet(format!(
            "{} need format {needed}, and the cluster has format {}: {why}",
            feature.name(),
            self.format()
        )))
    }

    /// The members that do not understand a format, each with the reason, in words. All are asked now, once for all who
    /// wait for that.
    async fn lacking(&self, format: Format) -> Vec<String> {
        let told = self.what_all_speak().await.into_iter().filter_map(|(member, speaks)| match speaks {
            Some(speaks) if speaks.understands(format) => None,
            Some(Speaks { version, .. }) => {
                Some(format!("{} runs hraftd {version}: start it with {} or newer", member.server.id, format.since()))
            }
            None => Some(format!("{} does not answer: start it, or remove it", member.server.id)),
        });
        told.collect()
    }

    /// What each member understands. All are asked now, once for all who wait for that.
    pub(in crate::node) async fn what_all_speak(&self) -> Told {
        let node = self.clone();
        self.inner.speech_rounds.ask(move || async move { node.all_speak().await }).await
    }

    /// What each member understands. All are asked now.
    async fn all_speak(&self) -> Told {
        let members = self.members();
        let told = join_all(members.iter().map(|member| self.speaks_of(member))).await;
        members.into_iter().zip(told).collect()
    }

    /// What a member understands, by its own word; `None` where it does not answer.
    pub(in crate::node) async fn speaks_of(&self, member: &MemberView) -> Option<Speaks> {
        if member.raft_id == self.inner.me.raft_id() {
            return Some(self.speaks());
        }
        let target = Target { raft_id: Some(member.raft_id), id: member.server.id.clone() };
        ask(&*self.inner.peers, &target).await
    }

    /// Refuses a member that does not understand the cluster's format; says so once for each start of it.
    pub(in crate::node) fn refuse_too_old(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let format = self.format();
        if envelope.speaks.understands(format) {
            return Ok(());
        }
        let why = envelope.speaks.too_old(&envelope.from, format);
        let (raft_id, starts) = (envelope.from_raft, envelope.start.starts);
        if self.inner.strangers.first_time(format!("too old {raft_id} {starts}"))
            && let Some(unsaid) = TOO_OLD_LINES.turn()
        {
            tracing::warn!("{why}; its messages are refused{unsaid}");
        }
        Err(Refusal::Unreadable(why))
    }

    /// As [`refuse_too_old`](Self::refuse_too_old), where it asks for a vote. 0.1.0 logs of all refusals of that only this
    /// one with its reason.
    pub(in crate::node) fn refuse_old_candidate(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let is_of_cluster = envelope.cluster.is_some() && envelope.cluster == self.inner.me.cluster();
        if !is_of_cluster || envelope.to_raft != Some(self.inner.me.raft_id()) {
            return Ok(());
        }
        self.refuse_too_old(envelope).map_err(|refusal| match refusal {
            Refusal::Unreadable(why) => Refusal::Diverged(format!("with this node, because {why}")),
            other => other,
        })
    }
}
