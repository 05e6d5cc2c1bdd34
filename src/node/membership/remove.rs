//! Removal: by the leader, and what a node does that was removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::node::leader::Leader;
use crate::node::membership::{AtLeader, find};
use crate::node::rpc::{MemberAnswer, NotLeader, PeerReply, PeerRequest, Peers, Target};
use crate::node::state::Phase;
use crate::node::status::MemberView;
use crate::node::{Node, NodeError};
use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::task;

/// Asks the members a stopped node knew whether it is still one, each for at most a second; the
/// membership index at which it was removed, if a leader that a quorum confirms says so.
pub async fn ask_whether_removed(
    peers: &Arc<dyn Peers>,
    me: RaftId,
    members: impl IntoIterator<Item = (RaftId, PublicId)>,
) -> Option<u64> {
    let timeout_each = Duration::from_secs(1);
    let asked = members.into_iter().filter(|(raft_id, _)| *raft_id != me).map(async |(raft_id, id)| {
        let target = Target { raft_id: Some(raft_id), id };
        match timeout(timeout_each, peers.call(&target, PeerRequest::IsMember(me), timeout_each)).await {
            Ok(Ok(PeerReply::IsMember(answer, _))) => Some(answer),
            _ => None,
        }
    });
    join_all(asked).await.into_iter().flatten().find_map(|answer| match answer {
        MemberAnswer::Removed(index) => Some(index),
        MemberAnswer::Member { .. } | MemberAnswer::Unknown => None,
    })
}

impl Node {
    /// As the leader: removes a member. Runs to its end even where the asker goes away.
    pub(in crate::node) async fn remove_here(&self, wanted: String, force: bool, deadline: Instant) -> AtLeader {
        let node = self.clone();
        let done = task::spawn(async move {
            let Ok(_turn) = timeout_at(deadline, node.inner.membership_turn.lock()).await else {
                return Ok(Err(NodeError::Timeout("other membership changes took too long".to_owned())));
            };
            node.confirm_as_leader().await.ok_or(NotLeader)?;
            let members = node.members();
            let checked = find::find(&members, &wanted)
                .and_then(|member| node.check_removal(&members, member, force).map(|()| member.clone()));
            let member = match checked {
                Ok(member) => member,
                Err(error) => return Ok(Err(error)),
            };
            if member.raft_id == node.inner.me.raft_id() && node.step_aside(deadline).await {
                // Its successor, which the asker now finds, removes it.
                return Err(NotLeader);
            }
            let done = node.drop_member(&member, force, deadline).await?;
            if done.is_ok() {
                tracing::info!("{} was removed from the cluster", member.server.id);
            }
            Ok(done)
        });
        done.await.unwrap_or_else(|error| Ok(Err(NodeError::Internal(error.to_string()))))
    }

    /// Refuses a removal after which the voters that answer would be no quorum.
    fn check_removal(&self, members: &[MemberView], gone: &MemberView, force: bool) -> Result<(), NodeError> {
        let rest: Vec<&MemberView> = members.iter().filter(|m| m.server.voter && m.raft_id != gone.raft_id).collect();
        if rest.is_empty() {
            return Err(NodeError::Conflict(format!("{} is the only voter; stop it instead", gone.server.id)));
        }
        let reachable = rest.iter().filter(|m| self.answered_lately(m.raft_id)).count();
        if gone.server.voter && !force && reachable <= rest.len() / 2 {
            return Err(NodeError::Conflict(format!(
                "without {} only {reachable} of {} voters answer, which is no quorum; start the others first, or add \
                 ?force",
                gone.server.id,
                rest.len()
            )));
        }
        Ok(())
    }

    /// `force`: even where the voters that answer cannot commit it.
    pub(in crate::node) async fn drop_member(&self, member: &MemberView, force: bool, deadline: Instant) -> AtLeader {
        let ids = BTreeSet::from([member.raft_id]);
        let change =
            if member.server.voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        if force { self.change_if(|_, _| Ok(()), change, deadline).await } else { self.change(change, deadline).await }
    }

    /// The task of a node that hears no leader: a removed node is not told, so it must ask.
    pub(in crate::node) async fn ask_whether_removed(self) {
        let silence = self.silence_allowed();
        let started = Instant::now();
        let mut removed = self.inner.me.removed();
        let knew_members = !self.inner.is_new && !self.members().is_empty();
        loop {
            let quiet_since = self.inner.freshness.since_received().unwrap_or_else(|| started.elapsed());
            let wait = silence.saturating_sub(quiet_since).max(Duration::from_millis(500));
            if timeout(wait, removed.wait_for(Option::is_some)).await.is_ok() {
                return;
            }
            let members: Vec<_> = {
                let metrics = self.inner.raft.metrics();
                let metrics = metrics.borrow_watched();
                metrics
                    .committed_membership_config
                    .nodes()
                    .map(|(raft_id, member)| (*raft_id, member.id.clone()))
                    .collect()
            };
            // One that joined by an entry that was lost with its leader was never a member: it asks to join
            // again instead.
            let was_member = knew_members || *self.inner.phase.borrow() > Phase::Joining;
            let quiet = self.inner.freshness.since_received().unwrap_or_else(|| started.elapsed()) >= silence;
            if !quiet || !was_member || self.leader() == Some(Leader::ThisNode) {
                continue;
            }
            if let Some(index) = ask_whether_removed(&self.inner.peers, self.inner.me.raft_id(), members).await {
                self.leave(index).await;
                return;
            }
        }
    }

    /// Stops taking part, for good.
    pub(in crate::node) async fn leave(&self, index: u64) {
        self.inner.raft.runtime_config().elect(false);
        let me = self.inner.me.clone();
        match task::spawn_blocking(move || me.set_removed(index)).await {
            Ok(Ok(())) => tracing::warn!(
                "this node was removed from its cluster at index {index}: it takes no part any more and answers \
                 requests with 503; start it again with --rjoin naming another node to join anew"
            ),
            Ok(Err(error)) => tracing::error!("cannot note that this node was removed: {error}"),
            Err(error) => tracing::error!("cannot note that this node was removed: {error}"),
        }
    }

    /// A node that was removed or has diverged applies nothing more: who watches here would wait for ever.
    pub(in crate::node) async fn end_watches_once_out(self) {
        let (mut removed, mut diverged) = (self.inner.me.removed(), self.inner.me.diverging());
        let out = async {
            tokio::select! {
                removed = removed.wait_for(Option::is_some) => removed.is_ok(),
                diverged = diverged.wait_for(Option::is_some) => diverged.is_ok(),
            }
        };
        if out.await {
            self.watches().close();
        }
    }
}
