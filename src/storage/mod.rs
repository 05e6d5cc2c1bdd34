//! Everything that is kept on disk: identity, Raft log, snapshots.

pub mod disk;
mod error;

pub use error::StorageError;
