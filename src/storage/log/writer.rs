//! The writer: the one place that changes segment files of an open log.
//!
//! It drains all that waits, writes it with one call for each segment it touches, flushes once, and
//! only then tells everyone (group commit). Where a batch crosses into a new segment, that file's
//! name is durable before the old segment says that there is a next one, and the old segment is
//! flushed before the new one is written; so recovery can tell a missing file from a torn write.
//!
//! A failed write or flush is final: what is on the disk is then unknown, so nothing is retried.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::formats::{Format, OLDEST};
use crate::raft_types::alias::LogId;
use crate::storage::StorageError;
use crate::storage::disk::Disk;
use crate::task::Moment;

use super::LogOptions;
use super::frame::{self, FRAME_HEADER_BYTES, FrameLocation, Owner};
use super::queue::{Op, Shared, Stop, Waiter};
use super::record::{Head, encode, kind};
use super::recovery::Tail;
use super::segment::{self, FILE_HEADER_BYTES, Segment};
use super::spare::Spare;

/// The largest buffer that is kept between batches.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

/// The end of the log on disk.
pub struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    /// The owner that new segments name.
    owner: Owner,
    /// The format version of the current segment, and of new ones.
    version: u32,
    spare: Option<Arc<Spare>>,
    /// Older segments, oldest first.
    old: VecDeque<Segment>,
    current: Segment,
    /// Bytes the current segment may take.
    capacity: u64,
    /// The state of the log at the end of the buffer.
    head: Head,
    /// The number of the batch being built.
    batch: u64,
    /// The bytes to be written at `at` of the current segment.
    buf: Vec<u8>,
    at: u64,
    /// The start of the last frame in the buffer.
    last_frame: Option<usize>,
    /// The locations of this batch's entries.
    places: Vec<(LogId, FrameLocation)>,
    scratch: Vec<u8>,
}

