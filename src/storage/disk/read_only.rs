//! A directory that is only read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::open_file;
use super::{Disk, DiskFile};

/// A directory of the operating system whose files are only read. Every change fails with
/// `ReadOnlyFilesystem`.
#[derive(Debug)]
pub struct ReadOnlyDisk {
    path: PathBuf,
}

impl ReadOnlyDisk {
    /// Names a directory; nothing is opened yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ReadOnlyFile(open_file(&self.path.join(name), File::options().read(true))?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn set_aside(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn display(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

/// A file that somebody named, wherever it is, to be read.
///
/// # Errors
/// `InvalidInput`: it is not a regular file.
pub fn only_read(file: File) -> io::Result<Arc<dyn DiskFile>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(Arc::new(ReadOnlyFile(file)))
}

#[derive(Debug)]
struct ReadOnlyFile(File);

impl DiskFile for ReadOnlyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"abc").unwrap();
        let disk = ReadOnlyDisk::new(dir.path());
        let file = disk.open("a").unwrap();
        let mut buf = [0; 2];
        file.read_exact_at(&mut buf, 1).unwrap();
        assert_eq!((&buf, file.len().unwrap()), (b"bc", 3));
        for refused in [
            disk.create("b").map(drop),
            disk.rename("a", "b"),
            disk.remove("a"),
            disk.sync_dir(),
            file.write_all_at(b"x", 0),
            file.sync_data(),
        ] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(disk.list().unwrap(), ["a"]);
    }
}
