//! Recovery: reads every segment when the log is opened, and tells a torn write from damage.
//!
//! A flush writes a *batch* of frames; the next batch starts only after it returned. A bad frame
//! after the complete batch `k` belongs to batch `k + 1`, otherwise to the batch it stands in. Any
//! valid frame of a later batch proves that the bad one had been flushed: then it is damage, and
//! the log is not opened. Otherwise it was being written when the power went, was never
//! acknowledged, and is cut off. Valid frames before the cut stay: they were written in order.
//!
//! After a clean stop nothing but zeros may follow its mark, but for what the next start writes first, which has a known
//! place and known bytes: torn, each of them is as it was to be or still zero. Whatever is behind that is damage.
//!
//! A bad disk may also leave good frames that it never wrote: see `repair` for what a start does about those.
//!
//! Caveats: a flip inside the very last batch of a log that was not stopped cleanly looks like a
//! torn write. A batch that follows an incomplete one has one frame only (the writer sees to it);
//! the rule above needs that.

use crate::storage::StorageError;
use crate::storage::disk::Disk;

use super::LogOptions;
use super::files::{open_segments, read_file};
use super::frame::{self, Frame, FrameLocation, Owner};
use super::memory::{Cold, Memory};
use super::record::{Head, LogRecord, index, kind};
use super::repair::{cut, flush};
use super::segment::{self, FILE_HEADER_BYTES, Segment};
use super::spare;
use crate::formats::OLDEST;

/// The end of the recovered log: the writer goes on there.
#[derive(Debug, Default)]
pub struct Tail {
    /// All segments, oldest first; none in a new log.
    pub segments: Vec<Segment>,
    /// The end of the last one; 0 where not even its header is there.
    pub end: u64,
    /// A batch number beyond any that was seen.
    pub batch: u64,
    /// The format version of the last segment: only records of that version may come into it.
    pub version: u32,
    /// The node whose log it says it is.
    pub owner: Owner,
}

/// Reads the log, and cuts off a torn write.
///
/// # Errors
/// [`StorageError::Damaged`], [`StorageError::Version`], [`StorageError::Io`]. [`StorageError::Foreign`]: it is the log of
/// another node than the options say.
pub fn recover(disk: &dyn Disk, options: &LogOptions) -> Result<(Memory, Tail), StorageError> {
    remove_spare(disk)?;
    let mut scan = Scan::new(disk, options.cache_bytes, options.owner);
    let read = scan.read();
    // Of a log of another node nothing else is to be said.
    if let (Some(expected), Some(found), Some(first)) = (options.owner, scan.owner, scan.kept.first())
        && expected != found
    {
        return Err(StorageError::Foreign { file: disk.display(&segment::name(first.id)), found, expected });
    }
    read?;
    cut(&scan)?;
    flush(&scan)?;
    let Scan { memory, kept: segments, end, batch, version, owner, .. } = scan;
    Ok((memory, Tail { segments, end, batch: first_batch(batch), version, owner }))
}

/// The batch that a start begins with, where `used` is the highest number that can have been used.
fn first_batch(used: u64) -> u64 {
    used + 1
}

pub(super) fn damaged(disk: &dyn Disk, segment: u64, offset: u64, what: String) -> StorageError {
    StorageError::Damaged { file: disk.display(&segment::name(segment)), offset, what }
}

fn remove_spare(disk: &dyn Disk) -> Result<(), StorageError> {
    let io = |error| StorageError::io(disk.display(spare::SPARE_NAME), error);
    if disk.list().map_err(io)?.iter().any(|name| name == spare::SPARE_NAME) {
        disk.remove(spare::SPARE_NAME).and_then(|()| disk.sync_dir()).map_err(io)?;
    }
    Ok(())
}

/// A log being read; nothing of it is changed. After an error it holds what came before the damage.
pub struct Scan<'a> {
    pub(super) disk: &'a dyn Disk,
    /// The log, as far as it was read.
    pub memory: Memory,
    /// The segments in use, oldest first.
    pub kept: Vec<Segment>,
    /// Segments that were being made when the log ended: a start removes them.
    pub(super) later: Vec<Segment>,
    /// The end of the last of `kept`, and what lies behind it.
    pub end: u64,
    pub(super) rest: Vec<u8>,
    /// The last batch seen; once all is read, the highest number that can have been used.
    batch: u64,
    /// The first frame of the last batch seen.
    pub(super) last_batch: Option<FrameLocation>,
    /// True once the last batch's last frame was seen.
    complete: bool,
    /// True if the last frame seen is the mark of a clean stop.
    pub stopped: bool,
    /// True once a segment's head was seen: before that, nothing is known.
    has_head: bool,
    /// Entries up to this index were there, in segments that are not.
    unknown: Option<u64>,
    /// The format version of the last segment.
    version: u32,
    /// The node whose log it says it is, and the one whose it should be.
    pub owner: Owner,
    expected_owner: Owner,
}

