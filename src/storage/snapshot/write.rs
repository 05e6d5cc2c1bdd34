//! Writes a state as blocks, see [`super::format`]: into a snapshot, or into a backup.

use std::io;
use std::ops::Bound;

use compact_str::CompactString;
use serde::Serialize;

use super::items::{HAS_DEADLINE, HAS_LEASE, IS_BYTES};
use crate::command::Key;
use crate::kv::{Kept, KvStore, Lease, Lock};
use crate::record::Record;
use crate::storage::disk::DiskFile;

pub(super) const END: u8 = 2;
pub(super) const KEYS: u8 = 3;
pub(super) const LOCKS: u8 = 4;
pub(super) const KEPT: u8 = 5;
pub(super) const LEASES: u8 = 6;
pub(super) const CLAIMS: u8 = 7;
pub(super) const AUTH: u8 = 8;
pub(super) const TOKENS: u8 = 9;
pub(super) const OWNERS: u8 = 10;
pub(super) const QUOTA: u8 = 11;
/// Kind, length, checksum.
pub(super) const BLOCK_HEAD_BYTES: usize = 9;
/// Small in tests, so that small maps have many blocks.
pub(super) const BLOCK_BYTES: usize = if cfg!(test) { 4 * 1024 } else { 256 * 1024 };
/// The most bytes between two flushes: the last flush, and the log's beside it, then wait for little.
const FLUSH_BYTES: u64 = 8 << 20;

/// Takes the bytes of a file from front to back.
pub(in crate::storage) trait Sink {
    /// Takes the next bytes: a head, or a whole block.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A file that is written, and flushed often.
pub(in crate::storage) struct FileSink<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    flushed: u64,
}

impl<'a> FileSink<'a> {
    pub fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, at: 0, flushed: 0 }
    }

    /// Flushes the last of it; gives the length of the file in bytes.
    pub fn finish(self) -> io::Result<u64> {
        self.file.sync_data()?;
        Ok(self.at)
    }
}

impl Sink for FileSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        if self.at - self.flushed >= FLUSH_BYTES {
            self.file.sync_data()?;
            self.flushed = self.at;
        }
        Ok(())
    }
}

/// Writes one state from front to back.
pub(in crate::storage) struct Writer<S> {
    sink: S,
    crc: u32,
    records: u64,
    /// The kind of the block being filled.
    kind: u8,
    /// The block being filled, from its head on.
    block: Vec<u8>,
}

impl<S: Sink> Writer<S> {
    /// Begins with a head, whose checksum the blocks' continue.
    pub fn new(mut sink: S, head: &[u8], crc: u32) -> io::Result<Self> {
        sink.put(head)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4);
        block.resize(BLOCK_HEAD_BYTES, 0);
        Ok(Self { sink, crc, records: 0, kind: KEYS, block })
    }

    /// Adds all of a state. `go_on` is asked often; its error ends it.
    pub fn add_all(&mut self, kv: &KvStore, mut go_on: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        for (key, record) in kv.iter() {
            go_on()?;
            self.add_key(key, record)?;
        }
        for (name, lock) in kv.locks() {
            self.add_lock(name, &lock)?;
        }
        for (key, kept) in kv.kept() {
            go_on()?;
            self.add_kept(key, kept)?;
        }
        for (id, lease) in kv.leases(Bound::Unbounded) {
            go_on()?;
            self.add_lease(id, lease)?;
        }
        for (name, ticket, lease) in kv.leased_claims() {
            self.add_claim(name, ticket, lease)?;
        }
        self.add_auth(kv)?;
        self.add_quota(kv)
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

    /// Writes what is left and the end, which tells this beside the number of records; gives the sink.
    pub fn finish(mut self, tells: &[u8]) -> io::Result<S> {
        if self.block.len() > BLOCK_HEAD_BYTES {
            self.close_block(self.kind)?;
        }
        self.block.extend_from_slice(&self.records.to_le_bytes());
        self.block.extend_from_slice(tells);
        self.close_block(END)?;
        Ok(self.sink)
    }

    fn close_block(&mut self, kind: u8) -> io::Result<()> {
        let payload = u32::try_from(self.block.len() - BLOCK_HEAD_BYTES).map_err(io::Error::other)?;
        self.block[0] = kind;
        self.block[1..5].copy_from_slice(&payload.to_le_bytes());
        let head_crc = crc32c::crc32c_append(self.crc, &self.block[..5]);
        self.block[5..BLOCK_HEAD_BYTES].copy_from_slice(&head_crc.to_le_bytes());
        self.crc = crc32c::crc32c_append(head_crc, &self.block[BLOCK_HEAD_BYTES..]);
        self.block.extend_from_slice(&self.crc.to_le_bytes());
        self.sink.put(&self.block)?;
        self.block.truncate(BLOCK_HEAD_BYTES);
        self.block.shrink_to(2 * BLOCK_BYTES);
        Ok(())
    }
}

/// A length as the format has it.
fn length<T: TryFrom<usize>>(length: usize) -> io::Result<T> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a key or a value is too long for a snapshot");
    T::try_from(length).map_err(|_| too_long())
}
