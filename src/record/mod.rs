//! The record of a key: its value and metadata, in one allocation.
//!
//! A [`Record`] is one thin pointer; cloning it shares it. Behind the allocation's two words (count and length):
//!
//! ```text
//! flags u8 | create_index u48 | modify_index u48 | version u48 | deadline u64, where there is one
//!          | lease u64, where there is one | length u32 and content type, where there is one | value
//! ```
//!
//! A million keys have a million records: with 35 bytes beside the value, one of 100 bytes fits an allocation of 144;
//! four whole words took 160. Numbers of 48 bits last for 89 years at 100,000 entries a second. A larger number is
//! stored as the largest, on every replica alike. Metadata that few keys have costs the others nothing.

mod encoded;

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use triomphe::ThinArc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A value with its metadata; immutable.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(ThinArc<(), u8>);

const CREATE_INDEX: usize = 1;
const MODIFY_INDEX: usize = 7;
const VERSION: usize = 13;
const HEAD_BYTES: usize = 19;
const DEADLINE_BYTES: usize = 8;
const LEASE_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

/// The largest record that is put together on the stack.
const STACK_BYTES: usize = 512;

const IS_BYTES: u8 = 1;
const HAS_DEADLINE: u8 = 2;
const HAS_CONTENT_TYPE: u8 = 4;
const HAS_LEASE: u8 = 8;

const MAX_NUMBER: u64 = (1 << 48) - 1;

/// The metadata that few keys have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rare {
    /// True if the value is bytes of any kind, not JSON text.
    pub is_bytes: bool,
    /// The content type that the client gave.
    pub content_type: Option<CompactString>,
    /// When the key expires, in milliseconds of log time.
    pub deadline_ms: Option<u64>,
    /// The lease that it is attached to.
    pub lease: Option<u64>,
}

/// The indexes and the version of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Index of the entry that created the key.
    pub create_index: u64,
    /// Index of the entry that last changed it.
    pub modify_index: u64,
    /// The number of writes since it was created, from 1.
    pub version: u64,
}

impl Marks {
    /// The marks of all keys that hraftd 0.1 wrote: it kept none, and replicas must not differ by when they
    /// were upgraded.
    pub const UNKNOWN: Self = Self { create_index: 1, modify_index: 1, version: 1 };

    /// The marks of a record that an entry writes over `old`.
    pub fn next(old: Option<&Record>, index: u64) -> Self {
        match old {
            Some(old) => Self { create_index: old.create_index(), modify_index: index, version: old.version() + 1 },
            None => Self { create_index: index, modify_index: index, version: 1 },
        }
    }
}

impl Record {
    /// Copies the value: a slice would keep the whole request that it came with.
    pub fn new(marks: Marks, rare: &Rare, value: &[u8]) -> Self {
        let Marks { create_index, modify_index, version } = marks;
        let Rare { is_bytes, ref content_type, deadline_ms, lease } = *rare;
        // Snapshots cannot tell an empty one from none.
        let content_type = content_type.as_ref().filter(|name| !name.is_empty());
        let content_bytes = content_type.map_or(0, |content_type| LENGTH_BYTES + content_type.len());
        let deadline_bytes = if deadline_ms.is_some() { DEADLINE_BYTES } else { 0 };
        let lease_bytes = if lease.is_some() { LEASE_BYTES } else { 0 };
        let length = HEAD_BYTES + deadline_bytes + lease_bytes + content_bytes + value.len();
        let (mut small, mut large) = ([0; STACK_BYTES], Vec::new());
        let all = if length <= STACK_BYTES {
            &mut small[..length]
        } else {
            large.resize(length, 0);
            &mut large[..]
        };
        let mut rest = &mut *all;
        let mut put = |bytes: &[u8]| {
            // There is room for all of it.
            let _ = rest.write_all(bytes);
        };
        let flags = [
            (is_bytes, IS_BYTES),
            (deadline_ms.is_some(), HAS_DEADLINE),
            (content_type.is_some(), HAS_CONTENT_TYPE),
            (lease.is_some(), HAS_LEASE),
        ];
        put(&[flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum()]);
        for number in [create_index, modify_index, version] {
            put(&number.min(MAX_NUMBER).to_le_bytes()[..6]);
        }
        for number in [deadline_ms, lease].into_iter().flatten() {
            put(&number.to_le_bytes());
        }
        if let Some(content_type) = content_type {
            let length = u32::try_from(content_type.len()).expect("a content type is a header of a request");
            put(&length.to_le_bytes());
            put(content_type.as_bytes());
        }
        put(value);
        Self(ThinArc::from_header_and_slice((), all))
    }

    fn has(&self, flag: u8) -> bool {
        self.0.slice[0] & flag != 0
    }