impl<'a> Scan<'a> {
    /// Nothing is read yet.
    pub fn new(disk: &'a dyn Disk, cache_bytes: usize, expected_owner: Owner) -> Self {
        Self {
            disk,
            memory: Memory::new(cache_bytes),
            kept: Vec::new(),
            later: Vec::new(),
            end: 0,
            rest: Vec::new(),
            batch: 0,
            last_batch: None,
            complete: true,
            stopped: false,
            has_head: false,
            unknown: None,
            version: OLDEST.log(),
            owner: None,
            expected_owner,
        }
    }

    /// Reads the log, once.
    ///
    /// # Errors
    /// As [`recover`].
    pub fn read(&mut self) -> Result<(), StorageError> {
        let mut segments = Vec::new();
        let opened = open_segments(self.disk, &mut segments);
        let read = self.segments(segments);
        opened.and(read)
    }

    /// True if a write was torn: a start cuts off what lies behind `end`.
    pub fn is_torn(&self) -> bool {
        self.rest.iter().any(|byte| *byte != 0)
    }

    fn segments(&mut self, segments: Vec<Segment>) -> Result<(), StorageError> {
        let mut rest = segments.into_iter();
        while let Some(mut segment) = rest.next() {
            let mut bytes = read_file(self.disk, &segment)?;
            let id = segment.id;
            let read = self.segment(&bytes, &mut segment);
            self.memory.files.insert(id, (segment.file.clone(), segment.owner));
            self.kept.push(segment);
            let (next, at) = read?;
            self.end = at;
            if !next {
                self.later = rest.by_ref().collect();
                self.batch = self.check_tail(&bytes, id)?;
                self.rest = bytes.split_off(usize::try_from(at).expect("an offset in a file that was read"));
            } else if rest.len() == 0 {
                let what = format!("{}, which follows, is missing", self.disk.display(&segment::name(id + 1)));
                return Err(damaged(self.disk, id, at, what));
            }
        }
        match (self.unknown, self.kept.first()) {
            (Some(unknown), Some(first)) if index(&self.memory.head.purged) < Some(unknown) => {
                let what = format!("entries up to {unknown} were in older segments, which are missing");
                Err(damaged(self.disk, first.id, 0, what))
            }
            _ => Ok(()),
        }
    }

