//! What a data directory holds: identity, log, snapshots, and the state that the newest snapshot gives.

use std::sync::Arc;

use openraft::StorageHelper;
use openraft::storage::RaftLogStorage as _;

use super::{Setup, blocking, failure, storage_exit};
use crate::exit::Exit;
use crate::node::{NodeIdentity, is_behind};
use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::state_machine::StateMachine;
use crate::storage::data_dir::is_raft_state;
use crate::storage::log::{LogOptions, LogStore, has_log};
use crate::storage::{ClusterHandle, Identity, IdentityStore, LogMark, SnapshotStore, replace};

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
    let covered = opened.snapshots.current().and_then(|file| file.meta().last_log_id);
    opened.log.check_end(covered).map_err(storage_exit)?;
    Ok(opened)
}

/// Reads or makes the identity of a directory. If its content was being replaced, finishes or undoes that first.
fn load_identity(setup: &Setup, store: &IdentityStore) -> Result<Identity, Exit> {
    replace::settle(&*setup.disk).map_err(storage_exit)?;
    if let Some(identity) = store.load().map_err(storage_exit)? {
        return Ok(identity);
    }
    let names = setup.disk.list().map_err(|error| failure(format!("{}: {error}", setup.place)))?;
    // The identity is on disk before any of these is.
    if let Some(name) = names.iter().find(|name| is_raft_state(name)) {
        return Err(Exit::config(format!(
            "{}: the file identity is missing, and there are others of a node, like {name}; this node must not start on \
             it: restore identity, or delete the whole directory and let the node rejoin its cluster empty",
            setup.place
        )));
    }
    let identity = new_identity(setup);
    store.save(&identity).map_err(storage_exit)?;
    Ok(identity)
}

pub(super) fn new_identity(setup: &Setup) -> Identity {
    Identity::new(setup.public_id.clone(), (setup.random)())
}

fn open(setup: &Setup) -> Result<Opened, Exit> {
    let store = IdentityStore::new(setup.disk.clone());
    let mut identity = load_identity(setup, &store)?;
    let (known, has_log) = (identity.log, has_log(&*setup.disk).map_err(storage_exit)?);
    if known.began && !has_log && identity.lost.is_none() && (setup.find)().others.is_empty() {
        return Err(Exit::config(format!(
            "{}: the files log-* are missing; this node must not start on it: restore them, or start it with --rjoin \
             naming another node of its cluster, which it then joins anew",
            setup.place
        )));
    }
    let options = LogOptions { owner: Some(identity.log_owner()), ..setup.log.clone() };
    let log = LogStore::open(setup.disk.clone(), options).map_err(storage_exit)?;
    let found = LogMark { began: has_log, ..log.mark() };
    if let Some(why) = is_behind(known, found) {
        identity.lost.get_or_insert(why);
    }
    if identity.lost.is_none() {
        // From here on it has a file.
        identity.log = LogMark { began: true, ..found };
    }
    if log.is_empty() && identity.lost.is_none() {
        // It never voted and holds nothing: the cluster it was about to join or form is not binding.
        identity.cluster = None;
    }
    // Its former self was a member of a cluster.
    let joins_anew = log.is_empty() && identity.cluster.is_none() && identity.aside.is_some();
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
    // Before anything is said.
    store.count_start(&mut identity).map_err(storage_exit)?;
    let me = NodeIdentity::new(store, identity, cluster, setup.role, setup.place.clone(), (setup.random)());
    Ok(Opened { me: Arc::new(me), log, machine, snapshots, joins_anew })
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