    /// A little-endian number of so many bytes.
    fn number(&self, at: usize, bytes: usize) -> u64 {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&self.0.slice[at..at + bytes]);
        u64::from_le_bytes(number)
    }

    /// The content type, if there is one, and what is behind it.
    fn split(&self) -> (Option<&str>, &[u8]) {
        let mut at = self.lease_at();
        if self.has(HAS_LEASE) {
            at += LEASE_BYTES;
        }
        if !self.has(HAS_CONTENT_TYPE) {
            return (None, &self.0.slice[at..]);
        }
        let length = usize::try_from(self.number(at, LENGTH_BYTES)).expect("it was a length");
        let (content_type, value) = self.0.slice[at + LENGTH_BYTES..].split_at(length);
        (std::str::from_utf8(content_type).ok(), value)
    }

    fn lease_at(&self) -> usize {
        HEAD_BYTES + if self.has(HAS_DEADLINE) { DEADLINE_BYTES } else { 0 }
    }

    /// The same with another deadline, and without a lease.
    pub fn with_deadline(&self, deadline_ms: Option<u64>) -> Self {
        Self::new(self.marks(), &Rare { deadline_ms, lease: None, ..self.rare() }, self.value())
    }

    /// Indexes and version.
    pub fn marks(&self) -> Marks {
        Marks { create_index: self.create_index(), modify_index: self.modify_index(), version: self.version() }
    }

    /// Index of the entry that created the key.
    pub fn create_index(&self) -> u64 {
        self.number(CREATE_INDEX, 6)
    }

    /// Index of the entry that last changed it: its ETag.
    pub fn modify_index(&self) -> u64 {
        self.number(MODIFY_INDEX, 6)
    }

    /// How often it was written since it was created.
    pub fn version(&self) -> u64 {
        self.number(VERSION, 6)
    }

    /// The metadata that few keys have.
    pub fn rare(&self) -> Rare {
        let content_type = self.content_type().map(CompactString::from);
        Rare { is_bytes: self.is_bytes(), content_type, deadline_ms: self.deadline_ms(), lease: self.lease() }
    }

    fn has_rare(&self) -> bool {
        self.has(u8::MAX)
    }

    /// When it expires, in milliseconds of log time.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.has(HAS_DEADLINE).then(|| self.number(HEAD_BYTES, DEADLINE_BYTES))
    }

    /// The lease that it is attached to.
    pub fn lease(&self) -> Option<u64> {
        self.has(HAS_LEASE).then(|| self.number(self.lease_at(), LEASE_BYTES))
    }

    /// The content type that the client gave, if it said more than the value does.
    pub fn content_type(&self) -> Option<&str> {
        self.split().0
    }

    /// True if the value is bytes of any kind, not JSON text.
    pub fn is_bytes(&self) -> bool {
        self.has(IS_BYTES)
    }

    /// JSON text as it was sent, or bytes.
    pub fn value(&self) -> &[u8] {
        self.split().1
    }

    /// The value without a copy, for as long as it is needed.
    pub fn shared_value(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// The value as JSON text: bytes are `{"base64":"…"}`.
    pub fn json(&self) -> Cow<'_, [u8]> {
        if !self.is_bytes() {
            return Cow::Borrowed(self.value());
        }
        Cow::Owned(format!("{{\"base64\":\"{}\"}}", base64(self.value())).into_bytes())
    }

    /// A hash of a key and all that is kept of it; the same on every machine and in every version of hraftd.
    pub fn digest(&self, key: &str) -> u64 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.create_index().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.modify_index().to_le_bytes());
        bytes[16..].copy_from_slice(&self.version().to_le_bytes());
        let mut hash = xxh3_64_with_seed(key.as_bytes(), 0);
        hash = xxh3_64_with_seed(&bytes, hash);
        if self.has_rare() {
            hash = xxh3_64_with_seed(&[1, u8::from(self.is_bytes())], hash);
            hash = xxh3_64_with_seed(self.content_type().unwrap_or_default().as_bytes(), hash);
            hash = xxh3_64_with_seed(&self.deadline_ms().unwrap_or(u64::MAX).to_le_bytes(), hash);
        }
        if let Some(lease) = self.lease() {
            hash = xxh3_64_with_seed(&lease.to_le_bytes(), hash);
        }
        xxh3_64_with_seed(self.value(), hash)
    }
}

/// Bytes as text (RFC 4648, the standard alphabet with padding).
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// As hraftd 0.1 wrote it.
#[cfg(test)]
impl From<&str> for Record {
    fn from(value: &str) -> Self {
        Self::new(Marks::UNKNOWN, &Rare::default(), value.as_bytes())
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        self.value()
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = String::from_utf8_lossy(self.value());
        write!(f, "Record({value:?}, {:?}, {:?})", self.marks(), self.rare())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rare: Rare, value: &[u8]) -> Record {
        Record::new(Marks { create_index: 3, modify_index: 9, version: 2 }, &rare, value)
    }

