//! Answers to peers.
//!
//! A message is taken only where it is for this Raft node and from this cluster; a node that
//! belongs to no cluster yet takes the first leader's that knows its Raft id and vouches for its
//! message, and has that on disk before it answers.

use std::time::Duration;

use openraft::alias::SnapshotOf;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::AppendEntriesRequest;
use tokio::time::Instant;

use crate::command::Principal;
use crate::node::journal::Ballot;
use crate::node::leader::Leader;
use crate::node::rpc::EventKind;
use crate::node::rpc::{Envelope, MemberAnswer, MemberChange, NotLeader, PeerReply, PeerRequest, Refusal};
use crate::node::status::silence;
use crate::node::{Node, NodeError};
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::raft_types::{RaftId, TypeConfig};
use crate::seldom::Seldom;
use crate::storage::{ReceivedSnapshot, SnapshotFile};
use crate::task;

/// Each message of a leader tries again.
static UNNOTED_LINES: Seldom = Seldom::new();

/// The sender that a message implies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    Leader,
    Any,
    /// One who asks what may be told to anybody, an older process of a Raft id included.
    Asker,
}

impl Node {
    /// Answers one request from a peer.
    ///
    /// # Errors
    /// [`Refusal`]: the request was not taken, nothing was done.
    pub async fn answer(&self, envelope: &Envelope, request: PeerRequest) -> Result<PeerReply, Refusal> {
        let raft = &self.inner.raft;
        let request = match request {
            PeerRequest::Found(proposed) => return Ok(self.answer_founder(envelope, proposed).await),
            request => request,
        };
        match &request {
            PeerRequest::Identify => {
                if envelope.cluster.is_some() {
                    self.inner.strangers.asks_for();
                }
                return Ok(PeerReply::Identify(self.identification()));
            }
            PeerRequest::Vouch => {
                return Ok(PeerReply::Vouch { who: self.identification(), asker: self.member_at(&envelope.from) });
            }
            PeerRequest::Append(rpc) => self.admit_append(envelope, rpc).await?,
            PeerRequest::Vote(_) | PeerRequest::PreVote(_) => {
                let admitted = match self.refuse_old_candidate(envelope) {
                    Ok(()) => self.admit(envelope, Sender::Any).await,
                    refused => refused,
                };
                admitted.inspect_err(|why| self.note_refused_candidate(envelope, &request, why))?;
                self.inner.journal.knows(envelope.from_raft, &envelope.from);
            }
            PeerRequest::IsMember(_)
            | PeerRequest::Status
            | PeerRequest::Acknowledged { .. }
            | PeerRequest::Examine
            | PeerRequest::Events { .. }
            | PeerRequest::Clock => self.admit(envelope, Sender::Asker).await?,
            _ => self.admit(envelope, Sender::Any).await?,
        }
        // A Raft that has stopped has no answer to give; the sender must not take that for one.
        let stopped = |_| Refusal::Stopped;
        Ok(match request {
            PeerRequest::Identify | PeerRequest::Found(_) | PeerRequest::Vouch => {
                return Err(Refusal::Unreadable("answered above".to_owned()));
            }
            PeerRequest::Append(rpc) => {
                if let Some((term, ms)) = envelope.log_time {
                    self.clock().noted(term, ms);
                }
                let response = raft.append_entries(rpc).await.map_err(stopped)?;
                if !matches!(response, openraft::raft::AppendEntriesResponse::HigherVote(_)) {
                    self.inner.freshness.heard(envelope.echo, envelope.confirmed, self.applied_index());
                }
                PeerReply::Append(response, self.inner.freshness.stamp())
            }
            PeerRequest::Vote(rpc) => {
                let answer = raft.vote(rpc.clone()).await.map_err(stopped)?;
                self.inner.journal.answers(Ballot::Vote, envelope.from_raft, &rpc, &answer);
                PeerReply::Vote(answer)
            }
            PeerRequest::PreVote(rpc) => {
                let answer = raft.pre_vote(rpc.clone()).await.map_err(stopped)?;
                self.inner.journal.answers(Ballot::PreVote, envelope.from_raft, &rpc, &answer);
                PeerReply::Vote(answer)
            }
            PeerRequest::TransferLeader(rpc) => {
                self.note_transfer();
                let (from, to) = (envelope.from.to_string(), self.inner.journal.name(rpc.to));
                self.inner.journal.transfers(&from, &to, rpc.from.leader_id.term);
                PeerReply::TransferLeader(raft.handle_transfer_leader(rpc.into()).await.map_err(|_| Refusal::Stopped)?)
            }
            PeerRequest::Forward { commands, timeout_ms } => PeerReply::Forward(
                self.propose_all(envelope.from_raft, commands, Duration::from_millis(timeout_ms)).await,
            ),
            PeerRequest::Read { key, min_index, timeout_ms } => {
                let answer = self.read_as_leader(None, &key, min_index, after(timeout_ms)).await;
                PeerReply::Read(answer.map(|done| done.map(|found| (found.record, found.index))))
            }
            PeerRequest::ReadBy { by, key, min_index, timeout_ms } => {
                let answer = self.read_as_leader(Some(&by), &key, min_index, after(timeout_ms)).await;
                PeerReply::Read(answer.map(|done| done.map(|found| (found.record, found.index))))
            }
            PeerRequest::ReadIndex { following, applied } => {
                PeerReply::ReadIndex(self.read_index_for(envelope.from_raft, following, applied).await)
            }
            PeerRequest::WeakIndex => PeerReply::WeakIndex(self.weak_index_as_leader()),
            PeerRequest::Status => PeerReply::Status(self.state(), self.complaints()),
            PeerRequest::LeaderWatch => {
                self.hold_leader_watch().await;
                PeerReply::LeaderWatch
            }
            PeerRequest::IsLeaderGone(seen) => PeerReply::IsLeaderGone(self.is_leader_gone(seen).await),
            // Asked for itself it tells its start at once, for those who wait to hear it.
            PeerRequest::IsMember(raft_id) if raft_id == self.inner.me.raft_id() => {
                PeerReply::IsMember(MemberAnswer::Unknown, Some(self.inner.me.start()))
            }
            PeerRequest::IsMember(raft_id) => {
                PeerReply::IsMember(self.is_member(raft_id).await, self.inner.me.seen(raft_id))
            }
            PeerRequest::Acknowledged { vote, entry } => {
                PeerReply::Acknowledged(self.inner.acknowledged.has(envelope.from_raft, vote, entry))
            }
            PeerRequest::Forgotten { vote, acknowledged } => {
                PeerReply::Forgotten(self.check_memory(vote, acknowledged).await?)
            }
            PeerRequest::Join { id, timeout_ms } => {
                PeerReply::Admin(self.administer(None, MemberChange::Join(id), after(timeout_ms)).await)
            }
            PeerRequest::Lead { wanted, timeout_ms } => {
                PeerReply::Admin(self.administer(None, MemberChange::Lead(wanted), after(timeout_ms)).await)
            }
            PeerRequest::Events { after, wait_ms } => PeerReply::Events(self.events_for(after, wait_ms).await),
            PeerRequest::Examine => PeerReply::Examine(Box::new(self.vitals().await)),
            PeerRequest::Clock => PeerReply::Clock(self.clock_reading()),
            PeerRequest::Marks(marks) => PeerReply::Marks(self.hear_marks(envelope, &marks)),
            PeerRequest::Witness { index } => PeerReply::Witness(self.as_witness(index)),
            PeerRequest::Remove { wanted, force, timeout_ms } => {
                let change = MemberChange::Remove { wanted, force };
                PeerReply::Admin(self.administer(None, change, after(timeout_ms)).await)
            }
            PeerRequest::AdminBy { by, change, timeout_ms } => {
                PeerReply::Admin(self.administer(Some(&by), change, after(timeout_ms)).await)
            }
        })
    }