    /// Replays a segment up to its end or its first bad frame: whether the log goes on in the
    /// next, and the offset reached.
    fn segment(&mut self, bytes: &[u8], segment: &mut Segment) -> Result<(bool, u64), StorageError> {
        let Some(version) = segment::version(bytes, segment.id) else { return Ok((false, 0)) };
        self.version = version;
        let mut at = FILE_HEADER_BYTES;
        loop {
            let place = FrameLocation { segment: segment.id, offset: at as u64 };
            let Some(frame) = bytes.get(at..).and_then(|bytes| frame::read(bytes, segment.owner, place)) else {
                // Without its head a segment is as good as empty.
                let at = if at == FILE_HEADER_BYTES { 0 } else { at };
                return Ok((false, at as u64));
            };
            let next = self
                .frame(&frame, place, segment)
                .map_err(|what| damaged(self.disk, place.segment, place.offset, what))?;
            at += frame.bytes();
            if next {
                return Ok((true, at as u64));
            }
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, place: FrameLocation, segment: &mut Segment) -> Result<bool, String> {
        if frame.batch < self.batch || (frame.batch == self.batch && self.complete) {
            return Err(format!("batch {} comes after batch {}", frame.batch, self.batch));
        }
        // The numbers after it must be there, too.
        if frame.batch > u64::MAX >> 1 {
            return Err(format!("batch {}, to which no log comes", frame.batch));
        }
        if frame.batch > self.batch {
            self.last_batch = Some(place);
        }
        (self.batch, self.complete) = (frame.batch, frame.ends_batch);
        let record = LogRecord::decode(frame.kind, frame.payload)?;
        self.stopped = matches!(record, LogRecord::Stopped);
        let is_first = place.offset == FILE_HEADER_BYTES as u64;
        if is_first != matches!(record, LogRecord::Head(_) | LogRecord::OwnedHead(..)) {
            return Err("a segment's head is not where it must be".to_owned());
        }
        if is_first {
            let owner = match record {
                LogRecord::OwnedHead(owner, _) => Some(owner),
                _ => None,
            };
            if self.owner.is_some() && owner != self.owner {
                return Err("this segment is of the log of another node than the one before".to_owned());
            }
            (self.owner, segment.owner) = (owner, owner);
        }
        match record {
            LogRecord::Head(head) | LogRecord::OwnedHead(_, head) if self.has_head => {
                if head != self.memory.head {
                    return Err(format!("{head:?} does not continue the log, {:?}", self.memory.head));
                }
            }
            LogRecord::Head(head) | LogRecord::OwnedHead(_, head) => {
                self.unknown = if head.has_no_entry() { None } else { index(&head.last) };
                self.memory.head = head;
                self.has_head = true;
            }
            LogRecord::Vote(vote) => self.memory.head.vote = Some(vote),
            LogRecord::Committed(committed) => self.memory.head.committed = committed,
            LogRecord::Truncate(after) => {
                self.unknown = self.unknown.min(index(&after));
                self.memory.truncate(after);
            }
            LogRecord::Purge(upto) => {
                let Head { purged, last, .. } = &self.memory.head;
                // Short of the end, the entry after it must be there, or have been there in a segment that is gone. Beyond
                // the end it may be anywhere: so it is after a snapshot was installed, which the rest of the log may have
                // been truncated for.
                if index(purged) < Some(upto.index)
                    && index(last) > Some(upto.index)
                    && self.unknown <= Some(upto.index)
                    && self.memory.index.get(upto.index + 1).is_none()
                {
                    return Err(format!("a purge up to {upto}, and no entry {} after it", upto.index + 1));
                }
                drop(self.memory.purge(upto));
            }
            LogRecord::Entry(entry) => {
                let id = entry.log_id;
                if !self.memory.head.accepts(id.index) {
                    return Err(format!("entry {id} does not follow {:?}", self.memory.head.last));
                }
                segment.highest = segment.highest.max(Some(id.index));
                let bytes = u32::try_from(frame.bytes()).map_err(|error| error.to_string())?;
                self.memory.push(entry, bytes, Some(place));
            }
            LogRecord::Next => return Ok(true),
            LogRecord::Opened | LogRecord::Stopped => {}
        }
        Ok(false)
    }

    /// True if nothing lies behind the mark of a clean stop, or only what a start that broke off wrote
    /// first: that the log was opened, or, in a full segment, that the next one follows.
    fn is_begun_start(&self, rest: &[u8], place: FrameLocation) -> Result<bool, StorageError> {
        let owner = self.kept.last().and_then(|segment| segment.owner);
        let may_be = |kind| {
            let mut frame = Vec::new();
            frame::push(&mut frame, owner, place, first_batch(self.batch + 1), kind, &[]);
            if kind == kind::OPENED {
                frame::end_batch(&mut frame, owner, place);
            }
            is_torn_write_of(&frame, rest)
        };
        match &self.later[..] {
            [] => Ok(may_be(kind::OPENED) || may_be(kind::NEXT)),
            [next] => Ok(may_be(kind::NEXT) && is_zero(&read_file(self.disk, next)?)),
            _ => Ok(false),
        }
    }

    /// Checks that at and behind the end of segment `id` there is a torn write or nothing. Gives the
    /// highest batch number that can have been used there.
    fn check_tail(&self, bytes: &[u8], id: u64) -> Result<u64, StorageError> {
        let at = self.end;
        let start = usize::try_from(at).expect("an offset in a file that was read");
        if !self.has_head && id != 1 {
            // Older segments go only once this one's head was flushed.
            return Err(damaged(self.disk, id, at, "the oldest segment has no head".to_owned()));
        }
        if self.stopped && !self.is_begun_start(&bytes[start..], FrameLocation { segment: id, offset: at })? {
            return Err(damaged(self.disk, id, at, "bytes after the mark of a clean stop".to_owned()));
        }
        let bad = if self.complete { self.batch + 1 } else { self.batch };
        let proof = |segment: u64, offset: usize| {
            let file = self.disk.display(&segment::name(segment));
            let what = format!("a broken record that had been flushed: {file} has a later one at offset {offset}");
            Err(damaged(self.disk, id, at, what))
        };
        // A segment whose first frame is broken, and one that was not read, do not say whose they are.
        let find = |bytes: &[u8], segment, from| {
            let owners = [None, self.owner.or(self.expected_owner)];
            let owners = if owners[1].is_some() { &owners[..] } else { &owners[..1] };
            owners.iter().find_map(|owner| frame::find_later(bytes, *owner, segment, from, bad))
        };
        if let Some(offset) = find(bytes, id, start) {
            return proof(id, offset);
        }
        for segment in &self.later {
            if let Some(offset) = find(&read_file(self.disk, segment)?, segment.id, 0) {
                return proof(segment.id, offset);
            }
        }
        Ok(bad)
    }
}

/// True if a write of `frame` over zeros may have left these bytes.
fn is_torn_write_of(frame: &[u8], bytes: &[u8]) -> bool {
    let (written, behind) = bytes.split_at(frame.len().min(bytes.len()));
    written.iter().zip(frame).all(|(found, meant)| *found == 0 || found == meant) && is_zero(behind)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Reads a frame back that was written and replayed or acknowledged before.
///
/// # Errors
/// `InvalidData`: the file does not hold it any more. `UnexpectedEof`: it ends before. Otherwise an I/O
/// error of the device.
pub fn read_back(cold: &Cold) -> std::io::Result<crate::raft_types::alias::LogEntry> {
    let mut buf = vec![0; cold.slot.bytes as usize];
    cold.file.read_exact_at(&mut buf, cold.place.offset)?;
    let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let frame = frame::read(&buf, cold.owner, cold.place);
    let frame = frame.ok_or_else(|| invalid("a record that was written is broken".to_owned()))?;
    match LogRecord::decode(frame.kind, frame.payload).map_err(invalid)? {
        LogRecord::Entry(entry) => Ok(entry),
        other => Err(invalid(format!("{other:?} where an entry was written"))),
    }
}
