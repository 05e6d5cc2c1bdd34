//! The identity of this node: its ids, its cluster, and whether it was removed.
//!
//! Invariants: the Raft id never changes while the process runs; the cluster id is set once, and is
//! on disk before anything is answered in its name; once removed, a node stays removed.

use parking_lot::{RwLock, RwLockReadGuard};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::log_time::LogClock;
use crate::node::moving::AddressBook;
use crate::node::rpc::{Confirmed, Envelope, Identification, Moved, Stamp, Target};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, RaftId, Role, StartMark};
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
    freshness_source: OnceLock<FreshnessSource>,
    log_clock: OnceLock<LogClock>,
    moved: OnceLock<Moved>,
    book: Arc<AddressBook>,
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
            freshness_source: OnceLock::new(),
            log_clock: OnceLock::new(),
            moved: OnceLock::new(),
            book: Arc::default(),
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

    /// Where members were found, if not where the membership has them.
    pub fn book(&self) -> &Arc<AddressBook> {
        &self.book
    }

    /// How this process came to its addresses.
    pub fn moved(&self) -> Moved {
        self.moved.get().cloned().unwrap_or_default()
    }

    /// Says how this process came to its addresses; the first word counts.
    pub fn set_moved(&self, moved: Moved) {
        let _ = self.moved.set(moved);
    }

    /// The Raft ids of its former selves, which it is to replace.
    pub fn replaces(&self) -> BTreeSet<RaftId> {
        self.identity().replaces.clone()
    }

    /// Notes that it has replaced its former selves.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written.
    pub fn set_replaced(&self) -> Result<(), StorageError> {
        self.update(|identity| identity.replaces.clear())
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
            standing: Box::default(),
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
