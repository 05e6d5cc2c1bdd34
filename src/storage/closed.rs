//! The note that a directory is of a cluster with authentication: a file `authentication`, text for people. It stays: a node
//! that has it asks all clients who they are from its start on, before it knows its state.
//!
//! Contract: the file's being there is what counts.

use std::io;

use super::StorageError;
use super::disk::Disk;
use super::identity::IdentityStore;

const NAME: &str = "authentication";

const TMP_NAME: &str = "authentication.tmp";

const TEXT: &[u8] =
    b"This node's cluster has authentication on. While this file is here the node serves no client before it \
knows its tokens.\n";

impl IdentityStore {
    /// Whether the note is there.
    ///
    /// # Errors
    /// `Io`: it cannot be told, which must not be taken for its absence.
    pub fn is_closed(&self) -> Result<bool, StorageError> {
        is_noted(&*self.disk).map_err(|error| StorageError::io(self.disk.display(NAME), error))
    }
}

fn is_noted(disk: &dyn Disk) -> io::Result<bool> {
    match disk.open(NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        opened => opened.map(|_| true),
    }
}

/// Makes the note if it is not there; durable when this returns.
///
/// # Errors
/// `Io`.
pub fn note(disk: &dyn Disk) -> Result<(), StorageError> {
    let write = || {
        if is_noted(disk)? {
            return Ok(());
        }
        match disk.remove(TMP_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(TMP_NAME)?;
        file.write_all_at(TEXT, 0)?;
        file.sync_data()?;
        disk.rename(TMP_NAME, NAME)?;
        disk.sync_dir()
    };
    write().map_err(|error| StorageError::io(disk.display(NAME), error))
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
