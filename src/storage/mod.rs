//! Everything that is kept on disk: identity, Raft log, snapshots.

pub mod data_dir;
pub mod disk;
mod error;
pub mod identity;
mod sealed;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod test_disk;

pub use error::StorageError;
