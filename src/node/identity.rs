//! The identity of this node: its ids, its cluster, and whether it was removed.
//!
//! Invariants: the Raft id never changes while the process runs; the cluster id is set once, and is
//! on disk before anything is answered in its name; once removed, a node stays removed.

use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::OnceLock;

use tokio::sync::watch;

use crate::log_time::LogClock;
use crate::node::rpc::{Confirmed, Envelope, Identification, Mark, Stamp, Target};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, RaftId, Role};
use crate::state_machine::Noted;
use crate::storage::{ClusterHandle, Identity, IdentityStore, StorageError};

/// Gives the newest stamp got from a member, and the word to it about its freshness.
type FreshnessSource = Box<dyn Fn(RaftId) -> (Option<Stamp>, Option<Confirmed>) + Send + Sync>;

/// This node's identity, shared by all its parts.
pub struct NodeIdentity {
    store: IdentityStore,
    identity: RwLock<Identity>,
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
    /// Set where a leader of another cluster called this node by its public id.
    foreign: watch::Sender<Option<String>>,
    /// Set once this node's state is known not to be its cluster's.
    diverged: watch::Sender<Option<String>>,
    /// The newest mark that was applied here.
    noted: OnceLock<watch::Receiver<Option<Noted>>>,
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
        Self {
            store,
            identity: RwLock::new(identity),
            role,
            data_place,
            boot,
            cluster,
            removed,
            foreign: watch::Sender::default(),
            diverged: watch::Sender::default(),
            noted: OnceLock::new(),
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

    /// The reason why this node's state is not its cluster's, once that is known.
    pub fn diverged(&self) -> Option<String> {
        self.diverged.borrow().clone()
    }

    /// Follows [`diverged`](Self::diverged).
    pub(super) fn diverging(&self) -> watch::Receiver<Option<String>> {
        self.diverged.subscribe()
    }

    /// Remembers, while the process runs, why this node's state is not its cluster's. True for the first reason.
    pub(super) fn set_diverged(&self, why: String) -> bool {
        self.diverged.send_if_modified(|diverged| diverged.is_none() && diverged.replace(why).is_none())
    }

    /// Makes that durable. Blocks.
    pub(super) fn save_diverged(&self, why: &str) -> Result<(), StorageError> {
        self.store.save_diverged(why)
    }

    /// Takes over what an earlier process of this directory noted. Blocks.
    pub(super) fn load_diverged(&self) -> Result<(), StorageError> {
        if let Some(why) = self.store.diverged()? {
            tracing::error!("{why}");
            self.set_diverged(why);
        }
        Ok(())
    }

    /// Makes `change` durable, then visible. Blocks for the flush, which happens a few times in the
    /// life of a data directory.
    fn update(&self, change: impl FnOnce(&mut Identity)) -> Result<(), StorageError> {
        let mut current = self.identity.write();
        let mut next = current.clone();
        change(&mut next);
        self.store.save(&next)?;
        if let Some(cluster) = next.cluster {
            self.cluster.set(cluster);
        }
        *current = next;
        Ok(())
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
        self.update(|_| {})
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

    /// From now on messages tell the newest mark, where this node leads.
    pub(super) fn set_mark_source(&self, noted: watch::Receiver<Option<Noted>>) {
        let _ = self.noted.set(noted);
    }

    /// The newest mark that was applied here.
    pub(super) fn mark(&self) -> Option<Mark> {
        let noted = self.noted.get()?.borrow();
        noted.map(|noted| Mark { index: noted.index, digest: noted.digest })
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
        let log_time = self.log_clock.get().and_then(LogClock::led);
        let identity = self.identity();
        Envelope {
            cluster: identity.cluster,
            from: identity.public_id.clone(),
            from_raft: identity.raft_id,
            to: target.id.clone(),
            to_raft: target.raft_id,
            echo,
            confirmed,
            log_time,
            mark: log_time.and_then(|_| self.mark()),
        }
    }
}
