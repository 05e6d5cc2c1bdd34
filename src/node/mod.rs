//! The façade that the edges talk to: write, read, status, membership.
//!
//! A [`Node`] is a running Raft node with its state machine and the way to its peers. It knows
//! nothing of HTTP: what arrives at the Raft port is handed to [`Node::answer`], what a client wants
//! to [`Node::write`], [`Node::read`] and their neighbours, each with a deadline that it keeps.
//!
//! Caveats: an error says what is known of the outcome, see [`NodeError`]; only a request that
//! provably was not appended to any log is tried again.

mod access;
mod copy;
mod divergence;
mod doctor;
mod error;
mod formats;
mod identity;
mod journal;
mod leader;
mod membership;
mod memory;
pub mod moving;
mod numbers;
mod opening;
mod options;
mod quota;
mod read;
mod replication;
mod rounds;
pub mod rpc;
mod state;
mod status;
mod tasks;
#[cfg(test)]
mod tests;
mod write;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::command::Reply;
use crate::kv::RetryRoom;
use crate::log_time::LogClock;
use crate::node_id::{HostPort, PublicId};
use crate::observe::{BackupNumbers, RequestLogNow, SecurityNumbers};
use crate::raft_types::TypeConfig;
use crate::state_machine::{MapReader, StateMachine};
use crate::storage::SnapshotStore;
use crate::storage::log::LogStore;
use crate::task;
use crate::watch::Watches;
use rounds::Rounds;
use rpc::Peers;
use state::Phase;

pub use access::Gate;
pub use copy::StateCopy;
pub use doctor::{Finding, Patient, Severity};
pub use error::NodeError;
pub use identity::NodeIdentity;
pub use journal::{AllEvents, EntryView, EventRing, NodeEvent, Proposed};
pub use membership::form::Start;
pub use membership::join::is_at;
pub use membership::remove::ask_whether_removed;
pub use memory::start::{Asked, Standing, ask_standing, is_behind};
pub use numbers::{
    DiskNumbers, ELECTION_KINDS, ELECTION_OUTCOMES, Numbers, PROPOSAL_OUTCOMES, PeerNumbers, READ_INDEX_OUTCOMES,
    RaftNumbers, StateNumbers, WARNING_KINDS,
};
pub use opening::NodeSlot;
pub use options::RaftOptions;
pub use read::{Found, ReadLevel, ReadOptions, Settled, StateView};
pub use rpc::{Cursor, Event, EventKind, MAX_TEXT_BYTES, PAGE_EVENTS, Page, Stages, Vitals, VoteAction};
pub use state::State;
pub use status::{About, Cluster, ClusterServer, Server, Stats};

/// A write that was applied.
#[derive(Debug, Clone)]
pub struct Written {
    /// Index of its log entry.
    pub index: u64,
    /// When it was where, if it was proposed here.
    pub proposed: Option<Proposed>,
    /// Where its time went at the leader, if it was passed on and that was asked for.
    pub stages: Option<Stages>,
    /// How long it took to ask for that.
    pub measuring: Duration,
    /// The answer that applying it gave.
    pub reply: Reply,
    /// The leader that proposed it, where this node passed it on.
    pub served_by: Option<PublicId>,
}