    fn note_refused_candidate(&self, envelope: &Envelope, request: &PeerRequest, why: &Refusal) {
        let (ballot, rpc) = match request {
            PeerRequest::Vote(rpc) => (Ballot::Vote, rpc),
            PeerRequest::PreVote(rpc) => (Ballot::PreVote, rpc),
            _ => return,
        };
        let (from, term) = (envelope.from.to_string(), rpc.vote.leader_id.term);
        self.inner.journal.refuses_candidate(ballot, &from, term, &why.to_string());
    }

    async fn administer(
        &self,
        by: Option<&Principal>,
        change: MemberChange,
        deadline: Instant,
    ) -> Result<Result<(), NodeError>, NotLeader> {
        if self.leader() == Some(Leader::ThisNode) {
            self.change_here(by, change, deadline).await
        } else {
            Err(NotLeader)
        }
    }

    /// Begins to receive a snapshot from the leader.
    ///
    /// # Errors
    /// [`Refusal`] where it is not for this node, or its file cannot be made.
    pub async fn receive_snapshot(&self, envelope: &Envelope) -> Result<ReceivedSnapshot, Refusal> {
        self.admit(envelope, Sender::Leader).await?;
        self.inner.freshness.received();
        let snapshots = self.inner.snapshots.clone();
        task::spawn_blocking(move || snapshots.receive())
            .await
            .map_err(|_| Refusal::Stopped)?
            .map_err(|error| Refusal::Unreadable(error.to_string()))
    }

