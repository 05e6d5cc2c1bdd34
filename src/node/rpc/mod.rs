//! The messages between nodes, and the seam they go through.
//!
//! [`Peers`] is implemented by the HTTP transport and by simulations; nothing here knows a socket.
//! One request enum and one reply enum carry everything but snapshots, which are streamed.
//!
//! Every message travels in an [`Envelope`] that says who it is from and exactly which Raft node it
//! is for: a wiped node has a new Raft id, and must not answer for its former self.

mod answers;
mod event;
mod lanes;
mod members;
mod request_mark;
mod transfer;
mod vitals;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::command::{Command, Key, Principal, Reply};
use crate::formats::{Format, Speaks};
use crate::node::{NodeError, State};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::alias::{LogId, SnapshotMeta, Vote};
use crate::raft_types::{ClusterId, Founding, RaftId, StartMark, TypeConfig};
use crate::record::Record;
use crate::storage::SnapshotFile;

pub use answers::{Founder, Identification, LeaderSeen, Mark, MemberAnswer, Moved, Standing, Witness};
pub use event::{Cursor, Event, EventKind, MAX_TEXT_BYTES, PAGE_EVENTS, Page, VoteAction};
pub use lanes::{LanedPeers, MAX_WIDTH};
pub use members::{JoinRefusal, MemberChange};
pub use request_mark::{MAX_MARKS, RequestMark, Stages};
pub use transfer::TransferRequest;
pub use vitals::{ClockRate, ClockReading, Vitals};

/// A boxed future, so that [`Peers`] is object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The Raft node a message is for, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its Raft id; `None` where the sender only knows the address.
    pub raft_id: Option<RaftId>,
    /// Its addresses.
    pub id: PublicId,
}

/// The sender and the receiver of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sender's cluster; `None` before it has joined one.
    pub cluster: Option<ClusterId>,
    /// The sender's public id.
    pub from: PublicId,
    /// The sender's Raft id.
    pub from_raft: RaftId,
    /// The sender's process.
    pub start: StartMark,
    /// The receiver's public id as the sender knows it.
    pub to: PublicId,
    /// The receiver's Raft id as the sender knows it; `None` only with [`PeerRequest::Identify`].
    pub to_raft: Option<RaftId>,
    /// The newest start of the receiver's Raft id that the sender knows of.
    pub to_start: Option<StartMark>,
    /// The newest stamp of the receiver that the sender has got with an answer.
    pub echo: Option<Stamp>,
    /// From a leader: how fresh the receiver is once it has applied enough.
    pub confirmed: Option<Confirmed>,
    /// From a leader that stamps entries: its term, and log time now.
    pub log_time: Option<(u64, u64)>,
    /// From a leader: the newest mark that it has applied.
    pub mark: Option<Mark>,
    /// The format that the message is said in. The answer is to be in the same.
    #[serde(skip)]
    pub format: Format,
    /// What the sender understands. It travels behind the message, where older nodes do not look.
    #[serde(skip)]
    pub speaks: Speaks,
}

/// A moment on the clock of one process, which gives it away to get it back: nobody else can tell what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// A random number of the process.
    pub boot: u64,
    /// Microseconds on its clock.
    pub micros: u64,
}

/// A leader's word: whatever anybody had seen committed when `stamp` was given, its index is at most `committed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// A moment on the receiver's own clock.
    pub stamp: Stamp,
    /// An index.
    pub committed: u64,
}

/// The outcome of an append, and a stamp of the clock of the one who answers.
pub type StampedOutcome = (StreamAppendResult<TypeConfig>, Stamp);

