//! Sees that files have changed, without believing one that is half written.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::file::{Access, FileError, read_file};

/// The contents of the files, in their order.
pub type Contents = Vec<Zeroizing<Vec<u8>>>;

/// Files that are read again and again, as one: a certificate and its key, or a list of secrets.
///
/// The content is looked at, not the time of the file: an editor, Kubernetes and `mv` change them in ways of their own.
#[derive(Debug)]
pub struct FileWatch {
    files: Vec<(PathBuf, Access)>,
    /// What the owner was told last.
    told: [u8; 32],
    /// What differed at the last look.
    seen: Option<[u8; 32]>,
}

impl FileWatch {
    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    /// The first file that cannot be read, and why.
    pub fn open(files: Vec<(PathBuf, Access)>) -> Result<(Self, Contents), (PathBuf, FileError)> {
        let mut watch = Self { files, told: [0; 32], seen: None };
        let contents = watch.read_now()?;
        Ok((watch, contents))
    }

    /// Reads them because the operator says so (SIGHUP): whatever they hold is taken for what is meant. Blocks.
    ///
    /// # Errors
    /// The first file that cannot be read, and why.
    pub fn read_now(&mut self) -> Result<Contents, (PathBuf, FileError)> {
        let (digest, read) = self.read();
        (self.told, self.seen) = (digest, None);
        read
    }

    /// Looks at them; call it once a second. `None` where nothing is new: they are as they were when this, or
    /// [`read_now`](Self::read_now), told last, or differ for the first time and may be half written. Blocks.
    pub fn look(&mut self) -> Option<Result<Contents, (PathBuf, FileError)>> {
        let (digest, read) = self.read();
        if digest == self.told {
            self.seen = None;
            return None;
        }
        if self.seen != Some(digest) {
            self.seen = Some(digest);
            return None;
        }
        (self.told, self.seen) = (digest, None);
        Some(read)
    }

    fn read(&self) -> ([u8; 32], Result<Contents, (PathBuf, FileError)>) {
        let mut digest = Sha256::new();
        let mut all = Vec::with_capacity(self.files.len());
        for (path, access) in &self.files {
            match read_file(path, *access) {
                Ok(bytes) => {
                    digest.update((bytes.len() as u64).to_le_bytes());
                    digest.update(&*bytes);
                    all.push(bytes);
                }
                Err(error) => {
                    digest.update(error.to_string());
                    return (digest.finalize().into(), Err((path.clone(), error)));
                }
            }
        }
        (digest.finalize().into(), Ok(all))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, remove_file, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_change_is_told_once_it_is_the_same_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        super::super::write_new(&path, "a").unwrap();
        let (mut watch, contents) = FileWatch::open(vec![(path.clone(), Access::Private)]).unwrap();
        assert_eq!(**contents[0], *b"a");
        let mut look = || watch.look().map(|read| read.map(|all| all[0].to_vec()).map_err(|(_, e)| e.to_string()));
        assert_eq!(look(), None);
        write(&path, "b").unwrap();
        assert_eq!(look(), None, "it may be half written");
        write(&path, "bc").unwrap();
        assert_eq!(look(), None, "it was");
        assert_eq!(look(), Some(Ok(b"bc".to_vec())));
        assert_eq!(look(), None, "it is told once");
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(look(), None);
        assert!(look().unwrap().unwrap_err().contains("mode is 0644"));
        assert_eq!(look(), None);
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(look(), None);
        assert_eq!(look(), Some(Ok(b"bc".to_vec())));
        write(&path, "x").unwrap();
        assert_eq!(look(), None);
        write(&path, "bc").unwrap();
        assert_eq!(look(), None, "it is as it was");
        remove_file(&path).unwrap();
        assert_eq!(look(), None);
        assert!(look().unwrap().is_err());
        super::super::write_new(&path, "d").unwrap();
        assert_eq!(**watch.read_now().unwrap()[0], *b"d", "the operator's word is enough");
        assert!(watch.look().is_none());
    }
}
