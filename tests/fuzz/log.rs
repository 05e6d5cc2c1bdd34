//! Segment files: frames whose checksums are right with anything in them, and then what a disk may do to them.

use bolero::{TypeGenerator, check};

use super::super::frame::{self, FRAME_HEADER_BYTES, FrameLocation};
use super::super::record::{self, Head, kind};
use super::super::recovery::{Tail, recover};
use super::super::{Ending, FORMAT_VERSION, LogView, segment};
use super::*;
use crate::fuzz::{SOME, bounded};

#[derive(Debug, Clone, TypeGenerator)]
enum Write {
    Vote {
        term: u8,
    },
    /// `skip` entries after the one before.
    Entry {
        term: u8,
        skip: i8,
        bytes: u8,
    },
    Committed {
        index: u8,
    },
    Truncate {
        after: Option<u8>,
    },
    Purge {
        upto: u8,
    },
    Head {
        at: u8,
    },
    Huge {
        index: u64,
        kind: u8,
    },
    Other {
        kind: u8,
        payload: Vec<u8>,
    },
}

#[derive(Debug, Clone, TypeGenerator)]
enum Step {
    /// A frame; `batch` says how its number goes on.
    Frame {
        write: Write,
        batch: i8,
        ends: bool,
    },
    /// A frame that begins the next segment, as the writer does it; `forgets`: it does not.
    Next {
        forgets: bool,
    },
    Stopped,
    /// A flipped bit, somewhere in a segment.
    Flip {
        segment: u8,
        at: u16,
        bit: u8,
    },
    Cut {
        segment: u8,
        at: u16,
    },
    Zeros {
        segment: u8,
        at: u16,
        bytes: u8,
    },
    Garbage {
        segment: u8,
        bytes: Vec<u8>,
    },
    Missing {
        segment: u8,
    },
}

/// Files being written, and the entries in them.
struct Files {
    segments: Vec<Vec<u8>>,
    head: Head,
    batch: u64,
    written: Vec<Vec<u8>>,
}

impl Files {
    fn new() -> Self {
        let mut files = Self { segments: Vec::new(), head: Head::default(), batch: 1, written: Vec::new() };
        files.begin();
        files
    }

    fn begin(&mut self) {
        self.segments.push(segment::header(self.segments.len() as u64 + 1, FORMAT_VERSION).to_vec());
        let head = record::encode(Vec::new(), &self.head);
        self.push(kind::HEAD, &head, true);
    }

    fn push(&mut self, kind: u8, payload: &[u8], ends: bool) {
        let segment = self.segments.len() as u64;
        let bytes = self.segments.last_mut().expect("there is one from the start");
        let at = bytes.len();
        let place = FrameLocation { segment, offset: at as u64 };
        frame::push(bytes, None, place, self.batch, kind, payload);
        if ends {
            frame::end_batch(&mut bytes[at..], None, place);
            self.batch = self.batch.wrapping_add(1);
        }
        if kind == record::kind::ENTRY {
            self.written.push(payload.to_vec());
        }
    }

    fn write(&mut self, write: &Write, ends: bool) {
        let short = |index: u8| id(1, index.into());
        let (kind, payload) = match write {
            Write::Vote { term } => {
                self.head.vote = Some(vote((*term).into()));
                (kind::VOTE, record::encode(Vec::new(), &self.head.vote.expect("just set")))
            }
            Write::Entry { term, skip, bytes } => {
                let next = self.head.last.map_or(0, |last| last.index.wrapping_add(1));
                let entry = entry((*term).into(), next.wrapping_add_signed((*skip / 64).into()), (*bytes).into());
                self.head.last = Some(entry.log_id);
                (kind::ENTRY, record::encode(Vec::new(), &entry))
            }
            Write::Committed { index } => {
                self.head.committed = Some(short(*index));
                (kind::COMMITTED, record::encode(Vec::new(), &self.head.committed))
            }
            Write::Truncate { after } => {
                let after = after.map(short);
                self.head.truncate(after);
                (kind::TRUNCATE, record::encode(Vec::new(), &after))
            }
            Write::Purge { upto } => {
                self.head.purge(short(*upto));
                (kind::PURGE, record::encode(Vec::new(), &short(*upto)))
            }
            Write::Head { at } => {
                (kind::HEAD, record::encode(Vec::new(), &Head { last: Some(short(*at)), ..Head::default() }))
            }
            Write::Huge { index, kind: which } => {
                let id = id(1, *index);
                match which % 4 {
                    0 => (kind::PURGE, record::encode(Vec::new(), &id)),
                    1 => (kind::TRUNCATE, record::encode(Vec::new(), &Some(id))),
                    2 => (kind::COMMITTED, record::encode(Vec::new(), &Some(id))),
                    _ => (kind::ENTRY, record::encode(Vec::new(), &entry(1, *index, 3))),
                }
            }
            Write::Other { kind, payload } => (*kind, payload.clone()),
        };
        self.push(kind, &payload, ends);
    }

