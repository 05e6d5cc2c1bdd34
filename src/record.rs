//! What is kept of a key: its value and where it came from, in one allocation.
//!
//! A [`Record`] is one thin pointer; cloning it shares it. What few keys have (a TTL, a content type, bytes that are no
//! JSON) is in a box beside, so that the others pay eight bytes for it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use triomphe::ThinArc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A value with its metadata; immutable.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(ThinArc<Head, u8>);

#[derive(Clone, PartialEq, Eq)]
struct Head {
    create_index: u64,
    modify_index: u64,
    version: u64,
    rare: Option<Box<Rare>>,
}

/// What few keys have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rare {
    /// Whether the value is bytes of any kind, and not JSON text.
    pub is_bytes: bool,
    /// The content type that the client gave.
    pub content_type: Option<CompactString>,
    /// When the key expires, in milliseconds of log time.
    pub deadline_ms: Option<u64>,
}

/// The indexes and the version of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Index of the entry that created the key.
    pub create_index: u64,
    /// Index of the entry that last changed it.
    pub modify_index: u64,
    /// How often it was written since it was created; 1 at first.
    pub version: u64,
}

impl Marks {
    /// Of all keys that hraftd 0.1 wrote: it kept none, and replicas must not differ by when they were upgraded.
    pub const UNKNOWN: Self = Self { create_index: 1, modify_index: 1, version: 1 };

    /// Of what an entry writes over `old`.
    pub fn next(old: Option<&Record>, index: u64) -> Self {
        match old {
            Some(old) => {
                Self { create_index: old.0.header.header.create_index, modify_index: index, version: old.version() + 1 }
            }
            None => Self { create_index: index, modify_index: index, version: 1 },
        }
    }
}

impl Record {
    /// Copies the value: a slice would keep the whole request that it came with.
    pub fn new(marks: Marks, rare: Rare, value: &[u8]) -> Self {
        let Marks { create_index, modify_index, version } = marks;
        // Snapshots cannot tell an empty one from none.
        let rare = Rare { content_type: rare.content_type.filter(|name| !name.is_empty()), ..rare };
        let rare = (rare != Rare::default()).then(|| Box::new(rare));
        Self(ThinArc::from_header_and_slice(Head { create_index, modify_index, version, rare }, value))
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// The same with another deadline.
    pub fn with_deadline(&self, deadline_ms: Option<u64>) -> Self {
        Self::new(self.marks(), Rare { deadline_ms, ..self.rare() }, self.value())
    }

    /// Indexes and version.
    pub fn marks(&self) -> Marks {
        let Head { create_index, modify_index, version, .. } = *self.head();
        Marks { create_index, modify_index, version }
    }

    /// Index of the entry that created the key.
    pub fn create_index(&self) -> u64 {
        self.head().create_index
    }

    /// Index of the entry that last changed it: its ETag.
    pub fn modify_index(&self) -> u64 {
        self.head().modify_index
    }

    /// How often it was written since it was created.
    pub fn version(&self) -> u64 {
        self.head().version
    }

    /// What few keys have.
    pub fn rare(&self) -> Rare {
        self.head().rare.as_deref().cloned().unwrap_or_default()
    }

    /// When it expires, in milliseconds of log time.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.head().rare.as_ref()?.deadline_ms
    }

    /// The content type that the client gave, where it said more than the value does.
    pub fn content_type(&self) -> Option<&str> {
        self.head().rare.as_ref()?.content_type.as_deref()
    }

    /// Whether the value is bytes of any kind, and not JSON text.
    pub fn is_bytes(&self) -> bool {
        self.head().rare.as_ref().is_some_and(|rare| rare.is_bytes)
    }

    /// JSON text as it was sent, or bytes.
    pub fn value(&self) -> &[u8] {
        &self.0.slice
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
        let head = self.head();
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&head.create_index.to_le_bytes());
        bytes[8..16].copy_from_slice(&head.modify_index.to_le_bytes());
        bytes[16..].copy_from_slice(&head.version.to_le_bytes());
        let mut hash = xxh3_64_with_seed(key.as_bytes(), 0);
        hash = xxh3_64_with_seed(&bytes, hash);
        if let Some(rare) = &head.rare {
            hash = xxh3_64_with_seed(&[1, u8::from(rare.is_bytes)], hash);
            hash = xxh3_64_with_seed(rare.content_type.as_deref().unwrap_or_default().as_bytes(), hash);
            hash = xxh3_64_with_seed(&rare.deadline_ms.unwrap_or(u64::MAX).to_le_bytes(), hash);
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
        Self::new(Marks::UNKNOWN, Rare::default(), value.as_bytes())
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
        write!(f, "Record({value:?}, {:?}, {:?})", self.marks(), self.head().rare)
    }
}

/// As it goes over the wire.
#[derive(Serialize, Deserialize)]
struct Flat<'a> {
    marks: Marks,
    rare: Option<Rare>,
    #[serde(borrow, serialize_with = "as_bytes")]
    value: &'a [u8],
}

/// At once, and not one by one; the same on the wire.
fn as_bytes<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(value)
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rare = self.head().rare.as_deref().cloned();
        Flat { marks: self.marks(), rare, value: self.value() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Flat { marks, rare, value } = Flat::deserialize(deserializer)?;
        Ok(Self::new(marks, rare.unwrap_or_default(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rare: Rare, value: &[u8]) -> Record {
        Record::new(Marks { create_index: 3, modify_index: 9, version: 2 }, rare, value)
    }

    #[test]
    fn it_is_small_and_shared() {
        assert_eq!(size_of::<Record>(), size_of::<usize>());
        assert_eq!(size_of::<Head>(), 32);
        let record = record(Rare::default(), b"12");
        assert_eq!(record.clone().value().as_ptr(), record.value().as_ptr());
        assert_eq!(record.shared_value().as_ptr(), record.value().as_ptr());
    }

    #[test]
    fn it_round_trips() {
        let rare = Rare { is_bytes: true, content_type: Some("image/png".into()), deadline_ms: Some(7) };
        for record in [record(Rare::default(), b"{}"), record(rare, b"\xff\0"), record(Rare::default(), b"")] {
            let bytes = postcard::to_stdvec(&record).unwrap();
            assert_eq!(postcard::from_bytes::<Record>(&bytes).unwrap(), record);
        }
    }

    #[test]
    fn every_part_counts_in_the_digest() {
        let plain = record(Rare::default(), b"1");
        let marks = |create_index, modify_index, version| {
            Record::new(Marks { create_index, modify_index, version }, Rare::default(), b"1")
        };
        let rare = |is_bytes, content_type: Option<&str>, deadline_ms| {
            record(Rare { is_bytes, content_type: content_type.map(CompactString::from), deadline_ms }, b"1")
        };
        let others = [
            marks(4, 9, 2),
            marks(3, 10, 2),
            marks(3, 9, 3),
            record(Rare::default(), b"2"),
            rare(true, None, None),
            rare(false, Some("a/b"), None),
            rare(false, None, Some(1)),
            rare(false, None, Some(2)),
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
