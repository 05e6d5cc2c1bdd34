//! openraft's network on top of [`Peers`].
//!
//! `Unreachable` makes openraft back off, so it is returned only where no connection was made or
//! the receiver refused; the back-off never grows, because a node that forms a cluster listens for
//! one second only, and a living leader must have called it by then.

mod append_stream;
pub(in crate::node) mod coarse_timer;
mod receive_appends;
mod serve;

use parking_lot::Mutex;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, stream_append_sequential, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftMetrics, RaftNetworkFactory};

use crate::formats::{Format, OLDEST};
use crate::node::formats;
use crate::node::identity::NodeIdentity;
use crate::node::journal::{Ballot, Journal};
use crate::node::membership::strangers::Strangers;
use crate::node::memory::acknowledged::{Acknowledged, Asked};
use crate::node::read::follower_stamps::FollowerStamps;
use crate::node::read::quorum_acks::{QuorumAcks, Sent};
use crate::node::replication::append_stream::{AppendOutcome, AppendSession};
use crate::node::rpc::EventKind;
use crate::node::rpc::{
    AppendStream, PeerError, PeerReply, PeerRequest, Peers, Refusal, Stamp, Target, TransferRequest,
};
use crate::observe::Histogram;
use crate::raft_types::alias::{LogEntry, LogId, Vote};
use crate::raft_types::{Member, RaftId, TypeConfig};
use crate::storage::SnapshotFile;
use crate::task;

/// A silent member is called at least this often.
const SILENT_MEMBER_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Without any progress for this long, a snapshot transfer is given up and started again.
const SNAPSHOT_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// openraft's view of the cluster.
pub(super) type Metrics = openraft::alias::WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>;

/// Makes a [`RaftNetwork`] for each member.
#[derive(Clone)]
pub(super) struct NetworkFactory {
    pub(super) peers: Arc<dyn Peers>,
    pub(super) me: Arc<NodeIdentity>,
    pub(super) strangers: Arc<Strangers>,
    pub(super) acks: Arc<QuorumAcks>,
    pub(super) stamps: Arc<FollowerStamps>,
    pub(super) acknowledged: Arc<Acknowledged>,
    pub(super) journal: Arc<Journal>,
    /// The members' present addresses; set once Raft runs.
    pub(super) members: Arc<OnceLock<Metrics>>,
    /// How long an append of entries may take before it is sent again.
    pub(super) append_timeout: Duration,
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = RaftNetwork;

    async fn new_client(&mut self, target: RaftId, node: &Member) -> RaftNetwork {
        self.journal.knows(target, &node.id);
        RaftNetwork {
            peers: self.peers.clone(),
            me: self.me.clone(),
            strangers: self.strangers.clone(),
            acks: self.acks.clone(),
            stamps: self.stamps.clone(),
            acknowledged: self.acknowledged.clone(),
            round_trip: self.journal.numbers.round_trip_of(target),
            journal: self.journal.clone(),
            members: self.members.clone(),
            target: Target { raft_id: Some(target), id: node.id.clone() },
            append_timeout: self.append_timeout,
            idle_stream: Mutex::default(),
        }
    }
}

/// openraft's connection to one member.
pub(super) struct RaftNetwork {
    peers: Arc<dyn Peers>,
    me: Arc<NodeIdentity>,
    strangers: Arc<Strangers>,
    pub(super) acks: Arc<QuorumAcks>,
    stamps: Arc<FollowerStamps>,
    acknowledged: Arc<Acknowledged>,
    pub(super) journal: Arc<Journal>,
    round_trip: Arc<Histogram>,
    members: Arc<OnceLock<Metrics>>,
    target: Target,
    pub(super) append_timeout: Duration,
    /// A stream for appends that nothing is on.
    idle_stream: Mutex<Option<Box<dyn AppendStream>>>,
}

impl RaftNetwork {
    /// The member, at the addresses that the membership has for it now: openraft keeps a client across
    /// a change of them.
    fn target(&self) -> Target {
        let raft_id = self.target.raft_id;
        let moved = self.members.get().and_then(|metrics| {
            let metrics = metrics.borrow_watched();
            let member = metrics.membership_config.get_node(&raft_id?)?;
            (member.id != self.target.id).then(|| Target { raft_id, id: member.id.clone() })
        });
        moved.unwrap_or_else(|| self.target.clone())
    }

    /// The member has answered what was sent then, as one that follows this node, and gave this stamp.
    pub(super) fn answered(&self, sent: Sent, stamp: Stamp) {
        self.round_trip.took(sent.elapsed());
        if let Some(raft_id) = self.target.raft_id {
            self.acks.answered(raft_id, sent);
            self.stamps.received(raft_id, stamp);
        }
    }

