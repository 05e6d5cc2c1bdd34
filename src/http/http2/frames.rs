//! What a client's frames amount to, seen beside the library that reads them.
//!
//! HTTP/2 has frames that cost their sender next to nothing and that mean little: pings, settings, priorities, windows, resets,
//! unknown types, empty data. A client that sends more of them than its requests can be a reason for is [too
//! busy](Frames::is_too_busy). The library bounds what it keeps of them; this bounds the work.
//!
//! It also tells who stays amid a head: the library holds such a client's other frames up for as long.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::http::LongHeads;
use crate::http::long_heads::HeadRoom;
use crate::http::preface::PREFACE;

/// So many small frames, and so many resets, are anybody's between two looks.
const FREE: u64 = 4_096;

/// For each request so many more small frames: windows, mostly.
const FOR_A_REQUEST: u64 = 4;

/// One more for so many bytes that were sent: windows of stream and connection are opened by them.
const SENT_FOR_ONE: u64 = 1 << 10;

/// A head that goes on in another frame may take so much already: its fields can be one byte each on their way.
const CONTINUED_BYTES: usize = 256 << 10;

const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What is known of the frames of a connection; shared by its socket, which sees them, and its task.
#[derive(Debug, Default)]
pub(super) struct Frames {
    too_busy: AtomicBool,
    /// Odd while the client is amid the preface or a head; each has a number of its own.
    head: AtomicU64,
    /// Counts reads that brought something.
    reads: AtomicU64,
    /// Counts looks.
    looks: AtomicU32,
}

impl Frames {
    /// The client sends more small frames than it has a reason for.
    pub(super) fn is_too_busy(&self) -> bool {
        self.too_busy.load(Relaxed)
    }

    /// The number of the head that the client is amid.
    pub(super) fn amid(&self) -> Option<u64> {
        Some(self.head.load(Relaxed)).filter(|number| number % 2 == 1)
    }