    fn of(&mut self, segment: u8) -> &mut Vec<u8> {
        let count = self.segments.len();
        &mut self.segments[usize::from(segment) % count]
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Frame { write, batch, ends } => {
                self.batch = self.batch.wrapping_add_signed((*batch / 32).into());
                self.write(write, *ends);
            }
            Step::Next { forgets } => {
                if !forgets {
                    self.push(kind::NEXT, &[], true);
                }
                self.begin();
            }
            Step::Stopped => self.push(kind::STOPPED, &[], true),
            Step::Flip { segment, at, bit } => {
                let bytes = self.of(*segment);
                let at = usize::from(*at) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Step::Cut { segment, at } => self.of(*segment).truncate((*at).into()),
            Step::Zeros { segment, at, bytes } => {
                let file = self.of(*segment);
                let from = usize::from(*at).min(file.len());
                let end = (from + usize::from(*bytes)).min(file.len());
                file[from..end].fill(0);
            }
            Step::Garbage { segment, bytes } => self.of(*segment).extend_from_slice(bytes),
            Step::Missing { segment } => self.of(*segment).clear(),
        }
    }

    fn disk(&self) -> MemDisk {
        let disk = MemDisk::new();
        for (bytes, id) in self.segments.iter().zip(1..) {
            disk.put(&segment::name(id), bytes.clone());
        }
        disk
    }
}

/// What a node would start on; `Err`: it is told that it cannot.
fn start(disk: &MemDisk) -> Result<(State, Tail), StorageError> {
    let (memory, tail) = recover(disk, &small())?;
    drop(memory);
    let view = LogView::read(disk, None);
    assert!(view.damage.is_none(), "it was opened: {:?}", view.damage);
    assert!(!matches!(view.ending, Ending::Torn { .. }), "what was torn is cut off");
    let mut entries = Vec::new();
    let took = view.for_each(0, |entry| {
        entries.push(entry);
        Ok::<_, io::Error>(())
    });
    took.expect("what was replayed can be read back");
    let state =
        State { vote: view.vote(), committed: view.committed(), purged: view.purged(), last: view.last(), entries };
    Ok((state, tail))
}

fn check_log(files: &Files) {
    let disk = files.disk();
    let bytes: usize = files.segments.iter().map(Vec::len).sum();
    let before = LogView::read(&disk, None);
    match bounded(bytes, 100, 1 << 18, || start(&disk)) {
        Ok((state, _)) => {
            assert!(before.damage.is_none(), "only a cut was made: {:?}", before.damage);
            assert_eq!((before.vote(), before.purged(), before.last()), (state.vote, state.purged, state.last));
            let mut next = state.purged.map(|purged| purged.index + 1);
            for entry in &state.entries {
                assert!(next.is_none_or(|next| next == entry.log_id.index), "a hole before {}", entry.log_id);
                next = Some(entry.log_id.index + 1);
                let payload = record::encode(Vec::new(), entry);
                assert!(files.written.contains(&payload), "nobody wrote {entry:?}");
            }
            if let Some(last) = state.entries.last() {
                assert_eq!(state.last, Some(last.log_id));
            }
            // What was cut off once is gone for good.
            let (again, _) = start(&disk).expect("it was opened before");
            assert_eq!(again, state);
        }
        Err(StorageError::Damaged { .. } | StorageError::Version { .. }) => assert!(before.damage.is_some()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn segments_are_a_log_or_damaged() {
    check!(name = "log").with_type::<Vec<Step>>().with_iterations(SOME).for_each(|steps: &Vec<Step>| {
        let mut files = Files::new();
        steps.iter().take(64).for_each(|step| files.step(step));
        check_log(&files);
    });
}

#[test]
fn a_frame_is_read_whole_or_not_at_all() {
    check!(name = "frames").with_iterations(SOME).for_each(|input: &[u8]| {
        let place = FrameLocation { segment: 1, offset: 24 };
        let mut good = Vec::new();
        frame::push(&mut good, None, place, 3, kind::ENTRY, input);
        assert_eq!(frame::read(&good, None, place).map(|frame| frame.payload), Some(input));
        if let Some(frame) = frame::read(input, None, place) {
            assert!(frame.bytes() <= input.len() && frame.bytes() >= FRAME_HEADER_BYTES);
        }
        // A search at every offset ends, and finds only what is a frame there.
        if let Some(at) = frame::find_later(input, None, 1, 0, 0) {
            assert!(frame::read(&input[at..], None, FrameLocation { segment: 1, offset: at as u64 }).is_some());
        }
        for kind in 0..12 {
            bounded(input.len(), 300, 4 << 20, || drop(record::LogRecord::decode(kind, input)));
        }
    });
}
