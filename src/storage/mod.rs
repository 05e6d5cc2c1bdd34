//! Everything that is kept on disk: identity, Raft log, snapshots.

pub mod data_dir;
pub mod disk;
mod error;
pub mod log;

pub use data_dir::DataDir;
pub use error::StorageError;
pub use identity::{ClusterHandle, Identity, IdentityStore};
pub use snapshot::{Incoming, SnapshotFile, SnapshotStore};