    /// Changes when something comes.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    /// Small frames are counted anew from now on.
    pub(super) fn look(&self) {
        self.looks.store(self.looks.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// Reads along.
#[derive(Debug)]
pub(super) struct FrameReader {
    preface_left: usize,
    head: [u8; HEAD_BYTES],
    /// Bytes of it that are there.
    filled: usize,
    payload_left: usize,
    /// A head goes on in the next frame.
    continued: bool,
    /// The room for such a head, which the library has taken apart as far as it came.
    room: HeadRoom,
    /// The frame whose payload comes is of a head.
    is_head: bool,
    /// Since the last look.
    look: u32,
    small: u64,
    resets: u64,
    requests: u64,
    sent: u64,
    /// What [`Frames::head`] says.
    number: u64,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self {
            preface_left: PREFACE.len(),
            head: [0; HEAD_BYTES],
            filled: 0,
            payload_left: 0,
            continued: false,
            room: HeadRoom::default(),
            is_head: false,
            look: 0,
            small: 0,
            resets: 0,
            requests: 0,
            sent: 0,
            number: 0,
        }
    }
}

impl FrameReader {
    /// So many bytes went to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// These bytes came.
    pub(super) fn see(&mut self, mut bytes: &[u8], frames: &Frames, heads: &LongHeads) {
        if bytes.is_empty() {
            return;
        }
        frames.reads.store(frames.reads.load(Relaxed).wrapping_add(1), Relaxed);
        let look = frames.looks.load(Relaxed);
        if look != self.look {
            (self.look, self.small, self.resets, self.requests, self.sent) = (look, 0, 0, 0, 0);
        }
        while !bytes.is_empty() {
            let left = if self.preface_left > 0 { &mut self.preface_left } else { &mut self.payload_left };
            if *left > 0 {
                let here = bytes.len().min(*left);
                *left -= here;
                bytes = &bytes[here..];
                continue;
            }
            let here = bytes.len().min(HEAD_BYTES - self.filled);
            self.head[self.filled..self.filled + here].copy_from_slice(&bytes[..here]);
            (self.filled, bytes) = (self.filled + here, &bytes[here..]);
            if self.filled == HEAD_BYTES {
                self.begin();
            }
        }
        // One that is whole is behind us, though another may have begun.
        let amid_frame_head = self.filled > 0;
        let amid =
            self.preface_left > 0 || amid_frame_head || self.continued || (self.is_head && self.payload_left > 0);
        if amid && self.number.is_multiple_of(2) {
            self.number += 1;
        } else if !amid {
            self.number = self.number.next_multiple_of(2);
        }
        frames.head.store(self.number, Relaxed);
        if !self.continued {
            self.room = HeadRoom::default();
        } else if !self.room.grow(heads, CONTINUED_BYTES) {
            frames.too_busy.store(true, Relaxed);
        }
        let most = FREE + FOR_A_REQUEST * self.requests + self.sent / SENT_FOR_ONE;
        if self.small > most || self.resets > FREE {
            frames.too_busy.store(true, Relaxed);
        }
    }

    /// A frame begins.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.filled = 0;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let was_continued = std::mem::take(&mut self.continued);
        self.is_head = matches!(kind, HEADERS | CONTINUATION);
        if self.is_head {
            self.continued = flags & END_HEADERS == 0;
            if !was_continued {
                // Another head: its time begins.
                self.number = self.number.next_multiple_of(2);
            }
        }
        match kind {
            HEADERS => self.requests += 1,
            RST_STREAM => self.resets += 1,
            DATA if self.payload_left > 0 || flags & END_STREAM != 0 => {}
            _ => self.small += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [.., a, b, c] = payload.len().to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    const WINDOW_UPDATE: u8 = 8;

    #[test]
    fn who_is_amid_a_head() {
        let (mut reader, frames) = (FrameReader::default(), Frames::default());
        reader.see(&PREFACE[..9], &frames, &LongHeads::default());
        let preface = frames.amid().unwrap();
        reader.see(&PREFACE[9..20], &frames, &LongHeads::default());
        assert_eq!(frames.amid(), Some(preface), "more of it buys no time");
        reader.see(&PREFACE[20..], &frames, &LongHeads::default());
        assert_eq!(frames.amid(), None);
        let head = frame(HEADERS, 0, b"abc");
        let mut all = Vec::new();
        for byte in head.iter().chain(&frame(CONTINUATION, 0, b"")).chain(&frame(CONTINUATION, END_HEADERS, b"de")) {
            reader.see(&[*byte], &frames, &LongHeads::default());
            all.push(frames.amid());
        }
        assert_eq!(all.pop(), Some(None), "it is whole");
        assert!(all.iter().all(|amid| amid.is_some()), "{all:?}");
        assert_eq!(all.last(), all.get(9), "all of it is one head");
        // One after the other at once: the last is another.
        let one = frame(HEADERS, END_HEADERS, b"abc");
        reader.see(&one[..11], &frames, &LongHeads::default());
        let first = frames.amid().unwrap();
        reader.see(&[&one[11..], &one[..10]].concat(), &frames, &LongHeads::default());
        assert!(frames.amid().unwrap() > first);
        reader.see(&one[10..], &frames, &LongHeads::default());
        // Data may take its time.
        reader.see(&frame(DATA, 0, b"abc")[..10], &frames, &LongHeads::default());
        assert_eq!(frames.amid(), None);
    }

    #[test]
    fn small_frames_have_a_reason() {
        let small = frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]);
        let flood = |prepare: &dyn Fn(&mut FrameReader, &Frames), one: &[u8]| {
            let (mut reader, frames) = (FrameReader::default(), Frames::default());
            reader.see(PREFACE, &frames, &LongHeads::default());
            prepare(&mut reader, &frames);
            (1..100_000_u64).find(|_| {
                reader.see(one, &frames, &LongHeads::default());
                frames.is_too_busy()
            })
        };
        let request = frame(HEADERS, END_HEADERS, b"x");
        let requests = |reader: &mut FrameReader, frames: &Frames| {
            (0..1_000).for_each(|_| reader.see(&request, frames, &LongHeads::default()))
        };
        assert_eq!(flood(&|_, _| {}, &small), Some(FREE + 1));
        assert_eq!(flood(&requests, &small), Some(FREE + 4_000 + 1));
        assert_eq!(flood(&|reader, _| reader.sent(10 << 20), &small), Some(FREE + 10_240 + 1));
        assert_eq!(
            flood(&requests, &frame(RST_STREAM, 0, &[0; 4])),
            Some(FREE + 1),
            "no request is a reason for a reset"
        );
        for kind in (2..=20).filter(|kind| *kind != RST_STREAM) {
            assert_eq!(flood(&|_, _| {}, &frame(kind, END_HEADERS, b"")), Some(FREE + 1), "{kind}");
        }
        assert_eq!(flood(&|_, _| {}, &frame(DATA, 0, b"")), Some(FREE + 1));
        assert_eq!(flood(&|_, _| {}, &frame(DATA, END_STREAM, b"")), None);
        assert_eq!(flood(&|_, _| {}, &[&request[..], &small].concat()), None, "one a request");
        let (mut reader, frames) = (FrameReader::default(), Frames::default());
        reader.see(PREFACE, &frames, &LongHeads::default());
        for _ in 0..100 {
            (0..FREE).for_each(|_| reader.see(&small, &frames, &LongHeads::default()));
            frames.look();
        }
        assert!(!frames.is_too_busy(), "so many are free each time");
    }
}
