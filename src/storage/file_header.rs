//! The header of the identity file and of snapshots. Its layout is the same in every version.
//!
//! ```text
//! magic, 8 bytes | format version u32 | length of the body u32 | body (postcard) | CRC-32C of all that
//! ```
//!
//! Numbers are little-endian. The checksum is checked before the version is believed: a flipped bit is
//! damage, never "use a newer hraftd".

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;

use crate::storage::StorageError;
use crate::storage::disk::DiskFile;

/// The longest body, in bytes. A membership of hundreds of nodes takes tens of kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;
const PREFIX_BYTES: usize = 16;

/// A header whose checksum was verified.
pub(super) struct Sealed {
    pub version: u32,
    pub body: Vec<u8>,
    /// Offset of the first byte after it.
    pub end: u64,
    /// Its checksum. The checksums of a snapshot's blocks continue it.
    pub crc: u32,
}

/// The bytes of a header, and its checksum.
pub(super) fn seal(magic: &[u8; 8], version: u32, body: &[u8]) -> (Vec<u8>, u32) {
    assert!(body.len() <= MAX_BODY_BYTES, "{} bytes do not fit a file's head", body.len());
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + body.len() + 4);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(body);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    (bytes, crc)
}

/// Reads and checks the header of a file of `len` bytes; `place` is the file as an operator would name it.
pub(super) fn unseal(
    file: &dyn DiskFile,
    place: &str,
    magic: &[u8; 8],
    known: RangeInclusive<u32>,
    len: u64,
) -> Result<Sealed, StorageError> {
    let mut bytes = vec![0; PREFIX_BYTES];
    read_exact(file, place, &mut bytes, 0)?;
    if bytes[..8] != *magic {
        return Err(damaged(place, 0, "it does not start as such a file does"));
    }
    let version = u32_at(&bytes, 8);
    let body_len = u32_at(&bytes, 12) as usize;
    let end = (PREFIX_BYTES + body_len) as u64 + 4;
    if body_len > MAX_BODY_BYTES || end > len {
        return Err(damaged(place, 12, format!("a head of {body_len} bytes in a file of {len}")));
    }
    bytes.resize(PREFIX_BYTES + body_len + 4, 0);
    read_exact(file, place, &mut bytes[PREFIX_BYTES..], PREFIX_BYTES as u64)?;
    let sum_at = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..sum_at]);
    if crc != u32_at(&bytes, sum_at) {
        return Err(damaged(place, 0, "the checksum of its head is wrong"));
    }
    if !known.contains(&version) {
        return Err(StorageError::Version { file: place.to_owned(), found: version, known: *known.end() });
    }
    bytes.truncate(sum_at);
    Ok(Sealed { version, body: bytes.split_off(PREFIX_BYTES), end, crc })
}

/// Decodes a whole body.
pub(super) fn decode<T: DeserializeOwned>(place: &str, body: &[u8]) -> Result<T, StorageError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(damaged(place, PREFIX_BYTES as u64, format!("{} bytes too many in its head", rest.len()))),
        Err(error) => Err(damaged(place, PREFIX_BYTES as u64, format!("its head cannot be decoded: {error}"))),
    }
}

pub(super) fn damaged(place: &str, offset: u64, what: impl Into<String>) -> StorageError {
    StorageError::Damaged { file: place.to_owned(), offset, what: what.into() }
}

/// Fills `buf` from offset `at`. A file that ends before is damaged.
pub(super) fn read_exact(file: &dyn DiskFile, place: &str, buf: &mut [u8], at: u64) -> Result<(), StorageError> {
    file.read_exact_at(buf, at).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(place, at, "the file ends too early"),
        _ => StorageError::io(place, error),
    })
}

/// The little-endian number at an offset that is known to be within `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
