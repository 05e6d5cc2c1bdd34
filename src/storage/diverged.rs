//! The note that a directory's state is not its cluster's: a file `diverged`, text for people. It stays until somebody moves
//! the directory away, replaces its content or removes the file.
//!
//! Contract: the file's being there is what counts. An empty or unreadable text means the same.

use std::io;

use super::StorageError;
use super::disk::Disk;
use super::identity::IdentityStore;

/// The name of the file.
pub(super) const NAME: &str = "diverged";

const TMP_NAME: &str = "diverged.tmp";

/// The most that is read of it.
const MAX_BYTES: usize = 4096;

impl IdentityStore {
    /// The reason why this directory's state is not its cluster's; `None` if nobody noted one.
    ///
    /// # Errors
    /// `Io`: the file is there and cannot be read, which must not be taken for its absence.
    pub fn diverged(&self) -> Result<Option<String>, StorageError> {
        read(&*self.disk).map_err(|error| StorageError::io(self.disk.display(NAME), error))
    }

    /// Notes why; durable when this returns.
    ///
    /// # Errors
    /// `Io`.
    pub fn save_diverged(&self, why: &str) -> Result<(), StorageError> {
        let write = || {
            match self.disk.remove(TMP_NAME) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = self.disk.create(TMP_NAME)?;
            file.write_all_at(why.as_bytes(), 0)?;
            file.sync_data()?;
            self.disk.rename(TMP_NAME, NAME)?;
            self.disk.sync_dir()
        };
        write().map_err(|error| StorageError::io(self.disk.display(NAME), error))
    }
}

fn read(disk: &dyn Disk) -> io::Result<Option<String>> {
    let file = match disk.open(NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = vec![0; MAX_BYTES];
    let mut len = 0;
    while len < MAX_BYTES {
        match file.read_at(&mut text[len..], len as u64)? {
            0 => break,
            more => len += more,
        }
    }
    text.truncate(len);
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Ok(Some(if text.is_empty() { format!("the file {} says so", disk.display(NAME)) } else { text }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::disk::MemDisk;
    use crate::storage::test_disk::crash_everywhere;

    #[test]
    fn a_note_outlives_a_crash_once_it_was_saved() {
        crash_everywhere(
            MemDisk::new,
            |disk| IdentityStore::new(disk).save_diverged("entry 8 differs").is_ok(),
            |after, saved| {
                let found = IdentityStore::new(Arc::new(after.clone())).diverged().unwrap();
                assert!(found.as_deref() == Some("entry 8 differs") || (found.is_none() && !saved), "{found:?}");
            },
        );
    }

    #[test]
    fn a_file_without_a_text_counts_as_well() {
        let disk = MemDisk::new();
        let store = IdentityStore::new(Arc::new(disk.clone()));
        assert_eq!(store.diverged().unwrap(), None);
        for bytes in [Vec::new(), b" \n".to_vec()] {
            disk.put(NAME, bytes);
            assert!(store.diverged().unwrap().unwrap().contains(NAME));
        }
        disk.put(NAME, vec![0xff; 10_000]);
        assert!(store.diverged().unwrap().is_some());
    }
}
