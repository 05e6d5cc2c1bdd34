//! Everything that is kept on disk: identity, Raft log, snapshots.

pub mod disk;
mod error;
pub mod log;

pub use error::StorageError;
