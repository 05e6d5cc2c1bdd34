//! The life of a process, but for its sockets, its signals and its command line: from a data directory to a node that
//! serves, and to its clean end. [`crate::server`] runs it with HTTP, the simulation on its own network.
//!
//! * [`identity`]: who this is, which both ports tell while the rest is read.
//! * [`as_member`]: the log, snapshots and state; settles a move to other addresses and a removal.
//! * [`Opened::run`] starts Raft. [`Running::ended`] finds the cluster, and waits until something fails.
//! * [`Running::stop`]: hands over, drains, and closes the log.

mod directory;
mod former;
mod member;
mod moving;
mod running;

use std::fmt;
use std::sync::Arc;

use crate::exit::{EX_FAILURE, Exit};
use crate::node::rpc::Peers;
use crate::node::{NodeIdentity, RaftOptions, Start};
use crate::node_id::PublicId;
use crate::raft_types::Role;
use crate::state_machine::Observer;
use crate::storage::disk::Disk;
use crate::storage::log::LogOptions;
use crate::storage::{ClusterHandle, StorageError};
use crate::task;
use crate::watch::HistoryLimits;

pub use directory::{Opened, identity};
pub use member::as_member;
pub use running::Running;

/// Makes the way to other nodes for a node that is known by now.
pub type MakePeers = Box<dyn Fn(Arc<NodeIdentity>) -> Result<Arc<dyn Peers>, Exit> + Send + Sync>;

/// Makes an observer of a state that is read for this cluster.
pub type Observe = Box<dyn Fn(&ClusterHandle) -> Option<Arc<dyn Observer>> + Send + Sync>;

/// All that the start of a process depends on.
pub struct Setup {
    /// The files of the data directory. It is locked for as long as this is held.
    pub disk: Arc<dyn Disk>,
    /// The name of the directory in texts: `memory` or a path.
    pub place: String,
    /// The addresses told to others.
    pub public_id: PublicId,
    /// The role that this node asks for.
    pub role: Role,
    /// The options of the log; its owner is set here.
    pub log: LogOptions,
    /// How much is kept for watchers.
    pub history: HistoryLimits,
    /// The operator's word that a node which was moved runs nowhere else.
    pub moved: bool,
    /// Raft's times and sizes.
    pub raft: RaftOptions,
    /// The way to other nodes.
    pub peers: MakePeers,
    /// Who watches the state machine; nobody in a process of its own.
    pub observe: Observe,
    /// Where the command line says to look for a cluster. May block on names, and is asked again each time.
    pub find: Box<dyn Fn() -> Start + Send + Sync>,
    /// Random numbers: ids of nodes and processes.
    pub random: fn() -> u64,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("public_id", &self.public_id).field("place", &self.place).finish_non_exhaustive()
    }
}

/// The end of the process with code 1: another start may help.
fn failure(what: impl fmt::Display) -> Exit {
    Exit::error(EX_FAILURE, what.to_string())
}

/// The end of the process after a storage error: 78 where another start cannot help, 1 where it may.
fn storage_exit(error: StorageError) -> Exit {
    if error.is_bad_directory() { Exit::config(error.to_string()) } else { failure(error) }
}

/// The command line's part in finding a cluster.
async fn find(setup: &Arc<Setup>) -> Result<Start, Exit> {
    let setup = setup.clone();
    blocking(move || (setup.find)()).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Exit> {
    task::spawn_blocking(work).await.map_err(|error| failure(format!("opening the data directory: {error}")))
}