    #[test]
    fn it_is_small_and_shared() {
        assert_eq!(size_of::<Record>(), size_of::<usize>());
        let record = record(Rare::default(), b"12");
        assert_eq!(record.0.slice.len(), 19 + 2, "with two words before it, 135 bytes for a value of 100");
        assert_eq!(record.clone().value().as_ptr(), record.value().as_ptr());
        assert_eq!(record.shared_value().as_ptr(), record.value().as_ptr());
    }

    #[test]
    fn it_round_trips() {
        let last = Marks { create_index: MAX_NUMBER, modify_index: MAX_NUMBER - 1, version: MAX_NUMBER };
        for is_bytes in [false, true] {
            for content_type in [None, Some("image/png")] {
                for deadline_ms in [None, Some(0), Some(u64::MAX)] {
                    let lease = (deadline_ms == Some(0)).then_some(u64::MAX);
                    let deadline_ms = deadline_ms.filter(|_| lease.is_none());
                    let rare =
                        Rare { is_bytes, content_type: content_type.map(CompactString::from), deadline_ms, lease };
                    for value in [&b""[..], b"{}", b"\xff\0"] {
                        let record = Record::new(last, &rare, value);
                        assert_eq!((record.marks(), record.rare(), record.value()), (last, rare.clone(), value));
                        let bytes = postcard::to_stdvec(&record).unwrap();
                        assert_eq!(postcard::from_bytes::<Record>(&bytes).unwrap(), record);
                    }
                }
            }
        }
    }

    /// Messages and kept outcomes have records, and hraftd 0.1.0 reads them.
    #[test]
    fn without_a_lease_it_is_encoded_as_by_hraftd_0_1_0() {
        #[derive(Serialize)]
        struct OldRare {
            is_bytes: bool,
            content_type: Option<CompactString>,
            deadline_ms: Option<u64>,
        }
        for content_type in [None, Some(CompactString::from("image/png"))] {
            for deadline_ms in [None, Some(300)] {
                for is_bytes in [false, true] {
                    let rare = Rare { is_bytes, content_type: content_type.clone(), deadline_ms, lease: None };
                    let record = record(rare.clone(), b"[1]");
                    let content_type = content_type.clone();
                    let old = (rare != Rare::default()).then_some(OldRare { is_bytes, content_type, deadline_ms });
                    let old = postcard::to_stdvec(&(record.marks(), old, &b"[1]"[..])).unwrap();
                    assert_eq!(postcard::to_stdvec(&record).unwrap(), old);
                }
            }
        }
    }

    #[test]
    fn numbers_stay_at_the_last() {
        let beyond = Marks { create_index: 1 << 48, modify_index: u64::MAX, version: MAX_NUMBER };
        let record = Record::new(beyond, &Rare::default(), b"1");
        let last = Marks { create_index: MAX_NUMBER, modify_index: MAX_NUMBER, version: MAX_NUMBER };
        assert_eq!(record.marks(), last);
        assert_eq!(Record::new(Marks::next(Some(&record), 7), &Rare::default(), b"1").version(), MAX_NUMBER);
    }

    #[test]
    fn every_part_counts_in_the_digest() {
        let plain = record(Rare::default(), b"1");
        let marks = |create_index, modify_index, version| {
            Record::new(Marks { create_index, modify_index, version }, &Rare::default(), b"1")
        };
        let rare = |is_bytes, content_type: Option<&str>, deadline_ms| {
            let content_type = content_type.map(CompactString::from);
            record(Rare { is_bytes, content_type, deadline_ms, lease: None }, b"1")
        };
        let leased = |lease| record(Rare { lease: Some(lease), ..Rare::default() }, b"1");
        let others = [
            marks(4, 9, 2),
            marks(3, 10, 2),
            marks(3, 9, 3),
            record(Rare::default(), b"2"),
            rare(true, None, None),
            rare(false, Some("a/b"), None),
            rare(false, None, Some(1)),
            rare(false, None, Some(2)),
            leased(1),
            leased(2),
        ];
        let mut seen = std::collections::HashSet::from([plain.digest("k"), plain.digest("l")]);
        assert!(others.iter().all(|record| seen.insert(record.digest("k"))));
        assert_eq!(plain.digest("k"), record(Rare::default(), b"1").digest("k"));
    }

    #[test]
    fn bytes_are_shown_as_base64() {
        let bytes = record(Rare { is_bytes: true, ..Rare::default() }, b"\xff\0a");
        assert_eq!(&*bytes.json(), br#"{"base64":"/wBh"}"#);
        assert_eq!(&*record(Rare::default(), b"[1]").json(), b"[1]");
    }
}
