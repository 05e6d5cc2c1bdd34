//! Looks for members that do not answer where the membership has them, while the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::search::{Sighting, look};
use crate::node::leader::{LEADER_WAIT, Leader};
use crate::node::membership::join::is_at;
use crate::node::rpc::{Identification, PeerReply, PeerRequest, Standing, Target};
use crate::node::status::{MemberView, members_of, silence};
use crate::node::{Node, NodeError, State};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, Member, RaftId};
use crate::task;

/// How soon a node looks for somebody who is silent, and how often at least whether anybody is.
const MIN_SEEK_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause of a search in vain: each is twice the last one.
const MAX_SEEK_PAUSE: Duration = Duration::from_secs(4);

impl Node {
    /// The task that looks for silent members at all addresses that are known or listed. A leader then writes what is
    /// found into the membership.
    pub(in crate::node) async fn seek_members(self) {
        let mut pause = MIN_SEEK_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if self.inner.me.removed().borrow().is_some() {
                return;
            }
            self.forget_what_is_older_than_the_membership();
            let silent = self.silent_members();
            pause = if silent.is_empty() { MIN_SEEK_PAUSE } else { (pause * 2).min(MAX_SEEK_PAUSE) };
            if !silent.is_empty() {
                let known = self.members().into_iter().map(|member| member.server.id).filter(|id| id != self.id());
                let listed = self.inner.listed.get().cloned().unwrap_or_default();
                let seen = look(&self.inner.peers, known.collect(), &listed).await;
                if self.note_found(&silent, &seen) {
                    pause = MIN_SEEK_PAUSE;
                }
            }
            if self.leader() == Some(Leader::ThisNode) {
                self.write_found_addresses().await;
            }
        }
    }

    fn forget_what_is_older_than_the_membership(&self) {
        let metrics = self.inner.raft.metrics();
        let committed = metrics.borrow_watched().committed_membership_config.clone();
        self.inner.me.book().keep_to(committed.nodes().map(|(raft_id, member)| (raft_id, &member.id)));
    }

    /// The members to look for: as the leader, those that do not answer it; without a leader, all others.
    fn silent_members(&self) -> Vec<MemberView> {
        let leader = self.leader();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let allowed = self.inner.options.election_max();
        let members = members_of(&metrics).into_iter().filter(|member| member.raft_id != metrics.id);
        match leader {
            Some(Leader::ThisNode) => members
                .filter(|member| silence(&metrics, member.raft_id).is_none_or(|silence| silence > allowed))
                .collect(),
            Some(Leader::Other(_)) if self.hears_leader() => Vec::new(),
            _ => members.collect(),
        }
    }

    /// True where somebody was found elsewhere than before.
    fn note_found(&self, wanted: &[MemberView], seen: &[Sighting]) -> bool {
        let mut is_news = false;
        for (raft_id, who) in found_once(self.inner.me.cluster(), seen) {
            let Some(member) = wanted.iter().find(|member| member.raft_id == raft_id) else { continue };
            if self.inner.me.book().found(raft_id, &member.server.id, &who.id) {
                tracing::info!("{} was found at {}", member.server.id, who.id);
                is_news = true;
            }
        }
        is_news
    }

    /// A member that asks to join says where it is. Without a leader to do that, this node looks there itself.
    pub(in crate::node) async fn look_for_asker(&self, raft_id: RaftId, at: &PublicId) {
        let members = self.members();
        let Some(member) = members.into_iter().find(|m| m.raft_id == raft_id && m.server.id != *at) else { return };
        // One without a quorum leads nobody, and the asker may be what it lacks.
        if self.state() == State::Leader || self.hears_leader() {
            return;
        }
        // Whoever asks chooses the address, and there may be many who do.
        let Ok(_place) = self.inner.join_places.try_acquire() else { return };
        if is_at(&self.inner.peers, &member.server.id, raft_id).await {
            return;
        }
        let seen = look(&self.inner.peers, BTreeSet::from([at.clone()]), &[]).await;
        self.note_found(&[member], &seen);
    }

    /// As the leader: makes the addresses at which members were found those of the membership, all at once: two may have
    /// swapped theirs.
    async fn write_found_addresses(&self) {
        if self.moved_members().is_empty() {
            return;
        }
        let Ok(_turn) = self.inner.membership_turn.try_lock() else { return };
        if self.confirm_as_leader().await.is_none() {
            return;
        }
        let moved = self.moved_members();
        if moved.is_empty() {
            return;
        }
        let names: Vec<String> = moved.values().map(|member| member.id.to_string()).collect();
        match self.change(ChangeMembers::SetNodes(moved), Instant::now() + LEADER_WAIT).await {
            Ok(Ok(())) => tracing::info!("members moved: {}", names.join(" ")),
            Ok(Err(error)) => tracing::warn!("the addresses of members that moved are not noted yet: {error}"),
            Err(_) => {}
        }
    }

    fn moved_members(&self) -> BTreeMap<RaftId, Member> {
        let book = self.inner.me.book();
        let members = self.members().into_iter();
        let moved = members.filter_map(|member| {
            let id = book.elsewhere(member.raft_id, &member.server.id)?;
            Some((member.raft_id, Member { id, role: member.role }))
        });
        moved.collect()
    }

    /// As a follower: whether a leader was in contact within the election maximum.
    fn hears_leader(&self) -> bool {
        self.inner.freshness.last_contact().is_some_and(|age| age <= self.inner.options.election_max())
    }

    /// The answer to [`PeerRequest::Identify`].
    pub(in crate::node) fn identification(&self) -> Identification {
        let me = &self.inner.me;
        let leader = match self.leader() {
            // One without a quorum leads nobody, whatever openraft calls it.
            Some(Leader::ThisNode) if self.state() == State::Leader => Some((me.raft_id(), me.id())),
            Some(Leader::Other(target)) if self.hears_leader() => target.raft_id.map(|raft_id| (raft_id, target.id)),
            _ => None,
        };
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let memberships = [&metrics.membership_config, &metrics.committed_membership_config];
        let mut voters: Vec<BTreeSet<RaftId>> =
            memberships.iter().flat_map(|stored| stored.membership().get_joint_config().clone()).collect();
        voters.sort();
        voters.dedup();
        let standing = Standing {
            moved: me.moved(),
            replaces: me.replaces(),
            leader,
            last: self.inner.log.last_log_id(),
            committed: metrics.local_committed,
            voters,
        };
        Identification { standing: Box::new(standing), ..me.identification(self.inner.log.is_empty()) }
    }

    /// Ends when this node has its role, and has noted that it has replaced its former selves.
    pub(in crate::node) async fn settles_in(&self) -> Result<(), NodeError> {
        self.has_its_role().await;
        if self.inner.me.replaces().is_empty() {
            return Ok(());
        }
        let me = self.inner.me.clone();
        let internal = |error: String| NodeError::Internal(format!("cannot note that this node has moved: {error}"));
        let noted = task::spawn_blocking(move || me.set_replaced()).await.map_err(|e| internal(e.to_string()))?;
        noted.map_err(|e| internal(e.to_string()))?;
        tracing::info!("this node has taken the place of its former self");
        Ok(())
    }

    /// The former selves that a learner is to replace; `None` where it does not answer.
    pub(in crate::node) async fn replaced_by(&self, raft_id: RaftId, at: &PublicId) -> Option<BTreeSet<RaftId>> {
        let target = Target { raft_id: None, id: at.clone() };
        let asked = self.inner.peers.call(&target, PeerRequest::Identify, Duration::from_secs(1));
        match tokio::time::timeout(Duration::from_secs(1), asked).await {
            Ok(Ok(PeerReply::Identify(who))) if who.raft_id == raft_id => Some(who.standing.replaces),
            _ => None,
        }
    }
}

/// The Raft ids of a cluster that exactly one process has, and that take part.
fn found_once(cluster: Option<ClusterId>, seen: &[Sighting]) -> impl Iterator<Item = (RaftId, &Identification)> {
    let mut found: BTreeMap<RaftId, BTreeMap<u64, &Identification>> = BTreeMap::new();
    for who in seen.iter().filter_map(Sighting::node).filter(|who| who.cluster == cluster) {
        found.entry(who.raft_id).or_default().insert(who.boot, who);
    }
    found.into_iter().filter_map(|(raft_id, processes)| {
        let mut processes = processes.into_values();
        let who = processes.next()?;
        (processes.next().is_none() && !who.standing.moved.is_passive()).then_some((raft_id, who))
    })
}