    /// These entries are about to be sent.
    pub(super) fn sends(&self, request: &AppendEntriesRequest<TypeConfig>) {
        if let Some(to) = self.target.raft_id {
            let index = |entry: Option<&LogEntry>| entry.map(|entry| entry.log_id.index);
            self.journal.sends(to, index(request.entries.first()), index(request.entries.last()).unwrap_or(0));
        }
    }

    /// A request of the leader of `vote` is about to be sent; what to pass to [`outcome`](Self::outcome) with its answer.
    pub(super) fn asking(&self, vote: Vote) -> Asked {
        self.acknowledged.asking(self.target.raft_id.unwrap_or_default(), vote)
    }

    /// Passes on what the member answered. Where that proves that it has lost what it had acknowledged, it is told so, and
    /// counts as unreachable: see [`crate::node::memory`].
    pub(super) fn outcome(&self, vote: Vote, asked: Asked, outcome: StreamAppendResult<TypeConfig>) -> AppendOutcome {
        if let (Some(raft_id), Ok(Some(entry))) = (self.target.raft_id, &outcome) {
            self.acknowledged.answered(raft_id, vote, *entry);
            self.journal.acknowledged(raft_id, entry.index);
        }
        if let (Some(raft_id), Err(StreamAppendError::Conflict(at))) = (self.target.raft_id, &outcome) {
            self.journal.conflicts(raft_id, at.index);
        }
        match asked.lost_by(&outcome) {
            None => Ok(outcome),
            Some((vote, acknowledged)) => {
                self.tell_of_loss(vote, acknowledged);
                let what = format!("{} lacks entry {acknowledged}, which it acknowledged", self.target.id);
                Err(RPCError::Unreachable(Unreachable::from_string(what)))
            }
        }
    }

    fn tell_of_loss(&self, vote: Vote, acknowledged: LogId) {
        let Some(raft_id) = self.target.raft_id.filter(|raft_id| self.acknowledged.is_to_be_told(*raft_id)) else {
            return;
        };
        let target = self.target();
        let call = self.peers.call(&target, PeerRequest::Forgotten { vote, acknowledged }, self.append_timeout);
        let is_news = self.strangers.first_time(format!("forgot {raft_id} {acknowledged}"));
        task::spawn(async move {
            match call.await {
                Ok(PeerReply::Forgotten(true)) | Err(PeerError::Refused(Refusal::LostMemory(_))) if is_news => {
                    tracing::error!(
                        "{} lost entry {acknowledged}, which it had acknowledged: its data directory was put back from the \
                         past, or has lost files; it takes no part until it has joined anew",
                        target.id
                    );
                }
                Ok(PeerReply::Forgotten(false)) if is_news => {
                    tracing::warn!("{} said that it lacks entry {acknowledged}, and has it", target.id);
                }
                _ => {}
            }
        });
    }

    /// Keeps a stream for appends until there are more of them.
    pub(super) fn keep_idle(&self, stream: Option<Box<dyn AppendStream>>) {
        *self.idle_stream.lock() = stream;
    }

    /// The idle stream, if it is still open, or a new one.
    async fn append_stream(&self) -> Result<Option<Box<dyn AppendStream>>, PeerError> {
        let idle_stream = self.idle_stream.lock().take();
        if let Some(mut stream) = idle_stream
            && stream.next().now_or_never().is_none()
        {
            return Ok(Some(stream));
        }
        self.peers.open_appends(&self.target(), self.append_timeout).await
    }

    /// An error as openraft takes it.
    pub(super) fn failed(&self, error: PeerError) -> RPCError<TypeConfig> {
        self.report(&error);
        rpc_error(error)
    }

    /// Asks the member whether it understands a snapshot of this format: one that does not must not be sent it.
    async fn check_understands(&self, format: Format) -> Result<(), PeerError> {
        if format == OLDEST {
            return Ok(());
        }
        let target = self.target();
        match formats::ask(&*self.peers, &target).await {
            Some(speaks) if speaks.understands(format) => Ok(()),
            Some(speaks) => {
                let why = speaks.too_old(&target.id, format);
                if self.strangers.first_time(format!("snapshot {:?} {}", target.raft_id, speaks.version)) {
                    tracing::warn!("{why}; it gets no snapshot");
                }
                Err(PeerError::Unreachable(why))
            }
            None => Err(PeerError::Unreachable("it does not say what it understands".to_owned())),
        }
    }

    async fn call(&self, request: PeerRequest, timeout: Duration) -> Result<PeerReply, RPCError<TypeConfig>> {
        self.peers.call(&self.target(), request, timeout).await.map_err(|error| self.failed(error))
    }

