//! Segment files: their names, their headers, and how one comes to be.
//!
//! A file `log-<id as 16 hex digits>` starts with a header (magic, format version, segment id,
//! CRC-32C of those), then a frame of kind `HEAD` or `OWNED_HEAD`, then records. Ids count up from 1 and are never
//! used for another content. These 24 bytes keep their meaning in every future version.

use std::sync::Arc;

use crate::storage::StorageError;
use crate::storage::disk::{Disk, DiskFile};

use super::frame::Owner;
use super::spare::Spare;

/// Bytes of a file header.
pub const FILE_HEADER_BYTES: usize = 24;

/// The most bytes of a segment. It is read as a whole. Ordinary ones have 16 MiB; one with a large record has little more
/// than that, and no message that brings a record is longer than 80 MiB.
pub const MAX_SEGMENT_BYTES: u64 = 512 << 20;

/// The most bytes of a record's payload.
pub const MAX_RECORD_BYTES: usize = 256 << 20;

const MAGIC: [u8; 8] = *b"hraftlog";
const PREFIX: &str = "log-";

/// The name of a segment's file.
pub fn name(id: u64) -> String {
    format!("{PREFIX}{id:016x}")
}

/// The segment id in a file's name.
pub fn id_of(name: &str) -> Option<u64> {
    let id = u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?;
    // One spelling only: no sign, no capitals, no missing zeros.
    (id > 0 && self::name(id) == name).then_some(id)
}

/// The file header of a segment of this version.
pub fn header(id: u64, version: u32) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..20].copy_from_slice(&id.to_le_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The format version of a file that starts with a valid header for this segment.
pub fn version(bytes: &[u8], id: u64) -> Option<u32> {
    let header = bytes.get(..FILE_HEADER_BYTES)?;
    let version = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
    (header == self::header(id, version)).then_some(version)
}

/// A segment that the log may still need.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its id.
    pub id: u64,
    /// Its file, open.
    pub file: Arc<dyn DiskFile>,
    /// The highest index of an entry in it, truncated ones included.
    pub highest: Option<u64>,
    /// The node whose log it says it is of.
    pub owner: Owner,
}

/// Makes the file of a new segment, out of the spare where there is one; its name is durable.
///
/// # Errors
/// [`StorageError::Io`]: the file cannot be made or renamed, or the directory cannot be flushed.
pub fn create(disk: &dyn Disk, id: u64, spare: Option<&Spare>) -> Result<Segment, StorageError> {
    let name = name(id);
    let failed = |error| StorageError::io(disk.display(&name), error);
    let zeroed = spare.map(|spare| spare.take(disk, &name)).transpose().map_err(failed)?.flatten();
    let file = match zeroed {
        Some(file) => file,
        None => disk.create(&name).map_err(failed)?,
    };
    disk.sync_dir().map_err(failed)?;
    Ok(Segment { id, file, highest: None, owner: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(name(0x2a), "log-000000000000002a");
        assert_eq!(id_of("log-000000000000002a"), Some(0x2a));
        for other in
            ["log-2a", "log-000000000000002A", "log-+00000000000002a", "log-0000000000000000", "log-spare", "x"]
        {
            assert_eq!(id_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_bytes_of_a_header_are_these() {
        let header = header(0x2a, 3);
        assert_eq!(header[..20], *b"hraftlog\x03\0\0\0\x2a\0\0\0\0\0\0\0");
        assert_eq!(version(&header, 0x2a), Some(3));
        assert_eq!(version(&header, 0x2b), None);
        for bit in 0..header.len() * 8 {
            let mut bad = header;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(version(&bad, 0x2a), None, "bit {bit}");
        }
    }
}
