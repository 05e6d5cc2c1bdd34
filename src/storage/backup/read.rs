//! Reads a backup, and believes nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::{Head, MAGIC, Totals, VERSION};
use crate::formats::{Format, NEWEST};
use crate::kv::KvStore;
use crate::record::Record;
use crate::storage::StorageError;
use crate::storage::disk::{DiskFile, only_read};
use crate::storage::file_header::{self, Sealed};
use crate::storage::snapshot::format::Reader;
use crate::storage::snapshot::items::Item;

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be read.
    #[error("{0}")]
    Io(StorageError),
    /// It is not what was written, or not all of it.
    #[error("{file}: damaged at offset {offset}: {what}; this backup cannot be used, take another one")]
    Damaged {
        /// The file.
        file: String,
        /// Byte offset in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A newer hraftd made it.
    #[error("{file}: at offset {offset}: {what}, which this hraftd ({version}) does not read: use a newer one", version = env!("CARGO_PKG_VERSION"))]
    Newer {
        /// The file.
        file: String,
        /// Byte offset of what tells.
        offset: u64,
        /// Which version or format it is of.
        what: String,
    },
}

/// The place of the version in a head.
const VERSION_OFFSET: u64 = 8;
/// The place of its body.
const BODY_OFFSET: u64 = 16;

impl From<StorageError> for BackupError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damaged { file, offset, what } => Self::Damaged { file, offset, what },
            StorageError::Version { file, found, .. } => {
                Self::Newer { file, offset: VERSION_OFFSET, what: format!("version {found} of backups") }
            }
            other => Self::Io(other),
        }
    }
}

/// A named pipe that nobody writes would be waited for.
pub(super) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    File::options().read(true).custom_flags(flags).open(path)
}

/// A backup whose head was checked.
#[derive(Debug)]
pub struct Backup {
    /// What it says of itself.
    pub head: Head,
    /// Its length in bytes.
    pub bytes: u64,
    file: Arc<dyn DiskFile>,
    place: String,
    end_of_head: u64,
    crc_of_head: u32,
}

impl Backup {
    /// Opens a file that somebody named. Any file that can be read from every offset will do.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let place = path.display().to_string();
        let file = open_without_waiting(path).and_then(only_read).map_err(|error| StorageError::io(&place, error))?;
        Self::read(file, place)
    }

    /// Reads the head of a file; `place` is what people call it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn read(file: Arc<dyn DiskFile>, place: String) -> Result<Self, BackupError> {
        let bytes = file.len().map_err(|error| StorageError::io(&place, error))?;
        let Sealed { body, end, crc, .. } = file_header::unseal(&*file, &place, MAGIC, VERSION..=VERSION, bytes)?;
        let head: Head = file_header::decode(&place, &body)?;
        let Format(format) = head.format;
        if head.format > NEWEST {
            let what = format!("format {format} of the state");
            return Err(BackupError::Newer { file: place, offset: BODY_OFFSET, what });
        }
        Ok(Self { head, bytes, file, place, end_of_head: end, crc_of_head: crc })
    }

    /// Checks all of it, and keeps no key.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn check(&self) -> Result<Totals, BackupError> {
        let (mut kv, mut keys, mut sum) = (self.empty(), 0, 0_u64);
        let end = self.reader().read_to_end(|item| match item {
            Item::Key { key, marks, rare, value } => {
                keys += 1;
                sum = sum.wrapping_add(Record::new(marks, &rare, value).digest(key));
            }
            other => other.restore(&mut kv),
        })?;
        let found = Totals { keys, digest: kv.digest_with(keys, sum), ..Totals::of(&kv) };
        self.compare(found, end)
    }

    /// Loads all of it, and checks all of it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn load(&self) -> Result<(KvStore, Totals), BackupError> {
        let mut kv = self.empty();
        let end = self.reader().read_to_end(|item| item.restore(&mut kv))?;
        let totals = self.compare(Totals::of(&kv), end)?;
        Ok((kv, totals))
    }

    fn empty(&self) -> KvStore {
        let mut kv = KvStore::new();
        kv.restore_log_time(self.head.log_time_ms);
        kv.restore_format(self.head.format);
        kv
    }

    fn reader(&self) -> Reader<'_> {
        Reader::behind(&*self.file, &self.place, self.bytes, (self.end_of_head, self.crc_of_head))
    }

    fn compare(&self, found: Totals, (told, at): (Vec<u8>, u64)) -> Result<Totals, BackupError> {
        let damaged = |what: String| BackupError::Damaged { file: self.place.clone(), offset: at, what };
        match postcard::take_from_bytes::<Totals>(&told) {
            Ok((told, [])) if told == found => Ok(found),
            Ok((told, [])) => Err(damaged(format!("its end tells {told:?}, and it has {found:?}"))),
            _ => Err(damaged("its end cannot be decoded".to_owned())),
        }
    }
}
