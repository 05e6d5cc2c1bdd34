//! The format of a snapshot file.
//!
//! Little-endian. A sealed head (see `sealed.rs`) with the postcard of [`Header`]; then blocks; the last is the end block,
//! and the file ends with it:
//!
//! ```text
//! block    kind u8 (1 records, 2 end) | length u32 | CRC-32C | payload | CRC-32C
//! records  key length u16 | value length u32 | key | value, repeated; keys ascend through the file
//! end      number of records u64
//! ```
//!
//! Each checksum continues the one before it, from the head's on, over everything but the checksums themselves: a block
//! that is missing, doubled, moved, or from another file is told as surely as a flipped bit. The one in the
//! block's head is there so that a length is believed before that much memory is taken for it.
//!
//! A block is closed once it has 256 KiB, so writer and reader hold that and one record.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::Key;
use crate::raft_types::ClusterId;
use crate::raft_types::alias::SnapshotMeta;
use crate::storage::StorageError;
use crate::storage::disk::DiskFile;
use crate::storage::sealed::{self, damaged, u32_at};

pub(super) const MAGIC: &[u8; 8] = b"hraftdSN";
pub(super) const VERSION: u32 = 1;

const RECORDS: u8 = 1;
const END: u8 = 2;
/// Kind, length, checksum.
const BLOCK_HEAD_BYTES: usize = 9;
const RECORD_HEAD_BYTES: usize = 6;
/// Small in tests, so that small maps have many blocks.
const BLOCK_BYTES: usize = if cfg!(test) { 4 * 1024 } else { 256 * 1024 };
/// What is written is flushed this often, so that the last flush, and the log's beside it, wait for little.
const FLUSH_BYTES: u64 = 8 << 20;

/// What a snapshot says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub cluster: ClusterId,
    pub meta: SnapshotMeta,
}

/// Writes one snapshot from front to back.
pub(super) struct Writer<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    flushed: u64,
    crc: u32,
    records: u64,
    /// The block being filled, from its head on.
    block: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub fn new(file: &'a dyn DiskFile, header: &Header) -> io::Result<Self> {
        let body = postcard::to_stdvec(header).map_err(io::Error::other)?;
        let (head, crc) = sealed::seal(MAGIC, VERSION, &body);
        file.write_all_at(&head, 0)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4);
        block.resize(BLOCK_HEAD_BYTES, 0);
        Ok(Self { file, at: head.len() as u64, flushed: 0, crc, records: 0, block })
    }

    /// Adds one pair; the caller gives them in the keys' order.
    pub fn add(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a key or a value is too long for a snapshot");
        self.block.extend_from_slice(&u16::try_from(key.len()).map_err(too_long)?.to_le_bytes());
        self.block.extend_from_slice(&u32::try_from(value.len()).map_err(too_long)?.to_le_bytes());
        self.block.extend_from_slice(key.as_bytes());
        self.block.extend_from_slice(value);
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block(RECORDS) } else { Ok(()) }
    }

    /// Writes what is left and the end, and flushes; gives the length of the file in bytes.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.block.len() > BLOCK_HEAD_BYTES {
            self.close_block(RECORDS)?;
        }
        self.block.extend_from_slice(&self.records.to_le_bytes());
        self.close_block(END)?;
        self.file.sync_data()?;
        Ok(self.at)
    }

    fn close_block(&mut self, kind: u8) -> io::Result<()> {
        let payload = u32::try_from(self.block.len() - BLOCK_HEAD_BYTES).map_err(io::Error::other)?;
        self.block[0] = kind;
        self.block[1..5].copy_from_slice(&payload.to_le_bytes());
        let head_crc = crc32c::crc32c_append(self.crc, &self.block[..5]);
        self.block[5..BLOCK_HEAD_BYTES].copy_from_slice(&head_crc.to_le_bytes());
        self.crc = crc32c::crc32c_append(head_crc, &self.block[BLOCK_HEAD_BYTES..]);
        self.block.extend_from_slice(&self.crc.to_le_bytes());
        self.file.write_all_at(&self.block, self.at)?;
        self.at += self.block.len() as u64;
        self.block.truncate(BLOCK_HEAD_BYTES);
        self.block.shrink_to(2 * BLOCK_BYTES);
        if self.at - self.flushed >= FLUSH_BYTES {
            self.file.sync_data()?;
            self.flushed = self.at;
        }
        Ok(())
    }
}

