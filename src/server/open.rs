//! Opens a data directory: lock, identity, log, snapshots, state machine; settles a move to other addresses and a removal.

use std::sync::Arc;

use openraft::StorageHelper;
use openraft::storage::RaftLogStorage as _;
use tokio::task::spawn_blocking;

use super::failure;
use crate::config::{Config, DataPlace};
use crate::exit::Exit;
use crate::network::HttpPeers;
use crate::node::rpc::Peers;
use crate::node::{NodeIdentity, Start, ask_whether_removed, is_at};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, RaftId};
use crate::state_machine::StateMachine;
use crate::storage::log::{LogOptions, LogStore};
use crate::storage::{ClusterHandle, DataDir, Identity, IdentityStore, SnapshotStore, StorageError, replace};
use crate::watch::HistoryLimits;

/// An open data directory, with all that is in it.
pub(super) struct Opened {
    pub(super) data: Arc<DataDir>,
    pub(super) me: Arc<NodeIdentity>,
    pub(super) log: LogStore,
    pub(super) machine: StateMachine,
    pub(super) snapshots: SnapshotStore,
    /// The addresses that the directory was last used under, if they were others.
    pub(super) moved_from: Option<PublicId>,
    /// Its node was removed and is to join its cluster again: it may not form one.
    pub(super) joins_anew: bool,
}

/// The end of the process after a storage error: 78 where another start cannot help, 1 where it may.
fn storage_exit(error: StorageError) -> Exit {
    if error.is_bad_directory() { Exit::config(error.to_string()) } else { failure(error) }
}

/// Locks the data directory.
pub(super) async fn data_dir(config: &Config) -> Result<DataDir, Exit> {
    match config.data.clone() {
        DataPlace::Memory => Ok(DataDir::in_memory()),
        // The system's refusal here is about the directory that was named, not about the disk.
        DataPlace::Dir(path) => blocking(move || DataDir::open(&path))
            .await?
            .map_err(|error| Exit::config(format!("{}: {error}", config.data_label))),
    }
}

/// Reads the identity in this directory; makes a new one if there is none.
pub(super) async fn identity(config: &Config, data: Arc<DataDir>) -> Result<Identity, Exit> {
    let public_id = config.public_id.clone();
    blocking(move || load_identity(&public_id, &data, &IdentityStore::new(data.disk.clone()))).await?
}

/// Opens the data directory, and asks the members it knows of whether its node was removed while it was down.
///
/// The directory of a removed node becomes that of a new and empty one if `--rjoin` names another node: it may then join
/// anew.
pub(super) async fn as_member(config: &Config, data: Arc<DataDir>) -> Result<(Opened, Arc<dyn Peers>), Exit> {
    let mut data = Some(data);
    loop {
        let dir = data.take().expect("put back before each round");
        let mut opened = storage(config, dir.clone()).await?;
        let peers: Arc<dyn Peers> = Arc::new(HttpPeers::new(opened.me.clone()).map_err(failure)?);
        settle_move(&mut opened, &peers).await?;
        if !opened.log.is_empty() && opened.me.removed().borrow().is_none() {
            let members = members(&mut opened).await?;
            if let Some(index) = ask_whether_removed(&peers, opened.me.raft_id(), members).await {
                tracing::warn!("this node was removed from its cluster at index {index}, while it was down");
                opened.me.set_removed(index).map_err(storage_exit)?;
            }
        }
        let removed = opened.me.removed().borrow().is_some();
        if !removed || start(config).await?.others.is_empty() {
            return Ok((opened, peers));
        }
        if opened.log.is_empty() {
            opened.me.join_anew();
            opened.joins_anew = true;
            return Ok((opened, peers));
        }
        tracing::info!("joining anew: deleting the log and snapshots of the removed node");
        drop(peers);
        start_over(opened).await?;
        data = Some(dir);
    }
}

/// Reads identity, log and snapshots, and brings the state machine to the newest snapshot.
async fn storage(config: &Config, data: Arc<DataDir>) -> Result<Opened, Exit> {
    let config = config.clone();
    let mut opened = blocking(move || open(&config, data)).await??;
    let state = opened.log.get_log_state().await.map_err(failure)?;
    opened.snapshots.check_log(state.last_purged_log_id.as_ref()).map_err(storage_exit)?;
    let covered = opened.snapshots.current().and_then(|file| file.meta().last_log_id);
    opened.log.check_end(covered).map_err(storage_exit)?;
    Ok(opened)
}

/// Reads or makes the identity of a directory. If its content was being replaced, finishes or undoes that first.
fn load_identity(public_id: &PublicId, data: &DataDir, store: &IdentityStore) -> Result<Identity, Exit> {
    replace::settle(&*data.disk).map_err(storage_exit)?;
    let identity = match store.load().map_err(storage_exit)? {
        Some(identity) => identity,
        None => {
            let identity = new_identity(public_id.clone());
            store.save(&identity).map_err(storage_exit)?;
            identity
        }
    };
    Ok(identity)
}

