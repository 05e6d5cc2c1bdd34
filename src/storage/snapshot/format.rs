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

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::command::Key;
use crate::formats::{Format, NEWEST};
use crate::kv::{Kept, KvStore, Lease, Lock};
use crate::raft_types::ClusterId;
use crate::raft_types::alias::SnapshotMeta;
use crate::record::Record;
use crate::storage::disk::DiskFile;
use crate::storage::file_header::{damaged, u32_at};
use crate::storage::{StorageError, file_header};

use super::items::{
    HAS_DEADLINE, HAS_LEASE, IS_BYTES, Item, take_auth, take_claim, take_kept, take_key, take_lease, take_lock,
    take_old_key, take_owner, take_quota, take_token,
};

pub(super) const MAGIC: &[u8; 8] = b"hraftdSN";
const OLDEST_VERSION: u32 = 1;

const RECORDS: u8 = 1;
const END: u8 = 2;
const KEYS: u8 = 3;
const LOCKS: u8 = 4;
const KEPT: u8 = 5;
const LEASES: u8 = 6;
const CLAIMS: u8 = 7;
const AUTH: u8 = 8;
const TOKENS: u8 = 9;
const OWNERS: u8 = 10;
const QUOTA: u8 = 11;
/// Kind, length, checksum.
const BLOCK_HEAD_BYTES: usize = 9;
/// Small in tests, so that small maps have many blocks.
const BLOCK_BYTES: usize = if cfg!(test) { 4 * 1024 } else { 256 * 1024 };
/// The most bytes between two flushes: the last flush, and the log's beside it, then wait for little.
const FLUSH_BYTES: u64 = 8 << 20;

/// The body of a snapshot's header.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
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

/// Writes one snapshot from front to back.
pub(super) struct Writer<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    flushed: u64,
    crc: u32,
    records: u64,
    /// The kind of the block being filled.
    kind: u8,
    /// The block being filled, from its head on.
    block: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub fn new(file: &'a dyn DiskFile, header: &Header) -> io::Result<Self> {
        let version = header.format.snapshot();
        let body = match version {
            2 => {
                let Header { cluster, meta, log_time_ms, .. } = header.clone();
                postcard::to_stdvec(&HeaderV2 { cluster, meta, log_time_ms })
            }
            _ => postcard::to_stdvec(header),
        };
        let (head, crc) = file_header::seal(MAGIC, version, &body.map_err(io::Error::other)?);
        file.write_all_at(&head, 0)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4);
        block.resize(BLOCK_HEAD_BYTES, 0);
        Ok(Self { file, at: head.len() as u64, flushed: 0, crc, records: 0, kind: KEYS, block })
    }

    /// Adds one key; the caller gives them in the keys' order.
    pub fn add_key(&mut self, key: &str, record: &Record) -> io::Result<()> {
        self.begin(KEYS)?;
        let (marks, value) = (record.marks(), record.value());
        let content_type = record.content_type().unwrap_or_default();
        let deadline = record.deadline_ms();
        let lease = record.lease();
        let flags = (u8::from(record.is_bytes()) * IS_BYTES)
            | (u8::from(deadline.is_some()) * HAS_DEADLINE)
            | (u8::from(lease.is_some()) * HAS_LEASE);
        self.block.extend_from_slice(&length::<u16>(key.len())?.to_le_bytes());
        self.block.extend_from_slice(&length::<u32>(value.len())?.to_le_bytes());
        self.block.extend_from_slice(&length::<u16>(content_type.len())?.to_le_bytes());
        self.block.push(flags);
        for number in [marks.create_index, marks.modify_index, marks.version].into_iter().chain(deadline).chain(lease) {
            self.block.extend_from_slice(&number.to_le_bytes());
        }
        self.block.extend_from_slice(content_type.as_bytes());
        self.block.extend_from_slice(key.as_bytes());
        self.block.extend_from_slice(value);
        self.added()
    }

    /// Adds one lock.
    pub fn add_lock(&mut self, name: &Key, lock: &Lock) -> io::Result<()> {
        self.add(LOCKS, &(name, lock))
    }

    /// Adds one kept outcome.
    pub fn add_kept(&mut self, key: &CompactString, kept: &Kept) -> io::Result<()> {
        self.add(KEPT, &(key, kept))
    }

    /// Adds one lease.
    pub fn add_lease(&mut self, id: u64, lease: &Lease) -> io::Result<()> {
        self.add(LEASES, &(id, lease))
    }

    /// Adds that a claim to a lock has a lease.
    pub fn add_claim(&mut self, name: &Key, ticket: u64, lease: u64) -> io::Result<()> {
        self.add(CLAIMS, &(name, ticket, lease))
    }

    /// Adds who is asked who he is, and who may do what: all of it.
    pub fn add_auth(&mut self, kv: &KvStore) -> io::Result<()> {
        kv.auth().record().map_or(Ok(()), |record| self.add(AUTH, record))?;
        kv.auth().tokens().try_for_each(|(id, token)| self.add(TOKENS, &(id, &**token)))?;
        kv.owners().try_for_each(|owner| self.add(OWNERS, &owner))
    }

    /// Adds the quota, if there is one.
    pub fn add_quota(&mut self, kv: &KvStore) -> io::Result<()> {
        if kv.quota() == 0 { Ok(()) } else { self.add(QUOTA, &kv.quota()) }
    }

    fn add(&mut self, kind: u8, item: &impl Serialize) -> io::Result<()> {
        self.begin(kind)?;
        let bytes = postcard::to_stdvec(item).map_err(io::Error::other)?;
        self.block.extend_from_slice(&length::<u32>(bytes.len())?.to_le_bytes());
        self.block.extend_from_slice(&bytes);
        self.added()
    }

    /// A block holds one kind of things.
    fn begin(&mut self, kind: u8) -> io::Result<()> {
        if self.kind != kind && self.block.len() > BLOCK_HEAD_BYTES {
            self.close_block(self.kind)?;
        }
        self.kind = kind;
        Ok(())
    }

    fn added(&mut self) -> io::Result<()> {
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block(self.kind) } else { Ok(()) }
    }

    /// Writes what is left and the end, and flushes; gives the length of the file in bytes.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.block.len() > BLOCK_HEAD_BYTES {
            self.close_block(self.kind)?;
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
        Ok((Self { file, place, len, at: head.end, crc: head.crc }, header))
    }

    /// Checks everything, and keeps nothing.
    pub fn verify(self) -> Result<(), StorageError> {
        self.for_each(|_| ())
    }

    /// Hands out everything, keys first and in their order. An error may come after some were handed out.
    pub fn for_each(mut self, mut take: impl FnMut(Item<'_>)) -> Result<(), StorageError> {
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

/// A length as the format has it.
fn length<T: TryFrom<usize>>(length: usize) -> io::Result<T> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a key or a value is too long for a snapshot");
    T::try_from(length).map_err(|_| too_long())
}
