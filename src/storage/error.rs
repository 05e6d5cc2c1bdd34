//! Errors of a data directory.

use std::io;

use crate::raft_types::ClusterId;

/// Why a data directory cannot be used, or stopped being usable.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused an operation on a file.
    #[error("{file}: {source}")]
    Io {
        /// The file, as an operator would name it.
        file: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Bytes that had been flushed are not what they were.
    #[error(
        "{file}: damaged at offset {offset}: {what}; this node must not start on it: restore the directory from a copy \
         of its disk, or delete the directory and let the node rejoin its cluster empty"
    )]
    Damaged {
        /// The file, as an operator would name it.
        file: String,
        /// Byte offset in the file.
        offset: u64,
        /// The contradiction that was found.
        what: String,
    },
    /// A file is of a version that this binary does not know.
    #[error(
        "{file}: its format version {found} is not one this hraftd reads (it reads up to {known}): use a newer hraftd"
    )]
    Version {
        /// The file, as an operator would name it.
        file: String,
        /// The version in the file.
        found: u32,
        /// The newest version this binary reads.
        known: u32,
    },
    /// Two files of one directory belong to different clusters.
    #[error(
        "{file} belongs to cluster {found}, but this directory to cluster {expected}: files of two directories were mixed"
    )]
    Mixed {
        /// The file, as an operator would name it.
        file: String,
        /// The cluster in that file.
        found: ClusterId,
        /// The cluster of the directory's identity.
        expected: ClusterId,
    },
    /// The log is of another node.
    #[error(
        "{file} belongs to the node with Raft id {found}, but this directory to the one with Raft id {expected}: files of \
         two directories were mixed"
    )]
    Foreign {
        /// The file, as an operator would name it.
        file: String,
        /// The Raft id that the log names.
        found: u64,
        /// The Raft id of the directory's identity.
        expected: u64,
    },
    /// Another process uses the directory.
    #[error("{0} is in use by another process; wait until that has ended, or stop it")]
    Locked(String),
}

impl StorageError {
    /// An [`io::Error`] with the file it is about.
    pub fn io(file: impl Into<String>, source: io::Error) -> Self {
        Self::Io { file: file.into(), source }
    }

    /// True if the directory itself is wrong: another start cannot help (exit code 78).
    pub fn is_bad_directory(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}