    /// Installs a snapshot that was received whole and checked.
    ///
    /// # Errors
    /// [`Refusal`] where it is not for this node, contradicts what is committed here, or Raft has stopped.
    pub async fn install_snapshot(
        &self,
        envelope: &Envelope,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<PeerReply, Refusal> {
        self.admit(envelope, Sender::Leader).await?;
        self.check_history(envelope, &vote, &meta.last_log_id).await?;
        self.inner.freshness.received();
        let upto = meta.last_log_id.map_or(0, |id| id.index);
        let snapshot = SnapshotOf::<TypeConfig, SnapshotFile> { meta, snapshot };
        let response = self.inner.raft.install_full_snapshot(vote, snapshot).await.map_err(|_| Refusal::Stopped)?;
        if response.vote == vote {
            let text = format!("It installed a snapshot of all up to {upto} that {} sent.", envelope.from);
            self.inner.journal.note(EventKind::Snapshot, upto, Some(envelope.from.to_string()), text);
        }
        Ok(PeerReply::Snapshot(response.vote))
    }

    /// Takes an append only where it is for this node and does not contradict what is committed here.
    pub(super) async fn admit_append(
        &self,
        envelope: &Envelope,
        rpc: &AppendEntriesRequest<TypeConfig>,
    ) -> Result<(), Refusal> {
        self.admit(envelope, Sender::Leader).await?;
        let log_ids = rpc.prev_log_id.iter().chain(rpc.entries.iter().map(|entry| &entry.log_id));
        self.check_history(envelope, &rpc.vote, log_ids).await
    }

    async fn admit(&self, envelope: &Envelope, sender: Sender) -> Result<(), Refusal> {
        let me = &self.inner.me;
        let identification = || Box::new(me.identification(self.inner.log.is_empty()));
        let cluster = me.cluster();
        if envelope.to_raft != Some(me.raft_id()) {
            if envelope.to == me.id() {
                self.stranger_called(envelope, sender == Sender::Leader);
            }
            return Err(Refusal::WrongTarget(identification()));
        }
        if me.removed().borrow().is_some() {
            return Err(Refusal::Stopped);
        }
        if let Some(why) = me.lost_why() {
            return Err(Refusal::LostMemory(why));
        }
        match (cluster, envelope.cluster) {
            (Some(mine), Some(theirs)) if mine == theirs => {
                // What anybody may be told, one that is too old may be told.
                if sender != Sender::Asker {
                    self.refuse_too_old(envelope)?;
                }
                self.check_start(envelope, sender == Sender::Asker).await?;
                me.diverged().map_or(Ok(()), |why| Err(Refusal::Diverged(why)))
            }
            (None, Some(theirs))
                if me.is_founded_by(theirs, envelope.from_raft)
                    || (sender == Sender::Leader && self.vouches(envelope).await) =>
            {
                let me = me.clone();
                let adopted = task::spawn_blocking(move || me.adopt_cluster(theirs)).await;
                match adopted {
                    Ok(Ok(true)) => self.check_start(envelope, false).await,
                    // Meanwhile it became part of another.
                    Ok(Ok(false)) => Err(Refusal::WrongCluster(identification())),
                    Ok(Err(error)) => {
                        if let Some(unsaid) = UNNOTED_LINES.turn() {
                            tracing::error!("cannot note the cluster this node joins: {error}{unsaid}");
                        }
                        Err(Refusal::Stopped)
                    }
                    Err(_) => Err(Refusal::Stopped),
                }
            }
            _ => {
                if envelope.to == me.id() {
                    self.stranger_called(envelope, sender == Sender::Leader);
                }
                Err(Refusal::WrongCluster(identification()))
            }
        }
    }

    /// Tells whether a Raft node is a member. Only a leader that a quorum confirms can know.
    async fn is_member(&self, raft_id: RaftId) -> MemberAnswer {
        if self.leader() != Some(Leader::ThisNode) {
            return MemberAnswer::Unknown;
        }
        let Some(confirmed) = self.confirm_as_leader().await else { return MemberAnswer::Unknown };
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        let at = committed.log_id().as_ref().map_or(0, |id| id.index);
        if metrics.membership_config.get_node(&raft_id).is_some() {
            let voter = metrics.membership_config.voter_ids().any(|voter| voter == raft_id);
            let heard = raft_id == metrics.id
                || silence(&metrics, raft_id).is_some_and(|silence| silence <= self.inner.options.election_max());
            MemberAnswer::Member { voter, heard }
        } else if committed.get_node(&raft_id).is_none() && at <= confirmed {
            MemberAnswer::Removed(at)
        } else {
            MemberAnswer::Unknown
        }
    }
}

fn after(timeout_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms.min(600_000))
}