struct Inner {
    id: PublicId,
    raft: Raft<TypeConfig, StateMachine>,
    me: Arc<NodeIdentity>,
    peers: Arc<dyn Peers>,
    map: MapReader,
    log: LogStore,
    snapshots: SnapshotStore,
    options: RaftOptions,
    freshness: read::freshness::LeaderFreshness,
    strangers: Arc<membership::strangers::Strangers>,
    acks: Arc<read::quorum_acks::QuorumAcks>,
    stamps: Arc<read::follower_stamps::FollowerStamps>,
    refused_starts: memory::RefusedStarts,
    questions: memory::verify::Questions,
    /// What followers have acknowledged to this process.
    acknowledged: Arc<memory::acknowledged::Acknowledged>,
    phase: watch::Sender<Phase>,
    /// The runtime that it was started in.
    home: Handle,
    reads: read::read_index::ReadIndex,
    forwarder: write::forward::Forwarder,
    proposals: write::propose::Proposals,
    apply_room: write::apply_room::ApplyRoom,
    /// What it founds with others.
    muster: parking_lot::Mutex<membership::found::Muster>,
    /// Nodes that ask to join and are dialled at a time.
    join_places: Semaphore,
    /// How the cluster is, for all who ask.
    cluster_rounds: Rounds<Cluster>,
    vitals_rounds: Rounds<Vec<Patient>>,
    /// The same in short, for requests that find no leader.
    silence_rounds: Rounds<Cluster>,
    /// What the members understand, for requests that need a newer format.
    speech_rounds: Rounds<formats::Told>,
    /// Weak reads at the leader that wait there for an index which this node lacks, too.
    far_reads: Semaphore,
    /// One membership change at a time: openraft refuses a second.
    membership_turn: Mutex<()>,
    /// The last term in which this node was seen to lead, and since when.
    led: parking_lot::Mutex<Option<(u64, Instant)>>,
    /// The committed index that the log knew when it was opened.
    committed_at_open: u64,
    histories: divergence::Histories,
    clocks: tasks::clocks::Clocks,
    hindrances: watch::Sender<Vec<String>>,
    /// What is wrong with secrets and certificates, where those are told.
    security: OnceLock<Arc<SecurityNumbers>>,
    /// When this node heard last that a leader hands over.
    transfer_at: parking_lot::Mutex<Option<Instant>>,
    /// The log was empty when it was opened, or is a former self's: this Raft id became a member since, if at all.
    is_new: bool,
    proposed_format: formats::Proposed,
    numbers: Arc<numbers::NodeNumbers>,
    journal: Arc<journal::Journal>,
    request_log: OnceLock<RequestLogNow>,
    /// The flags that are to be the same at all nodes.
    flags: OnceLock<Vec<(String, String)>>,
    quota: quota::Own,
    followers: journal::Followers,
    backups: BackupNumbers,
    /// The client addresses of `--rjoin` that are not this node's.
    listed: OnceLock<Vec<HostPort>>,
}

/// A handle to the running node; clones share it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({}, raft id {})", self.inner.me.id(), self.inner.me.raft_id())
    }
}

/// The parts that a node is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its identity.
    pub me: Arc<NodeIdentity>,
    /// The way to the others.
    pub peers: Arc<dyn Peers>,
    /// Its Raft log.
    pub log: LogStore,
    /// Its state machine.
    pub machine: StateMachine,
    /// Keeps and receives snapshots.
    pub snapshots: SnapshotStore,
    /// The runtime of those who ask it; its own is the one that it is started in.
    pub clients: Handle,
}

