//! Repair: makes the disk hold what recovery read.
//!
//! Recovery reads the page cache, which is not the disk. After a failed flush Linux keeps the lost pages in memory and
//! marks them clean (ext4, XFS). The process stops then, but the next one reads those pages, and no flush of it writes
//! them. If it acknowledged entries behind them, a power loss would leave a hole.
//!
//! A batch is written only after the one before it was flushed. Only the last batch that recovery read can be such pages.
//! Its bytes are written again, which makes the pages dirty, and are flushed before the log counts as opened. If that fails,
//! the log is not opened, and the next start finds the same last batch. A clean stop is no exception: the flush of its mark
//! may be the one that failed.

use crate::storage::StorageError;
use crate::storage::disk::rewrite;

use super::recovery::Scan;
use super::segment::{self, FILE_HEADER_BYTES, Segment};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

fn io(scan: &Scan<'_>, segment: &Segment, error: std::io::Error) -> StorageError {
    StorageError::io(scan.disk.display(&segment::name(segment.id)), error)
}

/// Cuts the log at its end: zeros to the end of the last file, flushed, then no later segments. In
/// this order: a segment that says that there is a next one never lacks it.
///
/// # Errors
/// [`StorageError::Io`].
pub fn cut(scan: &Scan<'_>) -> Result<(), StorageError> {
    let disk = scan.disk;
    if let Some(segment) = scan.kept.last().filter(|_| scan.is_torn()) {
        let file = disk.display(&segment::name(segment.id));
        tracing::info!(file, offset = scan.end, "cut off a write of the Raft log that the last stop interrupted");
        let mut from = scan.end;
        let end = scan.end + scan.rest.len() as u64;
        while from < end {
            let n = (end - from).min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(n).expect("at most a chunk")];
            segment.file.write_all_at(zeros, from).map_err(|error| io(scan, segment, error))?;
            from += n;
        }
        segment.file.sync_data().map_err(|error| io(scan, segment, error))?;
    }
    for segment in scan.later.iter().rev() {
        let name = segment::name(segment.id);
        tracing::info!(file = disk.display(&name), "removed a segment of the Raft log that was not yet in use");
        disk.remove(&name).and_then(|()| disk.sync_dir()).map_err(|error| io(scan, segment, error))?;
    }
    Ok(())
}

/// Flushes the segments in use, after writing the last batch again.
///
/// # Errors
/// [`StorageError::Io`]; the log must not be opened then.
pub fn flush(scan: &Scan<'_>) -> Result<(), StorageError> {
    for (nth, segment) in scan.kept.iter().enumerate() {
        let flush = || {
            if let Some(begin) = scan.last_batch.filter(|begin| begin.segment <= segment.id) {
                let in_this = begin.segment == segment.id && begin.offset > FILE_HEADER_BYTES as u64;
                let from = if in_this { begin.offset } else { 0 };
                let is_last = nth + 1 == scan.kept.len();
                rewrite(&*segment.file, from..if is_last { scan.end } else { segment.file.len()? })?;
            }
            segment.file.sync_data()
        };
        flush().map_err(|error| io(scan, segment, error))?;
    }
    Ok(())
}
