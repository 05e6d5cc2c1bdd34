//! The identity of this node: its ids, its cluster, and whether it was removed.
//!
//! Invariants: the Raft id never changes while the process runs; the cluster id is set once, and is
//! on disk before anything is answered in its name; once removed, a node stays removed.

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::sync::OnceLock;

use tokio::sync::watch;

use crate::log_time::LogClock;
use crate::node::rpc::{Confirmed, Envelope, Identification, Stamp, Target};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, RaftId, Role, StartMark};
use crate::storage::{ClusterHandle, Identity, IdentityStore, LogMark, StorageError};

/// Starts of so many Raft ids are kept, at most: more than a cluster has members.
const MAX_SEEN: usize = 2048;

/// Gives the newest stamp got from a member, and the word to it about its freshness.
type FreshnessSource = Box<dyn Fn(RaftId) -> (Option<Stamp>, Option<Confirmed>) + Send + Sync>;

/// This node's identity, shared by all its parts.
pub struct NodeIdentity {
    store: IdentityStore,
    identity: RwLock<Identity>,
    /// One change at a time. Held while one is flushed, so that those who only read need not wait for the disk.
    saving: Mutex<()>,
    /// The role it asks for.
    pub role: Role,
    /// The data directory, for messages that tell which one to delete.
    pub data_place: String,
    /// A random number of this process.
    boot: u64,
    /// The state machine's view of the cluster id.
    cluster: ClusterHandle,
    /// The membership index at which it was removed.
    removed: watch::Sender<Option<u64>>,
    /// Why it abstains: its directory has lost its memory.
    lost: watch::Sender<Option<String>>,
    /// Set where a leader of another cluster called this node by its public id.
    foreign: watch::Sender<Option<String>>,
    freshness_source: OnceLock<FreshnessSource>,
    log_clock: OnceLock<LogClock>,
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeIdentity").field("identity", &*self.identity()).finish_non_exhaustive()
    }
}

impl NodeIdentity {
    /// Takes over an identity that is on disk.
    pub fn new(
        store: IdentityStore,
        identity: Identity,
        cluster: ClusterHandle,
        role: Role,
        data_place: String,
        boot: u64,
    ) -> Self {
        let removed = watch::Sender::new(identity.removed);
        let lost = watch::Sender::new(identity.lost.clone());
        Self {
            store,
            identity: RwLock::new(identity),
            saving: Mutex::default(),
            role,
            data_place,
            boot,
            cluster,
            removed,
            lost,
            foreign: watch::Sender::default(),
            freshness_source: OnceLock::new(),
            log_clock: OnceLock::new(),
        }
    }

