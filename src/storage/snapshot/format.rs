//! The format of a snapshot file.
//!
//! Little-endian. A file header (`file_header.rs`) whose body is the postcard of [`Header`], then blocks. The file ends
//! with the end block:
//!
//! ```text
//! block    kind u8 | length u32 | CRC-32C | payload | CRC-32C
//! 3 keys   key length u16 | value length u32 | content type length u16 | flags u8 | create_index u64 | modify_index u64
//!          | version u64 | deadline u64, where there is one | lease u64, where there is one | content type | key | value, repeated; keys ascend
//! 4 locks  length u32 | postcard of name and lock, repeated
//! 5 kept   length u32 | postcard of `Idempotency-Key` and outcome, repeated
//! 6 leases length u32 | postcard of id and lease, repeated
//! 7 claims length u32 | postcard of the name of a lock, a ticket for it and its lease, repeated
//! 8 auth   length u32 | postcard of the word on authentication
//! 9 tokens length u32 | postcard of id and token, repeated
//! 10 owners length u32 | postcard of: whether of a lease, index of the entry, id of its token, repeated
//! 11 quota length u32 | postcard of the bytes, where there is one
//! 2 end    number of records u64
//! ```
//!
//! What is about leases, and about authentication, is there only where there is such: in a version from 3 on.
//!
//! Version 2 had no format in its header; it is still what a state of the first format is written as. Version 1 had no log
//! time there either and, for keys, `1 records  key length u16 | value length u32 | key | value`.
//!
//! Each checksum continues the one before it, from the header's on, over everything but the checksums themselves. A
//! block that is missing, doubled, moved, or from another file is told as surely as a flipped bit. The checksum in a
//! block's head is checked before that much memory is taken for its payload.
//!
//! A block is closed once it has 256 KiB: writer and reader hold that and one record.

use std::io;

use serde::{Deserialize, Serialize};

use crate::formats::{Format, NEWEST};
use crate::raft_types::ClusterId;
use crate::raft_types::alias::SnapshotMeta;
use crate::storage::disk::DiskFile;
use crate::storage::file_header::{damaged, u32_at};
use crate::storage::{StorageError, file_header};

use super::items::{
    Item, take_auth, take_claim, take_kept, take_key, take_lease, take_lock, take_old_key, take_owner, take_quota,
    take_token,
};
use super::write::{
    AUTH, BLOCK_BYTES, BLOCK_HEAD_BYTES, CLAIMS, END, FileSink, KEPT, KEYS, LEASES, LOCKS, OWNERS, QUOTA, TOKENS,
    Writer,
};

pub(super) const MAGIC: &[u8; 8] = b"hraftdSN";
const OLDEST_VERSION: u32 = 1;

const RECORDS: u8 = 1;

/// The body of a snapshot's header.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::storage) struct Header {
    pub cluster: ClusterId,
    pub meta: SnapshotMeta,
    pub log_time_ms: u64,
    pub format: Format,
}

#[derive(Serialize, Deserialize)]
struct HeaderV2 {
    cluster: ClusterId,
    meta: SnapshotMeta,
    log_time_ms: u64,
}

#[derive(Deserialize)]
struct HeaderV1 {
    cluster: ClusterId,
    meta: SnapshotMeta,
}

/// Begins a snapshot: its head is written.
pub(super) fn begin<'a>(file: &'a dyn DiskFile, header: &Header) -> io::Result<Writer<FileSink<'a>>> {
    let version = header.format.snapshot();
    let body = match version {
        2 => {
            let Header { cluster, meta, log_time_ms, .. } = header.clone();
            postcard::to_stdvec(&HeaderV2 { cluster, meta, log_time_ms })
        }
        _ => postcard::to_stdvec(header),
    };
    let (head, crc) = file_header::seal(MAGIC, version, &body.map_err(io::Error::other)?);
    Writer::new(FileSink::new(file), &head, crc)
}

/// Reads the blocks of one file from front to back and believes nothing.
pub(in crate::storage) struct Reader<'a> {
    file: &'a dyn DiskFile,
    place: &'a str,
    len: u64,
    at: u64,
    crc: u32,
}

