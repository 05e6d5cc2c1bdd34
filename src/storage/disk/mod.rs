//! The seam between storage and a disk.
//!
//! A [`Disk`] is one flat directory. [`RealDisk`] is a directory of the operating system,
//! [`MemDisk`] one in memory: what `--rmem` runs on, and what tests crash and break. Nothing above
//! this module opens a file by itself.
//!
//! Caveats:
//! * A file's *name* is durable only after [`Disk::sync_dir`], its *content* only after
//!   [`DiskFile::sync_data`].
//! * After a failed sync nobody knows what is on the disk. Callers never retry one.
//! * After a failed sync the page cache may hold bytes that the disk never got, marked clean. A later
//!   process reads them, and no flush of it writes them, unless it [rewrites](rewrite) them first.

mod files;
mod mem;
mod prefixed;
mod read_only;
mod real;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

pub(in crate::storage) use files::{open_file, others_may_write};
pub use mem::MemDisk;
pub use prefixed::PrefixedDisk;
pub use read_only::{ReadOnlyDisk, only_read};
pub use real::RealDisk;

/// A flat directory of files.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a new, empty file.
    ///
    /// # Errors
    /// `AlreadyExists`: the name is taken. `StorageFull`, `PermissionDenied`, and `NotADirectory` as the
    /// operating system gives them.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file to read and write.
    ///
    /// # Errors
    /// `NotFound`: there is no such file. `InvalidInput`: it is not a regular file. `PermissionDenied`.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`: the directory is gone or must not be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Gives a file another name, replacing the file that had it, atomically.
    ///
    /// # Errors
    /// `NotFound`: there is no file `from`. `StorageFull`, `ReadOnlyFilesystem`; both names are then as before.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Moves a file into a folder of this directory, which is made if it is not there. [`sync_dir`](Self::sync_dir) makes
    /// that durable. Nothing here reads it again.
    ///
    /// # Errors
    /// As [`rename`](Self::rename).
    fn set_aside(&self, name: &str, folder: &str) -> io::Result<()>;

    /// Removes a file; handles that are open stay readable.
    ///
    /// # Errors
    /// `NotFound`: there is no such file. `PermissionDenied`, `ReadOnlyFilesystem`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// Any I/O error, once: after it nobody knows which of the names are durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// How many bytes can still be written; `None` if that is not known.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`: the file system cannot be asked.
    fn free_bytes(&self) -> io::Result<Option<u64>>;

    /// The path of a file as an operator would name it, for messages.
    fn display(&self, name: &str) -> String;
}

/// An open file. Reads and writes name their offset, so a handle is shared freely.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Reads at most `buf.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// An I/O error of the device; a place that cannot be read now may be readable later.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`, extending the file where needed.
    ///
    /// # Errors
    /// `StorageFull`, or an I/O error of the device. Part of `buf` may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable, and the length where it changed.
    ///
    /// # Errors
    /// Any I/O error, once. Afterwards nobody knows what is on the disk, and the operating system may
    /// have marked the lost bytes as written: callers never retry.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// The metadata of the file cannot be read.
    fn len(&self) -> io::Result<u64>;

    /// True if the file has no bytes.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof`: the file ends before. Otherwise as [`read_at`](Self::read_at).
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// Writes bytes of a file again as they are read, so that the next flush really writes them. The bytes do
/// not change at any moment.
///
/// # Errors
/// As [`DiskFile::read_exact_at`] and [`DiskFile::write_all_at`].
pub fn rewrite(file: &dyn DiskFile, mut range: Range<u64>) -> io::Result<()> {
    const CHUNK_BYTES: u64 = 256 << 10;
    let mut bytes = Vec::new();
    while !range.is_empty() {
        let length = (range.end - range.start).min(CHUNK_BYTES);
        bytes.resize(usize::try_from(length).expect("at most a chunk"), 0);
        file.read_exact_at(&mut bytes, range.start)?;
        file.write_all_at(&bytes, range.start)?;
        range.start += length;
    }
    Ok(())
}
