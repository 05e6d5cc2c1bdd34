//! The identity of this node: its ids, its cluster, and whether it was removed.
//!
//! Invariants: the Raft id never changes while the process runs; the cluster id is set once, and is
//! on disk before anything is answered in its name; once removed, a node stays removed.

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::formats::{Format, Speaks};
use crate::log_time::LogClock;
use crate::node::moving::AddressBook;
use crate::node::rpc::{Confirmed, Envelope, Identification, Mark, Moved, Stamp, Target};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, Founding, RaftId, Role, StartMark};
use crate::state_machine::Noted;
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
    /// Set once this node's state is known not to be its cluster's.
    diverged: watch::Sender<Option<String>>,
    /// The newest mark that was applied here.
    noted: OnceLock<watch::Receiver<Option<Noted>>>,
    /// The cluster's format, as it was applied here.
    format: OnceLock<watch::Receiver<Format>>,
    /// Where it is not what this hraftd understands.
    speaks: OnceLock<Speaks>,
    /// Why it abstains: its directory has lost its memory.
    lost: watch::Sender<Option<String>>,
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
            diverged: watch::Sender::default(),
            noted: OnceLock::new(),
            format: OnceLock::new(),
            speaks: OnceLock::new(),
            lost,
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

    /// Becomes part of a cluster, unless it is part of one already. True where it is part of this one now.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> Result<bool, StorageError> {
        self.update(|identity| identity.cluster = identity.cluster.or(Some(cluster)))?;
        Ok(self.cluster() == Some(cluster))
    }

    /// The founding that it has adopted.
    pub(super) fn founding(&self) -> Option<Founding> {
        self.identity().founding.clone()
    }

    /// Adopts a founding, unless it has adopted one or belongs to a cluster. For good.
    ///
    /// # Errors
    /// [`StorageError`]: the identity cannot be written.
    pub(super) fn adopt_founding(&self, founding: Founding) -> Result<(), StorageError> {
        self.update(|identity| {
            if identity.cluster.is_none() && identity.founding.is_none() {
                identity.founding = Some(founding);
            }
        })
    }

    /// True where a message of this cluster is of one who founds it with this node.
    pub(super) fn is_founded_by(&self, cluster: ClusterId, from: RaftId) -> bool {
        let identity = self.identity();
        identity.founding.as_ref().is_some_and(|f| f.cluster == cluster && f.members.contains_key(&from))
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

    /// What this node understands.
    pub fn speaks(&self) -> Speaks {
        self.speaks.get().cloned().unwrap_or_else(Speaks::own)
    }

    /// Makes it understand less than it does: a simulation has nodes of older versions.
    #[cfg(test)]
    pub(crate) fn set_speaks(&self, speaks: Speaks) {
        // The same for each part of one start.
        let _ = self.speaks.set(speaks);
    }

    /// From now on messages are said in the cluster's format.
    pub(super) fn set_format_source(&self, format: watch::Receiver<Format>) {
        let _ = self.format.set(format);
    }

    /// The format that messages to members are said in: all of them understand the cluster's.
    fn format(&self) -> Format {
        self.format.get().map_or_else(Format::default, |format| *format.borrow())
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
            removed: self.removed.borrow().is_some(),
            standing: Box::default(),
            speaks: self.speaks(),
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
            start: StartMark { starts: identity.starts, boot: self.boot },
            to: target.id.clone(),
            to_raft: target.raft_id,
            to_start: target.raft_id.and_then(|raft_id| identity.seen.get(&raft_id).copied()),
            echo,
            confirmed,
            log_time,
            mark: log_time.and_then(|_| self.mark()),
            format: self.format(),
            speaks: self.speaks(),
        }
    }
}