    async fn ask_for_vote(
        &self,
        ballot: Ballot,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let of = self.target.raft_id.unwrap_or_default();
        self.journal.asks(ballot, of, &rpc);
        let request = match ballot {
            Ballot::PreVote => PeerRequest::PreVote(rpc.clone()),
            Ballot::Vote => PeerRequest::Vote(rpc.clone()),
        };
        match self.call(request, option.soft_ttl()).await? {
            PeerReply::Vote(response) => {
                self.journal.hears(ballot, of, &rpc, &response);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Two clusters on one address need an operator, as does a node that has diverged; said once.
    fn report(&self, error: &PeerError) {
        if let PeerError::Refused(Refusal::Diverged(why)) = error
            && let Some(raft_id) = self.target.raft_id
            && self.strangers.first_time(format!("diverged {raft_id}"))
        {
            tracing::warn!("{} takes no part any more: {why}", self.target().id);
        }
        // A stray node that was wiped has another Raft id, too.
        if let PeerError::Refused(Refusal::WrongCluster(who) | Refusal::WrongTarget(who)) = error
            && let (Some(mine), Some(theirs)) = (self.me.cluster(), who.cluster)
            && mine != theirs
            && self.strangers.first_time(format!("refused {theirs} {}", who.id))
        {
            tracing::error!(
                "{} is of cluster {theirs} and refuses {} of cluster {mine}: if the node there is the stray one, stop \
                 it, delete its data directory and start it again; if this one is, delete {}",
                who.id,
                self.me.id(),
                self.me.data_place,
            );
        }
    }
}

fn rpc_error(error: PeerError) -> RPCError<TypeConfig> {
    match error {
        PeerError::Lost(_) => RPCError::Network(NetworkError::new(&error)),
        PeerError::Unreachable(_) | PeerError::Busy(_) | PeerError::Refused(_) => {
            RPCError::Unreachable(Unreachable::new(&error))
        }
    }
}

fn unexpected(reply: &PeerReply) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(format!("an answer to another question: {reply:?}")))
}

impl RaftNetworkV2<TypeConfig> for RaftNetwork {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        // A heartbeat is abandoned by openraft after its interval. Entries have a disk to reach on
        // the other side: sending them again because of a slow flush would only make it slower.
        let timeout = if rpc.entries.is_empty() { option.soft_ttl() } else { self.append_timeout };
        let sent = self.acks.sending(rpc.leader_commit);
        self.sends(&rpc);
        let (vote, asked, prev) = (rpc.vote, self.asking(rpc.vote), rpc.prev_log_id);
        let last = rpc.entries.last().map_or(prev, |entry| Some(entry.log_id));
        match self.call(PeerRequest::Append(rpc), timeout).await? {
            PeerReply::Append(AppendEntriesResponse::Conflict, _) if prev.is_none() => {
                Err(RPCError::Network(NetworkError::from_string("a conflict with nothing")))
            }
            PeerReply::Append(response, stamp) => {
                let outcome = self.outcome(vote, asked, response.clone().into_stream_result(prev, last))?;
                if !matches!(outcome, Err(StreamAppendError::HigherVote(_))) {
                    self.answered(sent, stamp);
                }
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendOutcome>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            // Nothing is opened for what never comes.
            let Some(first) = requests.next().await else { return Ok(stream::empty().boxed()) };
            Ok(match self.append_stream().await.map_err(|error| self.failed(error))? {
                Some(stream) => AppendSession::run(self, stream, first, requests).boxed(),
                None => stream_append_sequential(self, stream::iter([first]).chain(requests), option).await?,
            })
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(Ballot::Vote, rpc, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(Ballot::PreVote, rpc, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let covered = snapshot.meta.last_log_id;
        let upto = covered.map_or(0, |id| id.index);
        let tell = |what: &str| {
            let peer = self.target.id.to_string();
            let text = format!("A snapshot of all up to {upto} {what} {peer}.");
            self.journal.note(EventKind::Snapshot, upto, Some(peer), text);
        };
        tell("is sent to");
        let transfer = async {
            self.check_understands(snapshot.snapshot.format()).await?;
            let target = self.target();
            self.peers.send_snapshot(&target, vote, snapshot.meta, snapshot.snapshot, SNAPSHOT_IDLE_TIMEOUT).await
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = transfer => match sent.map_err(rpc_error)? {
                PeerReply::Snapshot(theirs) => {
                    tell("was installed by");
                    if let (Some(raft_id), Some(covered)) = (self.target.raft_id, covered.filter(|_| theirs == vote)) {
                        self.acknowledged.answered(raft_id, vote, covered);
                    }
                    Ok(SnapshotResponse::new(theirs))
                }
                other => Err(unexpected(&other).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = PeerRequest::TransferLeader(TransferRequest::from(&request));
        match self.call(request, option.soft_ttl()).await? {
            PeerReply::TransferLeader(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(SILENT_MEMBER_RETRY_INTERVAL)))
    }
}