impl<'a> Reader<'a> {
    /// Reads and checks the head; `place` is the file as an operator would name it.
    pub fn open(file: &'a dyn DiskFile, place: &'a str) -> Result<(Self, Header), StorageError> {
        let len = file.len().map_err(|error| StorageError::io(place, error))?;
        let head = file_header::unseal(file, place, MAGIC, OLDEST_VERSION..=NEWEST.snapshot(), len)?;
        let header = match head.version {
            1 => {
                let HeaderV1 { cluster, meta } = file_header::decode(place, &head.body)?;
                Header { cluster, meta, log_time_ms: 0, format: Format::default() }
            }
            2 => {
                let HeaderV2 { cluster, meta, log_time_ms } = file_header::decode(place, &head.body)?;
                Header { cluster, meta, log_time_ms, format: Format::default() }
            }
            _ => file_header::decode(place, &head.body)?,
        };
        Ok((Self::behind(file, place, len, (head.end, head.crc)), header))
    }

    /// Reads the blocks behind a head that was checked, with its end and its checksum, in a file of `len` bytes.
    pub fn behind(file: &'a dyn DiskFile, place: &'a str, len: u64, (end, crc): (u64, u32)) -> Self {
        Self { file, place, len, at: end, crc }
    }

    /// Checks everything, and keeps nothing.
    pub fn verify(self) -> Result<(), StorageError> {
        self.for_each(|_| ())
    }

    /// Hands out everything, keys first and in their order. An error may come after some were handed out.
    pub fn for_each(self, take: impl FnMut(Item<'_>)) -> Result<(), StorageError> {
        let (place, (rest, at)) = (self.place, self.read_to_end(take)?);
        if !rest.is_empty() {
            return Err(damaged(place, at, "its end tells more than the number of records"));
        }
        Ok(())
    }

    /// The same; gives what the end tells beside the number of records, and the offset of that.
    pub fn read_to_end(mut self, mut take: impl FnMut(Item<'_>)) -> Result<(Vec<u8>, u64), StorageError> {
        let mut block = Vec::new();
        let mut last_key = String::new();
        let mut records = 0u64;
        loop {
            let payload_at = self.at + BLOCK_HEAD_BYTES as u64;
            let kind = self.next_block(&mut block)?;
            let next = match kind {
                END => return self.end(&block, payload_at, records),
                RECORDS => take_old_key,
                KEYS => take_key,
                LOCKS => take_lock,
                KEPT => take_kept,
                LEASES => take_lease,
                CLAIMS => take_claim,
                AUTH => take_auth,
                TOKENS => take_token,
                OWNERS => take_owner,
                QUOTA => take_quota,
                kind => return Err(damaged(self.place, payload_at, format!("a block of unknown kind {kind}"))),
            };
            let mut rest = block.as_slice();
            while !rest.is_empty() {
                let at = payload_at + (block.len() - rest.len()) as u64;
                let item = next(&mut rest).map_err(|what| damaged(self.place, at, what))?;
                if let Item::Key { key, .. } = item {
                    if records > 0 && *key <= *last_key {
                        return Err(damaged(self.place, at, "its keys do not ascend"));
                    }
                    last_key.clear();
                    last_key.push_str(key);
                }
                records += 1;
                take(item);
            }
        }
    }

    /// Reads the payload of the next block into `block` and gives its kind.
    fn next_block(&mut self, block: &mut Vec<u8>) -> Result<u8, StorageError> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        file_header::read_exact(self.file, self.place, &mut head, self.at)?;
        let head_crc = crc32c::crc32c_append(self.crc, &head[..5]);
        if head_crc != u32_at(&head, 5) {
            return Err(damaged(self.place, self.at, "the checksum of a block's head is wrong"));
        }
        let payload = u32_at(&head, 1) as usize;
        let payload_at = self.at + BLOCK_HEAD_BYTES as u64;
        let end = payload_at + payload as u64 + 4;
        if end > self.len {
            return Err(damaged(self.place, self.at, "the file ends within a block"));
        }
        // A block with a large value does not keep its memory taken for all that follow.
        block.clear();
        block.shrink_to(2 * BLOCK_BYTES);
        block.resize(payload + 4, 0);
        file_header::read_exact(self.file, self.place, block, payload_at)?;
        let crc = crc32c::crc32c_append(head_crc, &block[..payload]);
        if crc != u32_at(block, payload) {
            return Err(damaged(self.place, payload_at, "the checksum of a block is wrong"));
        }
        block.truncate(payload);
        self.crc = crc;
        self.at = end;
        Ok(head[0])
    }

    fn end(&self, payload: &[u8], at: u64, records: u64) -> Result<(Vec<u8>, u64), StorageError> {
        let Some(rest) = payload.strip_prefix(&records.to_le_bytes()) else {
            return Err(damaged(self.place, at, format!("its end does not tell the {records} records that it has")));
        };
        if self.at != self.len {
            return Err(damaged(self.place, self.at, format!("{} bytes after its end", self.len - self.at)));
        }
        Ok((rest.to_vec(), at + 8))
    }
}
