//! The note that a directory is of a cluster with authentication: a file `authentication`, text for people. It stays: a node
//! that has it asks all clients who they are from its start on, before it knows its state.
//!
//! A second note, `joining`, says that a node with a secret has not caught up with its first cluster yet: what it has applied may
//! be of before authentication was on. It is made before the node can be let in, and goes once it has caught up.
//!
//! Contract: a file's being there is what counts.

use std::io;

use super::StorageError;
use super::disk::Disk;
use super::identity::IdentityStore;

const NAME: &str = "authentication";

const TMP_NAME: &str = "authentication.tmp";

const JOINING: &str = "joining";

const JOINING_TMP: &str = "joining.tmp";

const JOINING_TEXT: &[u8] =
    b"This node has not caught up with its cluster yet. Until it has, it asks all clients who they are.\n";

const TEXT: &[u8] =
    b"This node's cluster has authentication on. While this file is here the node serves no client before it \
knows its tokens.\n";

impl IdentityStore {
    /// Whether the note is there.
    ///
    /// # Errors
    /// `Io`: it cannot be told, which must not be taken for its absence.
    pub fn is_closed(&self) -> Result<bool, StorageError> {
        is_noted(&*self.disk, NAME).map_err(|error| StorageError::io(self.disk.display(NAME), error))
    }

    /// Whether the node has not caught up with its first cluster yet, as was noted.
    ///
    /// # Errors
    /// `Io`: it cannot be told, which must not be taken for the note's absence.
    pub fn is_joining(&self) -> Result<bool, StorageError> {
        is_noted(&*self.disk, JOINING).map_err(|error| StorageError::io(self.disk.display(JOINING), error))
    }

    /// Notes it; durable when this returns.
    ///
    /// # Errors
    /// `Io`.
    pub fn note_joining(&self) -> Result<(), StorageError> {
        note_as(&*self.disk, (JOINING, JOINING_TMP), JOINING_TEXT)
    }

    /// It has caught up.
    ///
    /// # Errors
    /// `Io`.
    pub fn forget_joining(&self) -> Result<(), StorageError> {
        let removed = match self.disk.remove(JOINING) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.and_then(|()| self.disk.sync_dir()),
        };
        removed.map_err(|error| StorageError::io(self.disk.display(JOINING), error))
    }
}

fn is_noted(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        opened => opened.map(|_| true),
    }
}

/// Makes the note if it is not there; durable when this returns.
///
/// # Errors
/// `Io`.
pub fn note(disk: &dyn Disk) -> Result<(), StorageError> {
    note_as(disk, (NAME, TMP_NAME), TEXT)
}

fn note_as(disk: &dyn Disk, (name, tmp): (&str, &str), text: &[u8]) -> Result<(), StorageError> {
    let write = || {
        if is_noted(disk, name)? {
            return Ok(());
        }
        match disk.remove(tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(tmp)?;
        file.write_all_at(text, 0)?;
        file.sync_data()?;
        disk.rename(tmp, name)?;
        disk.sync_dir()
    };
    write().map_err(|error| StorageError::io(disk.display(name), error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::disk::MemDisk;
    use crate::storage::test_disk::crash_everywhere;

    #[test]
    fn the_note_outlives_a_crash_once_it_was_made() {
        crash_everywhere(
            MemDisk::new,
            |disk| note(&*disk).is_ok(),
            |after, noted| {
                let store = IdentityStore::new(Arc::new(after.clone()));
                assert!(store.is_closed().unwrap() || !noted);
                note(after).unwrap();
                assert!(store.is_closed().unwrap());
            },
        );
    }
}