    fn identity(&self) -> RwLockReadGuard<'_, Identity> {
        // Only whole identities are ever put in, so a panic elsewhere poisons nothing.
        self.identity.read()
    }

    /// The public id.
    pub fn id(&self) -> PublicId {
        self.identity().public_id.clone()
    }

    /// The Raft id.
    pub fn raft_id(&self) -> RaftId {
        self.identity().raft_id
    }

    /// The cluster it belongs to, if any.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.identity().cluster
    }

    /// The membership index at which it was removed, if it was.
    pub fn removed(&self) -> watch::Receiver<Option<u64>> {
        self.removed.subscribe()
    }

    /// The reason to refuse requests, once a leader of another cluster has called this node.
    pub fn foreign(&self) -> Option<String> {
        self.foreign.borrow().clone()
    }

    /// Remembers, until it is started again, that a leader of another cluster has this address.
    pub fn set_foreign(&self, why: String) {
        self.foreign.send_if_modified(|foreign| foreign.is_none() && foreign.replace(why).is_none());
    }

    /// Makes `change` durable, then visible. Blocks for the flush, which happens a few times in the life of a process, and
    /// not at all where nothing changes.
    fn update(&self, change: impl FnOnce(&mut Identity)) -> Result<(), StorageError> {
        let _turn = self.saving.lock();
        let current = self.identity().clone();
        let mut next = current.clone();
        change(&mut next);
        if next == current {
            return Ok(());
        }
        self.store.save(&next)?;
        if let Some(cluster) = next.cluster {
            self.cluster.set(cluster);
        }
        *self.identity.write() = next;
        Ok(())
    }

    /// The start that this process is.
    pub fn start(&self) -> StartMark {
        StartMark { starts: self.identity().starts, boot: self.boot }
    }

    /// The newest start that another Raft id has shown.
    pub fn seen(&self, raft_id: RaftId) -> Option<StartMark> {
        self.identity().seen.get(&raft_id).copied()
    }

    /// Remembers a start of another Raft id, unless a later one is known. Where there are very many, those that `is_member`
    /// does not know are forgotten.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written.
    pub fn note_start(
        &self,
        raft_id: RaftId,
        start: StartMark,
        is_member: &dyn Fn(RaftId) -> bool,
    ) -> Result<(), StorageError> {
        self.update(|identity| {
            let seen = &mut identity.seen;
            if seen.len() >= MAX_SEEN && !seen.contains_key(&raft_id) {
                seen.retain(|raft_id, _| is_member(*raft_id));
            }
            let known = seen.entry(raft_id).or_insert(start);
            if known.starts < start.starts {
                *known = start;
            }
        })
    }

    /// Remembers how far the log is.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written.
    pub fn note_log(&self, mark: LogMark) -> Result<(), StorageError> {
        self.update(|identity| identity.log = mark)
    }

    /// The reason for which this node abstains, once there is one.
    pub fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.subscribe()
    }

    /// The reason for which this node abstains, if it does.
    pub fn lost_why(&self) -> Option<String> {
        self.lost.borrow().clone()
    }

    /// From now on this node abstains. False where it did before.
    pub(super) fn abstain(&self, why: &str) -> bool {
        self.lost.send_if_modified(|lost| lost.is_none() && lost.replace(why.to_owned()).is_none())
    }

    /// Remembers for good that this directory has lost its memory.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written. This process abstains nevertheless.
    pub fn set_lost(&self, why: &str) -> Result<(), StorageError> {
        self.abstain(why);
        self.update(|identity| {
            identity.lost.get_or_insert_with(|| why.to_owned());
        })
    }

    /// The folder that has the files of this node's former self, which lost its memory.
    pub fn aside(&self) -> Option<String> {
        self.identity().aside.clone()
    }

    /// Becomes part of a cluster, unless it is part of one already.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> Result<(), StorageError> {
        self.update(|identity| identity.cluster = identity.cluster.or(Some(cluster)))
    }

    /// Makes the identity durable as it is.
    ///
    /// # Errors
    /// [`StorageError`]: it cannot be written.
    pub fn save(&self) -> Result<(), StorageError> {
        let _turn = self.saving.lock();
        let identity = self.identity().clone();
        self.store.save(&identity)
    }

    /// Remembers for good that this node was removed.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written.
    pub fn set_removed(&self, index: u64) -> Result<(), StorageError> {
        self.update(|identity| identity.removed = Some(index))?;
        self.removed.send_replace(Some(index));
        Ok(())
    }

    /// A removed node that holds nothing any more is a new one. On the disk it stays removed until it is part of a cluster
    /// again: until then it may not form one of its own, however often it is started.
    pub fn join_anew(&self) {
        let _turn = self.saving.lock();
        self.identity.write().removed = None;
        self.removed.send_replace(None);
    }

    /// The answer to [`PeerRequest::Identify`](crate::node::rpc::PeerRequest::Identify).
    pub fn identification(&self, empty: bool) -> Identification {
        let identity = self.identity();
        Identification {
            id: identity.public_id.clone(),
            raft_id: identity.raft_id,
            cluster: identity.cluster,
            empty,
            role: self.role,
            boot: self.boot,
        }
    }

    /// From now on messages give stamps back and tell how fresh their receivers are.
    pub(super) fn set_freshness_source(&self, source: FreshnessSource) {
        // There is one Raft a process; a second source would say the same.
        let _ = self.freshness_source.set(source);
    }

    /// From now on messages tell log time, where this node leads.
    pub(super) fn set_log_clock(&self, clock: LogClock) {
        let _ = self.log_clock.set(clock);
    }

    /// A random number of this process.
    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    /// The envelope of a message to `target`.
    pub fn envelope(&self, target: &Target) -> Envelope {
        let (echo, confirmed) = match (self.freshness_source.get(), target.raft_id) {
            (Some(source), Some(raft_id)) => source(raft_id),
            _ => (None, None),
        };
        let identity = self.identity();
        Envelope {
            cluster: identity.cluster,
            from: identity.public_id.clone(),
            from_raft: identity.raft_id,
            start: StartMark { starts: identity.starts, boot: self.boot },
            to: target.id.clone(),
            to_raft: target.raft_id,
            to_start: target.raft_id.and_then(|raft_id| identity.seen.get(&raft_id).copied()),
            echo,
            confirmed,
            log_time: self.log_clock.get().and_then(LogClock::led),
        }
    }
}