/// One question to a peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PeerRequest {
    /// Raft's AppendEntries; a heartbeat where there are no entries.
    Append(AppendEntriesRequest<TypeConfig>),
    /// Raft's RequestVote.
    Vote(VoteRequest<TypeConfig>),
    /// Would you vote for me? Changes nothing (Ongaro's dissertation, 9.6).
    PreVote(VoteRequest<TypeConfig>),
    /// The leader hands over (dissertation, 3.10).
    TransferLeader(TransferRequest),
    /// Propose these commands, or say that you cannot; never pass them on again.
    Forward {
        /// The commands, in this order.
        commands: Vec<Arc<Command>>,
        /// How long the client still waits, in milliseconds.
        timeout_ms: u64,
    },
    /// A weak read: answer from your own map if you believe that you lead.
    Read {
        /// The key.
        key: Key,
        /// Answer only once this is applied.
        min_index: u64,
        /// How long the client still waits, in milliseconds.
        timeout_ms: u64,
    },
    /// Confirm with a quorum that you lead, and give the index a reader must have applied.
    ReadIndex {
        /// The newest vote that the asker has begun to save: who it follows.
        following: Option<Vote>,
        /// The index that it has applied.
        applied: u64,
    },
    /// Give the index you have applied if you believe that you lead.
    WeakIndex,
    /// Tell your [`State`].
    Status,
    /// Which Raft node answers at this address?
    Identify,
    /// Stay with me while you lead: answered when the receiver no longer does, or after a while.
    LeaderWatch,
    /// Have you, too, lost this leader's process?
    IsLeaderGone(LeaderSeen),
    /// Is this Raft node still a member? Only a leader that a quorum confirmed may know.
    IsMember(RaftId),
    /// Make this node a member; never passed on again.
    Join {
        /// The node's public id.
        id: PublicId,
        /// How long the asker still waits, in milliseconds.
        timeout_ms: u64,
    },
    /// Hand leadership to this member, or to the one that has most of the log; never passed on again.
    Lead {
        /// An id or part of one, as a user typed it.
        wanted: Option<String>,
        /// How long the asker still waits, in milliseconds.
        timeout_ms: u64,
    },
    /// Remove a member; never passed on again.
    Remove {
        /// An id or part of one, as a user typed it.
        wanted: String,
        /// Remove it even where the rest would lack a quorum.
        force: bool,
        /// How long the asker still waits, in milliseconds.
        timeout_ms: u64,
    },
    /// Say what you found with others; first adopt this, if you may.
    Found(Option<Founding>),
    /// Did you call me? Which Raft node answers here, and which member has the asker's address?
    Vouch,
    /// What does the one who leads have at this index?
    Witness {
        /// The index of a log entry.
        index: u64,
    },
    /// You acknowledged this entry to me, and then said that you lack it. Have you lost it?
    Forgotten {
        /// The vote of the leader that asks.
        vote: Vote,
        /// The entry.
        acknowledged: LogId,
    },
    /// These entries are of requests that are known by these marks. From [`Format`] 2 on.
    Marks(Vec<(u64, RequestMark)>),
    /// What have you done since? Waits for something. From [`Format`] 2 on.
    Events {
        /// The position of the asker.
        after: Option<Cursor>,
        /// How long to wait, in milliseconds.
        wait_ms: u64,
    },
    /// How are you? From [`Format`] 2 on.
    Examine,
    /// As [`Read`](Self::Read), for a client of a cluster that has authentication on.
    ReadBy {
        /// The client.
        by: Principal,
        /// The key.
        key: Key,
        /// Answer only once this is applied.
        min_index: u64,
        /// How long the client still waits, in milliseconds.
        timeout_ms: u64,
    },
    /// As [`Join`](Self::Join), [`Lead`](Self::Lead) and [`Remove`](Self::Remove), likewise.
    AdminBy {
        /// The client.
        by: Principal,
        /// What it wants.
        change: MemberChange,
        /// How long the client still waits, in milliseconds.
        timeout_ms: u64,
    },
    /// What time is it? From [`Format`] 2 on.
    Clock,
    /// Have I acknowledged this entry to you, or a later one? From [`Format`] 2 on.
    Acknowledged {
        /// The vote of the leader that is asked.
        vote: Vote,
        /// The entry.
        entry: LogId,
    },
}

/// The answer to a [`PeerRequest`], variant by variant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PeerReply {
    /// To [`PeerRequest::Append`], with a stamp of the clock of the one who answers.
    Append(AppendEntriesResponse<TypeConfig>, Stamp),
    /// To [`PeerRequest::Vote`] and [`PeerRequest::PreVote`].
    Vote(VoteResponse<TypeConfig>),
    /// To [`PeerRequest::TransferLeader`].
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    /// To [`PeerRequest::Forward`]: what became of each.
    Forward(Vec<Result<(u64, Reply), ForwardError>>),
    /// To [`PeerRequest::Read`] and [`PeerRequest::ReadBy`]: what the key holds, if it is there, and the applied index it was read at.
    Read(Result<Result<(Option<Record>, u64), NodeError>, NotLeader>),
    /// To [`PeerRequest::ReadIndex`]; `None` where it does not lead or no quorum confirmed it.
    ReadIndex(Option<u64>),
    /// To [`PeerRequest::WeakIndex`].
    WeakIndex(Result<u64, NotLeader>),
    /// To [`PeerRequest::Status`], with what keeps the node, or the cluster that it leads, from going on.
    Status(State, Vec<String>),
    /// To [`PeerRequest::Identify`].
    Identify(Identification),
    /// To [`PeerRequest::LeaderWatch`].
    LeaderWatch,
    /// To [`PeerRequest::IsLeaderGone`]: the last log id where it has, `None` where it has not.
    IsLeaderGone(Option<Option<LogId>>),
    /// To [`PeerRequest::IsMember`]; and the newest start that the one who answers has seen of it.
    IsMember(MemberAnswer, Option<StartMark>),
    /// To [`PeerRequest::Join`], [`PeerRequest::Remove`], [`PeerRequest::Lead`] and [`PeerRequest::AdminBy`]; the outer error: it does not lead.
    Admin(Result<Result<(), NodeError>, NotLeader>),
    /// To a snapshot: the receiver's vote.
    Snapshot(Vote),
    /// To [`PeerRequest::Found`].
    Found(Founder),
    /// To [`PeerRequest::Vouch`].
    Vouch {
        /// Who answers.
        who: Identification,
        /// The Raft id of the member that has the asker's public id, if there is one.
        asker: Option<RaftId>,
    },
    /// To [`PeerRequest::Witness`]; `None` where it does not lead.
    Witness(Option<Witness>),
    /// To [`PeerRequest::Forgotten`]: it has, and takes no part any more.
    Forgotten(bool),
    /// To [`PeerRequest::Marks`]: where the time of each went that is to be timed.
    Marks(Vec<Option<Stages>>),
    /// To [`PeerRequest::Events`].
    Events(Page),
    /// To [`PeerRequest::Examine`].
    Examine(Box<Vitals>),
    /// To [`PeerRequest::Clock`].
    Clock(ClockReading),
    /// To [`PeerRequest::Acknowledged`]; also false where the one who answers was not that leader.
    Acknowledged(bool),
}