impl Writer {
    /// Takes over behind what recovery found, and makes that durable: from here on a bad frame
    /// before the log's end is damage.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn open(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        options: &LogOptions,
        spare: Option<Arc<Spare>>,
        tail: Tail,
    ) -> Result<Self, StorageError> {
        let mut old = VecDeque::from(tail.segments);
        let mut current = match old.pop_back() {
            Some(current) => current,
            None => segment::create(&*disk, 1, None)?,
        };
        let owner = options.owner.or(tail.owner);
        if tail.end == 0 {
            current.owner = owner;
        }
        let head = shared.update(|memory| {
            memory.files.insert(current.id, (current.file.clone(), current.owner));
            memory.head.clone()
        });
        let mut writer = Self {
            shared,
            disk,
            segment_bytes: options.segment_bytes,
            owner,
            version: tail.version.max(OLDEST.log()),
            spare,
            old,
            current,
            capacity: options.segment_bytes,
            head,
            batch: tail.batch,
            buf: Vec::new(),
            at: tail.end,
            last_frame: None,
            places: Vec::new(),
            scratch: Vec::new(),
        };
        if tail.end == 0 {
            // One flush each: a batch that may follow an incomplete one has a single frame, so
            // that a torn one leaves nothing valid behind it.
            writer.buf.extend_from_slice(&segment::header(writer.current.id, writer.version));
            writer.write()?;
            writer.sync()?;
            writer.place_head();
            writer.flush()?;
        }
        writer.place(kind::OPENED, &[])?;
        writer.flush()?;
        if tail.version < OLDEST.log() && tail.end > 0 {
            // An older hraftd, started on this log again, must meet the version before it meets what it cannot read.
            writer.roll(0)?;
            writer.flush()?;
        }
        writer.reclaim();
        Ok(writer)
    }

    /// Works until it is told to stop, or until an operation fails.
    pub fn run(mut self) {
        let _told = TellOfPanic(self.shared.clone());
        let mut room = Vec::new();
        loop {
            match self.shared.take(room) {
                Ok(taken) => match self.process(taken) {
                    Some(emptied) => room = emptied,
                    None => return,
                },
                Err(how) => return self.stop(how),
            }
        }
    }

    /// Leaves the mark of a clean stop where this is one. The queue is empty.
    pub fn stop(&mut self, how: Stop) {
        // A read that failed is no clean stop.
        if how == Stop::Clean && self.shared.check().is_ok() {
            let marked = self.place(kind::STOPPED, &[]).and_then(|_| self.flush());
            if let Err(error) = marked {
                self.fail(&error, Vec::new());
            }
        }
    }

    /// Writes what was taken and tells who waits; gives the emptied list back, nothing where it failed.
    fn process(&mut self, mut taken: Vec<(Op, Waiter)>) -> Option<Vec<(Op, Waiter)>> {
        if let Err(error) = self.write_batch(&taken) {
            self.fail(&error, taken);
            return None;
        }
        for (_, waiter) in taken.drain(..) {
            waiter.complete(Ok(()));
        }
        self.reclaim();
        Some(taken)
    }

    /// Writes all that waits, without a thread of its own.
    pub fn step(&mut self) {
        while let Some(taken) = self.shared.try_take() {
            if self.process(taken).is_none() {
                return;
            }
        }
    }

    fn fail(&self, error: &StorageError, taken: Vec<(Op, Waiter)>) {
        let kind = match error {
            StorageError::Io { source, .. } => source.kind(),
            _ => std::io::ErrorKind::Other,
        };
        tracing::error!(%error, "the Raft log cannot be written; this node must stop");
        self.shared.fail(kind, format!("cannot write the Raft log: {error}"), taken);
    }

    fn write_batch(&mut self, taken: &[(Op, Waiter)]) -> Result<(), StorageError> {
        for (op, _) in taken {
            self.place_op(op)?;
        }
        self.flush()?;
        if let (Some((first, _)), Some((last, _))) = (self.places.first(), self.places.last()) {
            self.shared.numbers.entries.observe(self.places.len() as u64);
            if let Some(watch) = self.shared.watch.get() {
                watch.flushed(first.index, last.index);
            }
        }
        let places = std::mem::take(&mut self.places);
        self.shared.update(|memory| {
            for (id, place) in &places {
                memory.written(*id, *place);
            }
            memory.evict();
        });
        self.places = places;
        self.places.clear();
        Ok(())
    }

    fn place_op(&mut self, op: &Op) -> Result<(), StorageError> {
        match op {
            Op::Append { encoded, entries, format } => {
                self.make_way(*format)?;
                let mut rest = &encoded[..];
                for (id, length) in entries {
                    let (payload, after) = rest.split_at(*length);
                    rest = after;
                    let place = self.place(kind::ENTRY, payload)?;
                    self.places.push((*id, place));
                    self.current.highest = self.current.highest.max(Some(id.index));
                    self.head.last = Some(*id);
                }
            }
            Op::Vote(vote) => {
                self.place_value(kind::VOTE, vote)?;
                self.head.vote = Some(*vote);
            }
            Op::Committed(committed) => {
                self.place_value(kind::COMMITTED, committed)?;
                self.head.committed = *committed;
            }
            Op::Truncate(after) => {
                self.place_value(kind::TRUNCATE, after)?;
                self.head.truncate(*after);
            }
            Op::Purge(upto) => {
                self.place_value(kind::PURGE, upto)?;
                self.head.purge(*upto);
            }
        }
        Ok(())
    }

    /// Begins a segment of a newer version where entries of this format need one: an older hraftd, started on this log again,
    /// must meet the version before it meets what it cannot read.
    fn make_way(&mut self, format: Format) -> Result<(), StorageError> {
        if format.log() <= self.version {
            return Ok(());
        }
        self.version = format.log();
        self.roll(0)
    }

    fn place_value(&mut self, kind: u8, value: &impl serde::Serialize) -> Result<FrameLocation, StorageError> {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        payload = encode(payload, value);
        let placed = self.place(kind, &payload);
        self.scratch = payload;
        placed
    }

    fn encoded_head(&self, owner: Owner) -> (u8, Vec<u8>) {
        match owner {
            Some(owner) => (kind::OWNED_HEAD, encode(Vec::new(), &(owner, &self.head))),
            None => (kind::HEAD, encode(Vec::new(), &self.head)),
        }
    }

    fn place_head(&mut self) {
        let (kind, payload) = self.encoded_head(self.current.owner);
        self.push(kind, &payload);
    }

    fn end(&self) -> u64 {
        self.at + self.buf.len() as u64
    }

    fn push(&mut self, kind: u8, payload: &[u8]) -> FrameLocation {
        let place = FrameLocation { segment: self.current.id, offset: self.end() };
        self.last_frame = Some(self.buf.len());
        frame::push(&mut self.buf, self.current.owner, place, self.batch, kind, payload);
        place
    }

    /// Puts a record at the log's end, in a new segment where this one is full.
    fn place(&mut self, kind: u8, payload: &[u8]) -> Result<FrameLocation, StorageError> {
        // Every segment keeps room to say that there is a next one.
        let need = (FRAME_HEADER_BYTES + payload.len() + FRAME_HEADER_BYTES) as u64;
        if self.end() + need > self.capacity {
            self.roll(need)?;
        }
        Ok(self.push(kind, payload))
    }

    fn roll(&mut self, need: u64) -> Result<(), StorageError> {
        let (_, head) = self.encoded_head(self.owner);
        let least = (FILE_HEADER_BYTES + FRAME_HEADER_BYTES + head.len()) as u64 + need;
        // A record larger than a segment gets a larger segment, which no spare fits.
        let spare = self.spare.as_deref().filter(|_| least <= self.segment_bytes);
        let mut next = segment::create(&*self.disk, self.current.id + 1, spare)?;
        next.owner = self.owner;
        self.shared.update(|memory| memory.files.insert(next.id, (next.file.clone(), next.owner)));
        self.push(kind::NEXT, &[]);
        self.write()?;
        self.sync()?;
        self.old.push_back(std::mem::replace(&mut self.current, next));
        self.capacity = self.segment_bytes.max(least);
        self.at = 0;
        self.buf.extend_from_slice(&segment::header(self.current.id, self.version));
        self.place_head();
        Ok(())
    }

    /// Ends the batch and makes it durable; does nothing where it is empty.
    fn flush(&mut self) -> Result<(), StorageError> {
        let Some(start) = self.last_frame else { return Ok(()) };
        let place = FrameLocation { segment: self.current.id, offset: self.at + start as u64 };
        frame::end_batch(&mut self.buf[start..], self.current.owner, place);
        self.write()?;
        self.sync()?;
        self.batch += 1;
        Ok(())
    }

    fn write(&mut self) -> Result<(), StorageError> {
        self.current.file.write_all_at(&self.buf, self.at).map_err(|error| self.io(self.current.id, error))?;
        self.shared.numbers.written.add(self.buf.len() as u64);
        self.at += self.buf.len() as u64;
        self.last_frame = None;
        self.buf.clear();
        if self.buf.capacity() > KEPT_BUFFER_BYTES {
            self.buf = Vec::new();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let began = Moment::now();
        *self.shared.flushing.lock() = Some((self.current.id, began));
        let synced = self.current.file.sync_data().map_err(|error| self.io(self.current.id, error));
        *self.shared.flushing.lock() = None;
        let took = began.elapsed();
        self.shared.numbers.flush.took(took);
        self.shared.numbers.recent.took(took);
        synced
    }

    fn io(&self, segment: u64, error: std::io::Error) -> StorageError {
        StorageError::io(self.disk.display(&segment::name(segment)), error)
    }

    /// Removes segments that hold nothing after the purge point, which has been flushed, oldest
    /// first and one at a time: a hole in their sequence would be damage. A failure only warns:
    /// the log itself is whole, and the next batch tries again.
    fn reclaim(&mut self) {
        let purged = self.head.purged.map(|id| id.index);
        while let Some(oldest) = self.old.front()
            && oldest.highest <= purged
        {
            let name = segment::name(oldest.id);
            if let Err(error) = self.disk.remove(&name).and_then(|()| self.disk.sync_dir())
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(file = self.disk.display(&name), %error, "cannot remove a log segment that was purged");
                return;
            }
            self.shared.update(|memory| memory.files.remove(&oldest.id));
            self.old.pop_front();
        }
    }
}

/// Fails the log where the writer panics, so that nobody waits for ever.
struct TellOfPanic(Arc<Shared>);

impl Drop for TellOfPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(std::io::ErrorKind::Other, "the Raft log's writer panicked".to_owned(), Vec::new());
        }
    }
}
