//! The encoded form of a record: in messages and kept outcomes.

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Marks, Rare, Record};

#[derive(Serialize, Deserialize)]
struct Flat<'a> {
    marks: Marks,
    rare: FlatRare,
    #[serde(borrow, serialize_with = "as_bytes")]
    value: &'a [u8],
}

/// What few keys have, encoded. hraftd 0.1.0 has an option here, without leases: postcard writes the first two of these
/// as it writes an option, and the third only where a key has a lease.
#[derive(Serialize, Deserialize)]
enum FlatRare {
    None,
    Some { is_bytes: bool, content_type: Option<CompactString>, deadline_ms: Option<u64> },
    Leased { is_bytes: bool, content_type: Option<CompactString>, lease: u64 },
}

impl From<&Record> for FlatRare {
    fn from(record: &Record) -> Self {
        let Rare { is_bytes, content_type, deadline_ms, lease } = record.rare();
        match lease {
            Some(lease) => Self::Leased { is_bytes, content_type, lease },
            None if record.has_rare() => Self::Some { is_bytes, content_type, deadline_ms },
            None => Self::None,
        }
    }
}

impl From<FlatRare> for Rare {
    fn from(flat: FlatRare) -> Self {
        match flat {
            FlatRare::None => Self::default(),
            FlatRare::Some { is_bytes, content_type, deadline_ms } => {
                Self { is_bytes, content_type, deadline_ms, lease: None }
            }
            FlatRare::Leased { is_bytes, content_type, lease } => {
                Self { is_bytes, content_type, deadline_ms: None, lease: Some(lease) }
            }
        }
    }
}

/// Encodes the bytes at once, not one by one; the encoded form is the same.
fn as_bytes<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(value)
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Flat { marks: self.marks(), rare: self.into(), value: self.value() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Flat { marks, rare, value } = Flat::deserialize(deserializer)?;
        Ok(Self::new(marks, &rare.into(), value))
    }
}
