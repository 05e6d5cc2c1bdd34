//! The log as openraft sees it.

use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::watch;

use crate::raft_types::TypeConfig;
use crate::raft_types::alias::{LogEntry, LogId, Vote};
use crate::storage::disk::Disk;
use crate::storage::{LogMark, StorageError};
use crate::task;

use super::memory::{Cold, Memory};
use super::queue::{LogNumbers, Op, Shared, Stop, Waiter};
use super::record::{Head, encode, index};
use super::recovery::{read_back, recover};
use super::segment;
use super::spare::Spare;
use super::watch::LogWatch;
use super::writer::Writer;
use super::{LogOptions, Scheduler};

/// Bytes of entries that are read at a time, for one replication request or one step of applying.
const READ_BYTES: u64 = 1 << 20;

/// Reads of more bytes than this from files leave the async threads.
const INLINE_READ_BYTES: u64 = 64 << 10;

/// The Raft log. Clones share it; the last one to go ends its threads.
#[derive(Clone)]
pub struct LogStore {
    pub(super) inner: Arc<Inner>,
    pub(super) reader: LogReader,
}

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    spare: Option<Arc<Spare>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    keeps_committed: bool,
    refused_truncation: Mutex<Option<String>>,
    /// The writer, where it has no thread.
    inline: Mutex<Option<Writer>>,
    scheduler: Option<Arc<dyn Scheduler>>,
    /// True while a write is handed over to the scheduler and has not begun.
    is_due: AtomicBool,
}

/// Reads the Raft log. Clones share it; it does not keep the writer alive.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
    pub(super) disk: Arc<dyn Disk>,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").field("disk", &self.reader.disk).finish_non_exhaustive()
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl LogStore {
    /// Opens the log in this directory, or starts one, and makes all it holds durable. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Damaged`], [`StorageError::Version`], [`StorageError::Foreign`], [`StorageError::Io`].
    pub fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Self, StorageError> {
        let (memory, tail) = recover(&*disk, &options)?;
        let shared = Shared::new(memory);
        let spare = options.prezero.then(|| Arc::new(Spare::default()));
        let writer = Writer::open(shared.clone(), disk.clone(), &options, spare.clone(), tail)?;
        let inner = Inner {
            shared: shared.clone(),
            spare: spare.clone(),
            threads: Mutex::default(),
            keeps_committed: options.keeps_committed,
            refused_truncation: Mutex::default(),
            inline: Mutex::default(),
            scheduler: options.scheduler.clone(),
            is_due: false.into(),
        };
        if options.scheduler.is_some() {
            *inner.inline.lock() = Some(writer);
        } else {
            inner.spawn("raft-log", move || writer.run())?;
        }
        if let Some(spare) = spare {
            let disk = disk.clone();
            inner.spawn("raft-log-zero", move || spare.run(&*disk, options.segment_bytes))?;
        }
        Ok(Self { inner: Arc::new(inner), reader: LogReader { shared, disk } })
    }

    /// True if this log has never held anything: no vote, no entry, no purge point.
    pub fn is_empty(&self) -> bool {
        let empty = |head: &Head| head.vote.is_none() && head.last.is_none() && head.purged.is_none();
        self.inner.shared.peek(|memory| empty(&memory.head))
    }

    /// The index of the last entry; without entries, of the purge point.
    pub fn last_log_index(&self) -> Option<u64> {
        self.inner.shared.peek(|memory| memory.head.last.map(|id| id.index))
    }

    /// The log id of the last entry; without entries, the purge point.
    pub fn last_log_id(&self) -> Option<LogId> {
        self.inner.shared.peek(|memory| memory.head.last)
    }

    /// The newest vote. It is known here from when it is queued: before anybody can have heard of it.
    pub fn vote(&self) -> Option<Vote> {
        self.inner.shared.peek(|memory| memory.head.vote)
    }

    /// Why a truncation was refused, once one was: it would have dropped what is committed.
    pub fn refused_truncation(&self) -> Option<String> {
        self.inner.refused_truncation.lock().clone()
    }

    /// The file that is being flushed, and for how long.
    pub fn flushing(&self) -> Option<(String, Duration)> {
        let (segment, since) = (*self.inner.shared.flushing.lock())?;
        Some((self.reader.disk.display(&segment::name(segment)), since.elapsed()))
    }

    /// Has all that happens to it told from now on. Only the first one who asks for that is told.
    pub fn watched_by(&self, watch: Arc<dyn LogWatch>) {
        let _first = self.inner.shared.watch.set(watch);
    }

    fn watch(&self) -> Option<&Arc<dyn LogWatch>> {
        self.inner.shared.watch.get()
    }

    /// What it has counted since it was opened.
    pub fn numbers(&self) -> &LogNumbers {
        &self.inner.shared.numbers
    }

    /// How far it is, for the identity beside it.
    pub fn mark(&self) -> LogMark {
        self.inner.shared.peek(|memory| LogMark {
            began: true,
            term: memory.head.vote.map_or(0, |vote| vote.leader_id.term),
            committed: memory.head.committed.map_or(0, |id| id.index),
        })
    }

    /// Bytes that the entries after the purge point take in the log.
    pub fn bytes(&self) -> u64 {
        self.inner.shared.peek(|memory| memory.index.bytes())
    }

    /// Becomes a message, which names the file and the system's error, once the log has failed. It then
    /// stays failed, and the node must stop.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.inner.shared.failed()
    }

    /// Flushes what is queued, leaves the mark of a clean stop, and ends the log's threads. Blocks.
    /// Operations after this fail; a second call does nothing.
    ///
    /// # Errors
    /// The log's failure, with its kind.
    pub fn close(&self) -> io::Result<()> {
        self.inner.stop(Stop::Clean);
        self.inner.shared.check()
    }
}