fn open(config: &Config, data: Arc<DataDir>) -> Result<Opened, Exit> {
    let public_id = &config.public_id;
    let place = &config.data;
    let store = IdentityStore::new(data.disk.clone());
    let mut identity = load_identity(public_id, &data, &store)?;
    // The directory is this node, wherever it is now; `settle_move` makes that durable.
    let moved_from =
        (identity.public_id != *public_id).then(|| std::mem::replace(&mut identity.public_id, public_id.clone()));
    let prezero = matches!(place, DataPlace::Dir(_));
    let options = LogOptions { prezero, owner: Some(identity.raft_id), ..LogOptions::default() };
    let log = LogStore::open(data.disk.clone(), options).map_err(storage_exit)?;
    if log.is_empty() {
        // It never voted and holds nothing: the cluster it was about to join or form is not binding.
        identity.cluster = None;
    }
    let cluster = ClusterHandle::new(identity.cluster);
    let snapshots = SnapshotStore::open(data.disk.clone(), cluster.clone()).map_err(storage_exit)?;
    if let (true, Some(snapshot)) = (log.is_empty(), snapshots.current()) {
        // A vote is on disk before any snapshot is, so somebody deleted the log.
        return Err(Exit::config(format!(
            "{}: a snapshot without its log; this node must not start on it: restore the log-* files, or delete the \
             whole directory and let the node rejoin its cluster empty",
            snapshot.place()
        )));
    }
    let history = HistoryLimits { events: config.watch_history, ..HistoryLimits::default() };
    let machine = StateMachine::open(snapshots.clone(), cluster.clone(), history).map_err(storage_exit)?;
    let me = Arc::new(NodeIdentity::new(store, identity, cluster, config.role, place.to_string(), rand::random()));
    Ok(Opened { data, me, log, machine, snapshots, moved_from, joins_anew: false })
}

fn new_identity(public_id: PublicId) -> Identity {
    Identity { public_id, raft_id: rand::random(), cluster: None, removed: None }
}

/// Makes a move to other addresses durable, unless the node still answers at the old ones: then this
/// directory is a copy, and two processes would vote with one identity.
async fn settle_move(opened: &mut Opened, peers: &Arc<dyn Peers>) -> Result<(), Exit> {
    let Some(old) = opened.moved_from.take() else { return Ok(()) };
    let new = opened.me.id();
    if old.raddr != new.raddr && is_at(peers, &old, opened.me.raft_id()).await {
        return Err(Exit::config(format!(
            "{} is a copy of the directory of {old}, which still runs: {new} must not use its identity; stop that node \
             first, or give another --rdir",
            opened.me.data_place
        )));
    }
    let me = opened.me.clone();
    blocking(move || me.save()).await?.map_err(storage_exit)?;
    tracing::info!("this node moved from {old}");
    Ok(())
}

/// The members that the node knew when it stopped.
async fn members(opened: &mut Opened) -> Result<Vec<(RaftId, PublicId)>, Exit> {
    let raft_id = opened.me.raft_id();
    let mut helper = StorageHelper::new(&mut opened.log, &mut opened.machine).with_id(raft_id);
    let membership = helper.get_membership().await.map_err(failure)?;
    let members = membership.effective().nodes().map(|(raft_id, member)| (*raft_id, member.id.clone())).collect();
    Ok(members)
}

/// Makes a removed node's directory a new and empty one, under a new Raft id; see [`NodeIdentity::join_anew`].
async fn start_over(opened: Opened) -> Result<(), Exit> {
    let Opened { data, me, log, machine, snapshots, .. } = opened;
    let id = me.id();
    blocking(move || {
        let removed = *me.removed().borrow();
        // Nothing may hold or write the files that go. The log of a removed node needs no clean end.
        drop((me, machine, snapshots));
        drop(log);
        // A Raft id whose vote is lost must never be used again. It still says `removed`: see `NodeIdentity::join_anew`.
        replace::with_nothing(&data.disk, &Identity { removed, ..new_identity(id) })
    })
    .await?
    .map_err(storage_exit)
}

/// The part of the command line that is about finding a cluster.
pub(super) async fn start(config: &Config) -> Result<Start, Exit> {
    let config = config.clone();
    // Names are looked up.
    blocking(move || {
        let first = config.rjoin.first();
        Start {
            others: config.rjoin.iter().filter(|addr| !config.is_this_node(addr)).cloned().collect(),
            may_form: first.is_none_or(|first| config.is_this_node(first)),
            first: first.cloned(),
            new_cluster: ClusterId(rand::random()),
        }
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Exit> {
    spawn_blocking(work).await.map_err(|error| failure(format!("opening the data directory: {error}")))
}
