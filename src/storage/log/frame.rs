//! Frames: how one record lies in a segment file.
//!
//! ```text
//! 0   crc     u32  CRC-32C of: segment id, offset of the frame, owner of the log, everything below
//! 4   length  u32  of the payload
//! 8   batch   u64  which flush wrote it
//! 16  kind    u8   0 is invalid: the CRC of nothing is 0, so zeros must never be a frame
//! 17  flags   u8   1: the last frame of its batch
//! 18  magic   u16  makes a search for frames at every offset cheap
//! 20  payload
//! ```
//!
//! All numbers are little-endian. Segment id, offset and owner are under the CRC but not in the frame, so
//! a frame that the disk put elsewhere, one of another segment, or one of another node's log is no frame.
//!
//! Segments up to version 2 have no owner under the CRC, and neither has the first frame of a newer one: it
//! names the owner.

/// Bytes before a payload.
pub const FRAME_HEADER_BYTES: usize = 20;

const MAGIC: [u8; 2] = [0xA7, 0x5C];
const LAST_OF_BATCH: u8 = 1;

/// The start of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLocation {
    /// The segment's id.
    pub segment: u64,
    /// Byte offset in its file.
    pub offset: u64,
}

/// The Raft id of the node whose log it is; `None` in a segment that does not say.
pub type Owner = Option<u64>;

/// The offset of a segment's first frame.
const FIRST_FRAME_OFFSET: u64 = 24;

/// A frame that was read and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The kind byte, never 0.
    pub kind: u8,
    /// Which flush wrote it.
    pub batch: u64,
    /// True for the last frame of its batch.
    pub ends_batch: bool,
    /// The record's bytes.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes in the file, header included.
    pub fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }
}

fn crc(owner: Owner, place: FrameLocation, checked: &[u8]) -> u32 {
    let mut seed = [0; 24];
    seed[..8].copy_from_slice(&place.segment.to_le_bytes());
    seed[8..16].copy_from_slice(&place.offset.to_le_bytes());
    let seed = match owner.filter(|_| place.offset != FIRST_FRAME_OFFSET) {
        Some(owner) => {
            seed[16..].copy_from_slice(&owner.to_le_bytes());
            &seed[..]
        }
        None => &seed[..16],
    };
    crc32c::crc32c_append(crc32c::crc32c(seed), checked)
}

fn seal(frame: &mut [u8], owner: Owner, place: FrameLocation) {
    let crc = crc(owner, place, &frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a frame to `buf`. The payload must be shorter than 4 GiB.
pub fn push(buf: &mut Vec<u8>, owner: Owner, place: FrameLocation, batch: u64, kind: u8, payload: &[u8]) {
    let start = buf.len();
    let length = u32::try_from(payload.len()).expect("records are bounded where they are accepted");
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&length.to_le_bytes());
    buf.extend_from_slice(&batch.to_le_bytes());
    buf.extend_from_slice(&[kind, 0]);
    buf.extend_from_slice(&MAGIC);
    buf.extend_from_slice(payload);
    seal(&mut buf[start..], owner, place);
}

/// Marks a frame that was pushed as the last of its batch.
pub fn end_batch(frame: &mut [u8], owner: Owner, place: FrameLocation) {
    frame[17] |= LAST_OF_BATCH;
    seal(frame, owner, place);
}

/// The frame that starts at `bytes[0]`, which lies at `place`; `None` where there is no valid one.
pub fn read(bytes: &[u8], owner: Owner, place: FrameLocation) -> Option<Frame<'_>> {
    let header = bytes.get(..FRAME_HEADER_BYTES)?;
    if header[18..20] != MAGIC || header[16] == 0 {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let end = FRAME_HEADER_BYTES.checked_add(usize::try_from(word(4)).ok()?)?;
    let frame = bytes.get(..end)?;
    if crc(owner, place, &frame[4..]) != word(0) {
        return None;
    }
    Some(Frame {
        kind: header[16],
        batch: u64::from_le_bytes(header[8..16].try_into().expect("eight bytes")),
        ends_batch: header[17] & LAST_OF_BATCH != 0,
        payload: &frame[FRAME_HEADER_BYTES..],
    })
}

/// The offset of the first valid frame at or after `from` whose batch is later than `batch`, at
/// whatever alignment: what lies before it may have lost its lengths.
pub fn find_later(bytes: &[u8], owner: Owner, segment: u64, from: usize, batch: u64) -> Option<usize> {
    let mut at = from;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        if bytes[at + 18] == MAGIC[0]
            && let Some(frame) = read(&bytes[at..], owner, FrameLocation { segment, offset: at as u64 })
        {
            if frame.batch > batch {
                return Some(at);
            }
            at += frame.bytes();
        } else {
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: FrameLocation = FrameLocation { segment: 3, offset: 64 };

    fn one() -> Vec<u8> {
        let mut buf = Vec::new();
        push(&mut buf, None, AT, 7, 2, b"payload");
        buf
    }

    #[test]
    fn a_frame_reads_back_where_it_was_written_and_nowhere_else() {
        let mut buf = one();
        let expected = Frame { kind: 2, batch: 7, ends_batch: false, payload: b"payload" };
        assert_eq!(read(&buf, None, AT), Some(expected));
        assert_eq!(read(&buf, None, FrameLocation { segment: 4, ..AT }), None);
        assert_eq!(read(&buf, None, FrameLocation { offset: 65, ..AT }), None);
        end_batch(&mut buf, None, AT);
        assert_eq!(read(&buf, None, AT), Some(Frame { ends_batch: true, ..expected }));
    }

    #[test]
    fn a_frame_of_another_log_is_no_frame() {
        let mut buf = Vec::new();
        push(&mut buf, Some(5), AT, 7, 2, b"payload");
        assert!(
            read(&buf, Some(5), AT).is_some() && find_later(&[&[0; 64], &buf[..]].concat(), Some(5), 3, 0, 6).is_some()
        );
        for other in [None, Some(0), Some(4)] {
            assert_eq!(read(&buf, other, AT), None);
        }
        let first = FrameLocation { segment: 3, offset: FIRST_FRAME_OFFSET };
        let mut buf = Vec::new();
        push(&mut buf, Some(5), first, 7, 2, b"payload");
        assert!(read(&buf, None, first).is_some(), "it is to be read to know the owner");
        assert_eq!(FIRST_FRAME_OFFSET, crate::storage::log::segment::FILE_HEADER_BYTES as u64);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_is_read() {
        let good = one();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad, None, AT), None, "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(read(&good[..len], None, AT), None, "cut to {len}");
        }
        assert_eq!(read(&[0; 64], None, AT), None);
    }

    #[test]
    fn a_later_batch_is_found_behind_garbage() {
        let mut buf = vec![0xA7; 64];
        push(&mut buf, None, AT, 7, 2, b"same");
        let later = buf.len() + 3;
        buf.extend_from_slice(&[1, 2, 3]);
        push(&mut buf, None, FrameLocation { segment: 3, offset: later as u64 }, 8, 2, b"later");
        assert_eq!(find_later(&buf, None, 3, 0, 7), Some(later));
        assert_eq!(find_later(&buf, None, 3, 0, 8), None);
        assert_eq!(find_later(&buf, None, 4, 0, 7), None);
    }

    #[test]
    fn the_bytes_of_a_frame_are_these() {
        assert_eq!(one()[4..], *b"\x07\0\0\0\x07\0\0\0\0\0\0\0\x02\0\xA7\x5Cpayload");
    }
}