/// Reads one snapshot from front to back and believes nothing.
pub(super) struct Reader<'a> {
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
        let head = sealed::unseal(file, place, MAGIC, VERSION, len)?;
        let header = sealed::decode(place, &head.body)?;
        Ok((Self { file, place, len, at: head.end, crc: head.crc }, header))
    }

    /// Checks everything, and keeps nothing.
    pub fn verify(self) -> Result<(), StorageError> {
        self.for_each(|_, _| ())
    }

    /// Hands out every pair, in the keys' order. An error may come after some were handed out.
    pub fn for_each(mut self, mut take: impl FnMut(&str, &[u8])) -> Result<(), StorageError> {
        let mut block = Vec::new();
        let mut last_key = String::new();
        let mut records = 0u64;
        loop {
            let payload_at = self.at + BLOCK_HEAD_BYTES as u64;
            match self.next_block(&mut block)? {
                END => return self.end(&block, payload_at, records),
                RECORDS => {
                    let mut rest = block.as_slice();
                    while !rest.is_empty() {
                        let at = payload_at + (block.len() - rest.len()) as u64;
                        let (key, value) = take_record(&mut rest).map_err(|what| damaged(self.place, at, what))?;
                        if records > 0 && *key <= *last_key {
                            return Err(damaged(self.place, at, "its keys do not ascend"));
                        }
                        last_key.clear();
                        last_key.push_str(key);
                        records += 1;
                        take(key, value);
                    }
                }
                kind => return Err(damaged(self.place, payload_at, format!("a block of unknown kind {kind}"))),
            }
        }
    }

    /// Reads the payload of the next block into `block` and gives its kind.
    fn next_block(&mut self, block: &mut Vec<u8>) -> Result<u8, StorageError> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        sealed::read_exact(self.file, self.place, &mut head, self.at)?;
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
        sealed::read_exact(self.file, self.place, block, payload_at)?;
        let crc = crc32c::crc32c_append(head_crc, &block[..payload]);
        if crc != u32_at(block, payload) {
            return Err(damaged(self.place, payload_at, "the checksum of a block is wrong"));
        }
        block.truncate(payload);
        self.crc = crc;
        self.at = end;
        Ok(head[0])
    }

    fn end(&self, payload: &[u8], at: u64, records: u64) -> Result<(), StorageError> {
        if payload != records.to_le_bytes() {
            return Err(damaged(self.place, at, format!("its end does not tell the {records} records that it has")));
        }
        if self.at != self.len {
            return Err(damaged(self.place, self.at, format!("{} bytes after its end", self.len - self.at)));
        }
        Ok(())
    }
}

/// Splits the next record off.
fn take_record<'b>(rest: &mut &'b [u8]) -> Result<(&'b str, &'b [u8]), &'static str> {
    const CUT: &str = "a record that is longer than its block";
    let (head, body) = rest.split_at_checked(RECORD_HEAD_BYTES).ok_or(CUT)?;
    let key_len = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let (key, body) = body.split_at_checked(key_len).ok_or(CUT)?;
    let (value, body) = body.split_at_checked(u32_at(head, 2) as usize).ok_or(CUT)?;
    *rest = body;
    Ok((std::str::from_utf8(key).map_err(|_| "a key that is not UTF-8")?, value))
}

/// A pair that owns its bytes, and pins no block.
pub(super) fn owned(key: &str, value: &[u8]) -> (Key, Bytes) {
    (Key::from(key), Bytes::copy_from_slice(value))
}