/// The tasks of a node; they end when the node is shut down.
#[derive(Debug)]
pub struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Node {
    /// Starts Raft on what is on the disk. An empty node waits to be told to form or join a cluster:
    /// see [`Node::find_cluster`].
    ///
    /// # Errors
    /// [`NodeError::Internal`] where the storage cannot be read or the options contradict each other.
    pub async fn start(parts: Parts, options: RaftOptions) -> Result<(Self, Tasks), NodeError> {
        let Parts { me, peers, mut log, machine, snapshots, clients } = parts;
        let peers: Arc<dyn Peers> = Arc::new(moving::BookedPeers::new(peers, me.book().clone()));
        let peers: Arc<dyn Peers> = Arc::new(memory::peers::MemoryPeers::new(peers, me.clone()));
        let internal = |error: &dyn std::fmt::Display| NodeError::Internal(format!("Raft does not start: {error}"));
        me.load_diverged().map_err(|e| internal(&e))?;
        let config = options.config().validate().map_err(|e| internal(&e))?;
        let committed = openraft::storage::RaftLogStorage::read_committed(&mut log).await.map_err(|e| internal(&e))?;
        let strangers = Arc::new(membership::strangers::Strangers::default());
        let members = Arc::new(OnceLock::new());
        let acks = Arc::new(read::quorum_acks::QuorumAcks::default());
        let stamps = Arc::new(read::follower_stamps::FollowerStamps::default());
        let freshness = read::freshness::LeaderFreshness::new(me.boot());
        let numbers = Arc::new(numbers::NodeNumbers::default());
        let acknowledged = Arc::new(memory::acknowledged::Acknowledged::default());
        let journal = Arc::new(journal::Journal::new(
            (me.raft_id(), &me.id()),
            me.boot(),
            log.vote().map_or(0, |vote| vote.leader_id.term),
            numbers.clone(),
        ));
        log.watched_by(journal.clone());
        let network = replication::NetworkFactory {
            peers: peers.clone(),
            me: me.clone(),
            strangers: strangers.clone(),
            acks: acks.clone(),
            stamps: stamps.clone(),
            acknowledged: acknowledged.clone(),
            journal: journal.clone(),
            members: members.clone(),
            append_timeout: options.election_max().max(Duration::from_secs(2)),
        };
        let map = machine.reader();
        map.on_applied({
            let journal = journal.clone();
            Box::new(move |index| journal.applied(index))
        });
        let is_new = log.is_empty() || !me.replaces().is_empty();
        let raft =
            Raft::new(me.raft_id(), Arc::new(config), network, log.clone(), machine).await.map_err(|e| internal(&e))?;
        // Set once; nothing was sent before, or only to where members were at open.
        let _ = members.set(raft.metrics());
        // Metrics start out blank; what is asked of them below must be what is on the disk.
        let stored = raft.with_raft_state(|state| *state.membership_state.effective().log_id()).await;
        let stored = stored.map_err(|e| internal(&e))?;
        raft.metrics().wait_until(|m| *m.membership_config.log_id() >= stored).await.map_err(|e| internal(&e))?;
        let (reads, read_queue) = read::read_index::ReadIndex::new();
        let (forwarder, forward_queue) = write::forward::Forwarder::new();
        let (proposals, proposal_queue) = write::propose::Proposals::new(journal.clone());
        let inner = Inner {
            id: me.id(),
            raft,
            me,
            peers,
            map,
            log,
            snapshots,
            options,
            freshness,
            strangers,
            acks,
            stamps,
            refused_starts: memory::RefusedStarts::default(),
            questions: memory::verify::Questions::default(),
            acknowledged,
            phase: watch::Sender::new(Phase::Joining),
            home: Handle::current(),
            reads,
            forwarder,
            proposals,
            apply_room: write::apply_room::ApplyRoom::new(),
            muster: parking_lot::Mutex::default(),
            join_places: Semaphore::new(membership::join::MAX_DIALLED),
            cluster_rounds: Rounds::default(),
            vitals_rounds: Rounds::default(),
            silence_rounds: Rounds::default(),
            speech_rounds: Rounds::default(),
            far_reads: Semaphore::new(read::MAX_FAR_READS),
            membership_turn: Mutex::new(()),
            led: parking_lot::Mutex::default(),
            committed_at_open: committed.map_or(0, |id| id.index),
            histories: divergence::Histories::default(),
            clocks: tasks::clocks::Clocks::default(),
            hindrances: watch::Sender::default(),
            security: OnceLock::new(),
            transfer_at: parking_lot::Mutex::default(),
            is_new,
            proposed_format: formats::Proposed::default(),
            numbers,
            journal,
            request_log: OnceLock::new(),
            flags: OnceLock::new(),
            quota: quota::Own::default(),
            followers: journal::Followers::default(),
            backups: BackupNumbers::default(),
            listed: OnceLock::new(),
        };
        let node = Self { inner: Arc::new(inner) };
        node.inner.raft.runtime_config().elect(node.may_elect() && !node.is_only_voter());
        // Weak: the identity is a part of the node.
        let inner = Arc::downgrade(&node.inner);
        node.inner.me.set_freshness_source(Box::new(move |member| {
            inner.upgrade().map_or((None, None), |inner| Self { inner }.freshness_of(member))
        }));
        let inner = Arc::downgrade(&node.inner);
        node.inner.journal.set_silence(Box::new(move || inner.upgrade()?.freshness.since_received()));
        node.inner.snapshots.on_step({
            let journal = node.inner.journal.clone();
            Box::new(move |step, index| journal.snapshot(step, index))
        });
        node.inner.me.set_log_clock(node.clock().clone());
        node.inner.me.set_mark_source(node.inner.map.noted());
        node.inner.me.set_format_source(node.inner.map.format());
        let tasks = Tasks(vec![
            // These wake many at once: from another runtime each would cost a wake of its own.
            task::spawn_on(&clients, node.clone().confirm_read_indexes(read_queue)),
            task::spawn_on(&clients, node.watches().clone().wake()),
            task::spawn(node.clone().forward_queued(forward_queue)),
            task::spawn(proposal_queue.run(node.inner.raft.clone())),
            task::spawn(node.clone().follow_phases()),
            task::spawn(node.clone().report_changes()),
            task::spawn(node.clone().watch_leader_process()),
            task::spawn(node.clone().promote_learners()),
            task::spawn(node.clone().ask_whether_removed()),
            task::spawn(node.clone().seek_members()),
            task::spawn(node.clone().bound_the_log()),
            task::spawn(node.clone().raise_format()),
            task::spawn(node.clone().keep_quota()),
            task::spawn(node.clone().keep_time()),
            task::spawn(node.clone().tick()),
            task::spawn(node.clone().end_watches_once_out()),
            task::spawn(node.clone().watch_progress()),
            task::spawn(node.clone().mark()),
            task::spawn(node.clone().compare_marks()),
            task::spawn(node.clone().compare_clocks()),
            task::spawn(node.clone().abstain_once_lost()),
            task::spawn(node.inner.journal.clone().tell_often()),
        ]);
        Ok((node, tasks))
    }

    /// The public id.
    pub fn id(&self) -> &PublicId {
        &self.inner.id
    }

    /// Index of the last entry applied here.
    pub fn applied_index(&self) -> u64 {
        *self.inner.map.applied().borrow()
    }

    /// The room for one more kept outcome, that of this `Idempotency-Key`, as far as this node has applied.
    pub fn retry_room(&self, key: &str) -> RetryRoom {
        self.inner.map.retry_room(key)
    }

    /// Changes of the state, and those who watch them.
    pub fn watches(&self) -> &Watches {
        self.inner.map.watches()
    }

    /// This node's estimate of log time.
    pub fn clock(&self) -> &LogClock {
        self.inner.map.clock()
    }

    /// Has writes logged that members pass on, as this says. Only the first call counts.
    pub fn log_requests(&self, log: RequestLogNow) {
        let _first = self.inner.request_log.set(log);
    }

    /// Has the flags that are to be the same at all nodes: their names and values, which a doctor compares.
    pub fn has_flags(&self, flags: Vec<(String, String)>) {
        let _first = self.inner.flags.set(flags);
    }

    /// Stops Raft; nothing is proposed, applied or answered to peers afterwards.
    pub async fn shutdown(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!("Raft did not stop cleanly: {error}");
        }
    }

    /// Ends with the reason when Raft cannot go on, which is a disk error or a bug. Never ends for a node that has diverged.
    pub async fn failed(&self) -> String {
        // These end with Raft. The metrics that say why change with every entry: too often to wait on them.
        let mut rarely = self.inner.raft.server_metrics();
        while rarely.changed().await.is_ok() {}
        self.outlive_refused_truncation().await;
        let metrics = self.inner.raft.metrics();
        let reason = metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        reason.unwrap_or_else(|| "Raft ended".to_owned())
    }

    /// Waits until this node has applied `index`.
    pub(crate) async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), NodeError> {
        let mut applied = self.inner.map.applied();
        if *applied.borrow() >= index {
            return Ok(());
        }
        let waited = tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(NodeError::Internal("the state machine has stopped".to_owned())),
            Err(_) => Err(NodeError::Timeout(format!("this node did not apply index {index} in time"))),
        }
    }

    fn metrics(&self) -> replication::Metrics {
        self.inner.raft.metrics()
    }

    /// A node that was removed, or whose cluster should not be there, says so instead of serving it.
    fn refuse_stray(&self) -> Result<(), NodeError> {
        self.refuse_out()?;
        match self.inner.strangers.foreign() {
            Some(why) => Err(NodeError::Conflict(why)),
            None => Ok(()),
        }
    }

    /// A node that takes no part any more says why.
    fn refuse_out(&self) -> Result<(), NodeError> {
        self.refuse_removed()?;
        self.refuse_diverged()
    }

    fn refuse_removed(&self) -> Result<(), NodeError> {
        match *self.inner.me.removed().borrow() {
            Some(index) => Err(NodeError::Removed(format!(
                "this node was removed from its cluster at index {index}; ask another, or start it again with --rjoin \
                 naming one of the others to join anew"
            ))),
            None => self.refuse_lost(),
        }
    }
}
