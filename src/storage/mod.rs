//! Everything that is kept on disk: identity, Raft log, snapshots.
//!
//! Nothing above this module opens a file; nothing in it knows openraft's engine or a network.

pub mod backup;
mod closed;
pub mod data_dir;
pub mod disk;
mod diverged;
mod error;
mod file_header;
pub mod identity;
pub mod log;
pub mod replace;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod test_disk;

pub use closed::note as note_authentication;
pub use data_dir::{DataDir, ReadDir};
pub use error::StorageError;
pub use identity::{ClusterHandle, Identity, IdentityStore, LogMark};
pub use snapshot::{ReceivedSnapshot, SnapshotFile, SnapshotStep, SnapshotStore};
