//! Finding, opening and reading the segment files of a log.

use crate::storage::StorageError;
use crate::storage::disk::{Disk, DiskFile};

use super::recovery::damaged;
use super::segment::{self, FILE_HEADER_BYTES, MAX_SEGMENT_BYTES, Segment};
use super::{FORMAT_VERSION, OLDEST_FORMAT_VERSION};

/// True if a file of a log is there.
///
/// # Errors
/// `Io`: the directory cannot be read.
pub fn has_log(disk: &dyn Disk) -> Result<bool, StorageError> {
    let names = disk.list().map_err(|error| StorageError::io(disk.display(""), error))?;
    Ok(names.iter().any(|name| segment::id_of(name).is_some()))
}

/// Adds the segments to `segments`, oldest first, up to the first that cannot be opened.
pub fn open_segments(disk: &dyn Disk, segments: &mut Vec<Segment>) -> Result<(), StorageError> {
    let io = |name: &str, error| StorageError::io(disk.display(name), error);
    let names = disk.list().map_err(|error| io("", error))?;
    let mut ids: Vec<u64> = names.iter().filter_map(|name| segment::id_of(name)).collect();
    ids.sort_unstable();
    for (nth, id) in ids.iter().copied().enumerate() {
        if nth > 0 && ids[nth - 1] + 1 != id {
            return Err(damaged(disk, ids[nth - 1] + 1, 0, "this segment of the log is missing".to_owned()));
        }
        let name = segment::name(id);
        let file = disk.open(&name).map_err(|error| io(&name, error))?;
        let mut header = [0; FILE_HEADER_BYTES];
        match read_up_to(&*file, &mut header).map(|n| segment::version(&header[..n], id)) {
            Ok(Some(found)) if !(OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&found) => {
                return Err(StorageError::Version { file: disk.display(&name), found, known: FORMAT_VERSION });
            }
            Ok(_) => segments.push(Segment { id, file, highest: None, owner: None }),
            Err(error) => return Err(io(&name, error)),
        }
    }
    Ok(())
}

fn read_up_to(file: &dyn DiskFile, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

pub fn read_file(disk: &dyn Disk, segment: &Segment) -> Result<Vec<u8>, StorageError> {
    let read = || {
        let len = segment.file.len()?;
        if len > MAX_SEGMENT_BYTES {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(std::io::Error::other)?;
        let mut bytes = Vec::new();
        // An error that names the file, where memory for it is not to be had.
        bytes.try_reserve_exact(len).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        let n = read_up_to(&*segment.file, &mut bytes)?;
        bytes.truncate(n);
        Ok(Some(bytes))
    };
    let bytes = read().map_err(|error| StorageError::io(disk.display(&segment::name(segment.id)), error))?;
    let what = || format!("it has more than the {MAX_SEGMENT_BYTES} bytes that a segment may have");
    bytes.ok_or_else(|| damaged(disk, segment.id, MAX_SEGMENT_BYTES, what()))
}