/// The receiver does not lead, so it did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotLeader;

/// Why a forwarded command was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardError {
    /// The receiver does not lead: the command was not appended and may be sent elsewhere.
    NotLeader,
    /// The final answer.
    Failed(NodeError),
}

/// Why a message was not taken at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Another Raft node answers at this address.
    WrongTarget(Box<Identification>),
    /// The receiver belongs to another cluster.
    WrongCluster(Box<Identification>),
    /// The receiver was removed or stops; or the message says what nobody stands by when asked.
    Stopped,
    /// The receiver speaks another version of the protocol, or could not read the message.
    Unreadable(String),
    /// The receiver's state is not its cluster's, and why it knows.
    Diverged(String),
    /// This start of the sender's Raft id is known, and the sender's own is an earlier one, or that of a copy.
    Superseded(StartMark),
    /// The receiver's directory has lost its memory, so it takes no part: why.
    LostMemory(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::WrongTarget(who) => write!(f, "another Raft node answers there: {} of {}", who.raft_id, who.id),
            Refusal::WrongCluster(who) => match who.cluster {
                Some(cluster) => write!(f, "{} belongs to another cluster, {cluster}", who.id),
                None => write!(f, "{} belongs to no cluster", who.id),
            },
            Refusal::Stopped => write!(f, "it was removed, is stopping, or nobody stands by the message"),
            Refusal::Unreadable(why) => write!(f, "it could not read the message: {why}"),
            Refusal::Diverged(why) => write!(f, "it has diverged: {why}"),
            Refusal::Superseded(seen) => write!(f, "it knows start {} of this node's Raft id", seen.starts),
            Refusal::LostMemory(why) => write!(f, "it lost its memory and takes no part: {why}"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// No connection: nothing was sent.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// This node has as much under way to it as it may: nothing was sent.
    #[error("{0}")]
    Busy(String),
    /// It may have been received, but no answer came.
    #[error("no answer: {0}")]
    Lost(String),
    /// It was received and refused: nothing was done.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// A node's answer at its client address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Who answers: an address may be a balancer's.
    pub id: PublicId,
    /// It is a member of a cluster.
    pub has_cluster: bool,
    /// The members that it knows, itself included.
    pub members: Vec<PublicId>,
}

/// The way to other nodes.
pub trait Peers: fmt::Debug + Send + Sync + 'static {
    /// Sends one request to a node's Raft address and waits for the answer, at most `timeout`.
    ///
    /// # Errors
    /// [`PeerError`], which tells whether the request can have been received.
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>>;

    /// Opens a way for appends to a node's Raft address that need not wait for one another; `None` where there is only
    /// [`call`](Self::call).
    ///
    /// # Errors
    /// [`PeerError`].
    fn open_appends(
        &self,
        _target: &Target,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Streams a snapshot to a node; returns its vote once it has installed it. Gives up where
    /// nothing moves for `idle_timeout`.
    ///
    /// # Errors
    /// [`PeerError`].
    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>>;

    /// The addresses that this one leads to now: a name may stand for many nodes. An address is its own. Empty where a name
    /// does not resolve. May take as long as a resolver does.
    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>>;

    /// Asks the node at a *client* address to make `id` a member; the text is its refusal.
    ///
    /// # Errors
    /// [`PeerError`].
    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>>;

    /// Asks the node at a *client* address who it is, and whether it has a cluster.
    ///
    /// # Errors
    /// [`PeerError`].
    fn probe(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Result<Probe, PeerError>>;

    /// The public ids told at a *client* address, by each node that its name leads to. None where nobody answers in time.
    fn ids_at(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Vec<PublicId>>;
}

/// Appends to one node, and its answers in the same order.
pub trait AppendStream: Send {
    /// Sends one. Must be awaited to its end, or the stream be dropped.
    ///
    /// # Errors
    /// [`PeerError`]: the stream is of no more use.
    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> BoxFuture<'_, Result<(), PeerError>>;

    /// The next answer. The future may be dropped.
    ///
    /// # Errors
    /// [`PeerError`]: the stream is of no more use.
    fn next(&mut self) -> BoxFuture<'_, Result<StampedOutcome, PeerError>>;
}