impl Inner {
    /// The one place where the log starts threads.
    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        let thread = thread.map_err(|error| StorageError::io(format!("thread {name}"), error))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Has the queue written, if the writer has no thread.
    fn step(self: &Arc<Self>) {
        let Some(scheduler) = &self.scheduler else { return };
        if self.is_due.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = Arc::downgrade(self);
        scheduler.run(Box::new(move || {
            let Some(inner) = inner.upgrade() else { return };
            inner.is_due.store(false, Ordering::Relaxed);
            inner.write_all();
        }));
    }

    fn write_all(&self) {
        if let Some(writer) = &mut *self.inline.lock() {
            writer.step();
        }
    }

    fn stop(&self, how: Stop) {
        self.write_all();
        self.shared.stop(how);
        if let Some(mut writer) = self.inline.lock().take() {
            writer.stop(how);
        }
        if let Some(spare) = &self.spare {
            spare.stop();
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A panic of the writer is a failure of the log, told where it matters.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    /// Ends the threads as a crash would: what is queued is still written, but not marked clean.
    fn drop(&mut self) {
        self.stop(Stop::Abandon);
    }
}

impl LogReader {
    /// Entries of a range: at least one where there is one, then up to `limit` bytes.
    async fn read(&self, start: u64, end: u64, limit: u64) -> io::Result<Vec<LogEntry>> {
        let fetched = self.shared.look(|memory| memory.fetch(start, end, limit))?;
        if fetched.cold.is_empty() {
            return Ok(fetched.hot);
        }
        let cold_bytes: u64 = fetched.cold.iter().map(|cold| u64::from(cold.slot.bytes)).sum();
        let mut entries = if cold_bytes <= INLINE_READ_BYTES {
            self.read_cold(&fetched.cold)?
        } else {
            let reader = self.clone();
            let read = task::spawn_blocking(move || reader.read_cold(&fetched.cold));
            read.await.map_err(io::Error::other)??
        };
        entries.extend(fetched.hot);
        Ok(entries)
    }

    fn read_cold(&self, cold: &[Cold]) -> io::Result<Vec<LogEntry>> {
        let read = |cold: &Cold| {
            let entry = read_back(cold)?;
            if entry.log_id != cold.slot.id {
                let what = format!("entry {} where {} was written", entry.log_id, cold.slot.id);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            Ok(entry)
        };
        cold.iter().map(|cold| read(cold).map_err(|error| self.fail_read(cold, &error))).collect()
    }

    fn fail_read(&self, cold: &Cold, error: &io::Error) -> io::Error {
        let file = self.disk.display(&segment::name(cold.place.segment));
        let message = format!("cannot read the Raft log: {file}: {error} at offset {}", cold.place.offset);
        tracing::error!("{message}");
        self.shared.fail(error.kind(), message.clone(), Vec::new());
        io::Error::new(error.kind(), message)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<LogEntry>>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        self.read(start, end, u64::MAX).await
    }

    /// In steps, so that applying a long log does not hold it in memory twice.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<LogEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let reader = self.clone();
        stream::try_unfold((reader, start), move |(reader, start)| async move {
            let entries = if start < end { reader.read(start, end, READ_BYTES).await? } else { Vec::new() };
            let Some(last) = entries.last() else { return io::Result::Ok(None) };
            let next = last.log_id.index + 1;
            Ok(Some((stream::iter(entries).map(Ok), (reader, next))))
        })
        .try_flatten()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.shared.look(|memory| memory.head.vote)
    }

    /// Bounded by bytes too: a request of many large entries would pass the peer's limit.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        self.read(start, end, READ_BYTES).await
    }
}

impl LogStore {
    async fn push_and_wait(&self, op: Op) -> io::Result<()> {
        let (waiter, reply) = Waiter::reply();
        self.inner.shared.push(op, waiter)?;
        self.inner.step();
        reply.await.unwrap_or_else(|_| Err(super::queue::closed()))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state =
            |memory: &Memory| LogState { last_purged_log_id: memory.head.purged, last_log_id: memory.head.last };
        self.inner.shared.look(state)
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        if let Some(watch) = self.watch() {
            watch.voted(vote);
        }
        self.push_and_wait(Op::Vote(*vote)).await
    }

    /// Queued only: it is on disk with the next flush, or soon where none comes.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.inner.shared.push(Op::Committed(committed), Waiter::default())?;
        if let Some(watch) = self.watch() {
            watch.committed(committed);
        }
        self.inner.step();
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.inner.shared.look(|memory| memory.head.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        let mut encoded = Vec::new();
        let mut lengths = Vec::with_capacity(entries.len());
        for entry in &entries {
            let before = encoded.len();
            encoded = encode(encoded, entry);
            lengths.push(encoded.len() - before);
        }
        if let Some(watch) = self.watch() {
            watch.appended(&entries);
        }
        self.inner.shared.append(entries, Waiter::flushed(callback), encoded, lengths)?;
        self.inner.step();
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let committed = self.inner.shared.peek(|memory| memory.head.committed).filter(|_| self.inner.keeps_committed);
        if let Some(committed) = committed.filter(|committed| index(&last_log_id) < Some(committed.index)) {
            let kept = last_log_id.map_or_else(|| "nothing".to_owned(), |id| format!("entry {id}"));
            let why = format!("the log was to be cut back to {kept}, and entry {committed} is committed");
            *self.inner.refused_truncation.lock() = Some(why.clone());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if let Some(watch) = self.watch() {
            watch.truncated(last_log_id);
        }
        self.push_and_wait(Op::Truncate(last_log_id)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.inner.shared.push(Op::Purge(log_id), Waiter::default())?;
        self.inner.step();
        Ok(())
    }
}
