//! What a data directory holds: identity, log, snapshots, and the state that the newest snapshot gives.

use std::sync::Arc;

use openraft::StorageHelper;
use openraft::storage::RaftLogStorage as _;

use super::{Setup, blocking, failure, storage_exit};
use crate::exit::Exit;
use crate::node::NodeIdentity;
use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::state_machine::StateMachine;
use crate::storage::log::{LogOptions, LogStore};
use crate::storage::{ClusterHandle, Identity, IdentityStore, SnapshotStore, replace};

/// An open data directory, with all that is in it.
#[derive(Debug)]
pub struct Opened {
    /// The identity.
    pub me: Arc<NodeIdentity>,
    /// The log.
    pub log: LogStore,
    /// The state.
    pub machine: StateMachine,
    /// The snapshots.
    pub snapshots: SnapshotStore,
    /// The addresses that the directory was last used under, if they were others.
    pub(super) moved_from: Option<PublicId>,
    /// Its node was removed and is to join its cluster again: it may not form one.
    pub(super) joins_anew: bool,
}

/// Reads the identity in this directory; makes a new one if there is none.
///
/// # Errors
/// The end of the process: 78 where the directory cannot be used, 1 where another start may help.
pub async fn identity(setup: &Arc<Setup>) -> Result<Identity, Exit> {
    let setup = setup.clone();
    blocking(move || load_identity(&setup, &IdentityStore::new(setup.disk.clone()))).await?
}

/// Reads identity, log and snapshots, and brings the state machine to the newest snapshot.
pub(super) async fn read(setup: &Arc<Setup>) -> Result<Opened, Exit> {
    let setup = setup.clone();
    let mut opened = blocking(move || open(&setup)).await??;
    let state = opened.log.get_log_state().await.map_err(failure)?;
    opened.snapshots.check_log(state.last_purged_log_id.as_ref()).map_err(storage_exit)?;
    Ok(opened)
}

/// Reads or makes the identity of a directory. If its content was being replaced, finishes or undoes that first.
fn load_identity(setup: &Setup, store: &IdentityStore) -> Result<Identity, Exit> {
    replace::settle(&*setup.disk).map_err(storage_exit)?;
    if let Some(identity) = store.load().map_err(storage_exit)? {
        return Ok(identity);
    }
    let identity = new_identity(setup);
    store.save(&identity).map_err(storage_exit)?;
    Ok(identity)
}

pub(super) fn new_identity(setup: &Setup) -> Identity {
    Identity { public_id: setup.public_id.clone(), raft_id: (setup.random)(), cluster: None, removed: None }
}

fn open(setup: &Setup) -> Result<Opened, Exit> {
    let store = IdentityStore::new(setup.disk.clone());
    let mut identity = load_identity(setup, &store)?;
    // The directory is this node, wherever it is now; `settle_move` makes that durable.
    let has_moved = identity.public_id != setup.public_id;
    let moved_from = has_moved.then(|| std::mem::replace(&mut identity.public_id, setup.public_id.clone()));
    let options = LogOptions { owner: Some(identity.raft_id), ..setup.log.clone() };
    let log = LogStore::open(setup.disk.clone(), options).map_err(storage_exit)?;
    if log.is_empty() {
        // It never voted and holds nothing: the cluster it was about to join or form is not binding.
        identity.cluster = None;
    }
    let cluster = ClusterHandle::new(identity.cluster);
    let snapshots = SnapshotStore::open(setup.disk.clone(), cluster.clone()).map_err(storage_exit)?;
    if let (true, Some(snapshot)) = (log.is_empty(), snapshots.current()) {
        // A vote is on disk before any snapshot is, so somebody deleted the log.
        return Err(Exit::config(format!(
            "{}: a snapshot without its log; this node must not start on it: restore the log-* files, or delete the \
             whole directory and let the node rejoin its cluster empty",
            snapshot.place()
        )));
    }
    let observer = (setup.observe)(&cluster);
    let machine = StateMachine::open_observed(snapshots.clone(), cluster.clone(), setup.history, observer);
    let machine = machine.map_err(storage_exit)?;
    let me = NodeIdentity::new(store, identity, cluster, setup.role, setup.place.clone(), (setup.random)());
    Ok(Opened { me: Arc::new(me), log, machine, snapshots, moved_from, joins_anew: false })
}

impl Opened {
    /// The members that the node knew when it stopped.
    pub(super) async fn members(&mut self) -> Result<Vec<(RaftId, PublicId)>, Exit> {
        let raft_id = self.me.raft_id();
        let mut helper = StorageHelper::new(&mut self.log, &mut self.machine).with_id(raft_id);
        let membership = helper.get_membership().await.map_err(failure)?;
        let members = membership.effective().nodes().map(|(raft_id, member)| (*raft_id, member.id.clone())).collect();
        Ok(members)
    }
}
