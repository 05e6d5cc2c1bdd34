//! The queue between openraft and the writer thread, and the state they share.
//!
//! An operation changes the memory and enters the queue under one lock, so that the order on disk
//! is openraft's order. No I/O happens under that lock.
//!
//! Caveat: the queue has no bound of its own; openraft's limits on what is in flight bound it.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::storage::IOFlushed;
use tokio::sync::{oneshot, watch};

use crate::formats::Format;
use crate::observe::{Counter, Histogram, Recent, Scale};
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::{LogEntry, LogId, Vote};
use crate::task::Moment;

use super::frame::FRAME_HEADER_BYTES;
use super::memory::Memory;
use super::record;
use super::segment::MAX_RECORD_BYTES;
use super::watch::LogWatch;

/// The longest time that a committed index waits for another operation to share a flush with. A node
/// that is started without a quorum shows the entries up to the saved index.
const COMMITTED_MAX_WAIT: Duration = Duration::from_millis(500);

/// The caller that waits for an operation. It is told exactly once: at the latest when this is dropped.
#[derive(Default)]
pub struct Waiter(Option<Waiting>);

enum Waiting {
    Flushed(IOFlushed<TypeConfig>),
    Reply(oneshot::Sender<io::Result<()>>),
}

impl Waiter {
    /// openraft's callback.
    pub fn flushed(callback: IOFlushed<TypeConfig>) -> Self {
        Self(Some(Waiting::Flushed(callback)))
    }

    /// A task that awaits the reply.
    pub fn reply() -> (Self, oneshot::Receiver<io::Result<()>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(Waiting::Reply(sender))), receiver)
    }

    /// Tells it.
    pub fn complete(mut self, result: io::Result<()>) {
        self.tell(result);
    }

    fn tell(&mut self, result: io::Result<()>) {
        match self.0.take() {
            Some(Waiting::Flushed(callback)) => callback.io_completed(result),
            // Nobody listens where the task was dropped.
            Some(Waiting::Reply(sender)) => drop(sender.send(result)),
            None => {}
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.tell(Err(closed()));
    }
}

/// The error of operations on a closed log.
pub fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the Raft log is closed")
}

/// An operation in the queue.
pub enum Op {
    /// Entries, encoded one behind the other.
    Append {
        /// The bytes.
        encoded: Vec<u8>,
        /// Each entry's log id and length.
        entries: Vec<(LogId, usize)>,
        /// The format that a node must understand to read them.
        format: Format,
    },
    /// A vote.
    Vote(Vote),
    /// The last committed log id.
    Committed(Option<LogId>),
    /// Drop entries after this one.
    Truncate(Option<LogId>),
    /// Drop entries up to this one.
    Purge(LogId),
}

/// How the writer is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// With a mark that says so.
    Clean,
    /// Without one.
    Abandon,
}

/// The reason why the log failed. It is told many times.
#[derive(Debug, Clone)]
struct Failure {
    kind: io::ErrorKind,
    message: String,
}

impl Failure {
    fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.message.clone())
    }
}

struct State {
    memory: Memory,
    ops: Vec<(Op, Waiter)>,
    /// True if the queue has an operation that must not wait for others.
    urgent: bool,
    /// True while the writer sleeps: waking it is a system call.
    asleep: bool,
    /// True if the sleeping writer will look by itself for a committed index in the queue.
    dozing: bool,
    stop: Option<Stop>,
    failure: Option<Failure>,
}

/// What the log counts.
#[derive(Debug)]
pub struct LogNumbers {
    /// How long each flush took.
    pub flush: Histogram,
    /// The same, of the last minute.
    pub recent: Recent,
    /// How many entries each flush made durable; those without entries do not count.
    pub entries: Histogram,
    /// Bytes that were written to segments.
    pub written: Counter,
}

impl Default for LogNumbers {
    fn default() -> Self {
        Self {
            flush: Histogram::new(Scale::SECONDS),
            recent: Recent::default(),
            entries: Histogram::new(Scale::COUNTS),
            written: Counter::default(),
        }
    }
}

/// The state that the handles and the writer share.
pub struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    failed: watch::Sender<Option<String>>,
    /// The segment that is being flushed, and since when.
    pub(super) flushing: Mutex<Option<(u64, Moment)>>,
    pub(super) numbers: LogNumbers,
    pub(super) watch: OnceLock<Arc<dyn LogWatch>>,
}

impl Shared {
    /// Shares a log that was read from disk.
    pub fn new(memory: Memory) -> Arc<Self> {
        let state =
            State { memory, ops: Vec::new(), urgent: false, asleep: false, dozing: false, stop: None, failure: None };
        Arc::new(Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            failed: watch::Sender::new(None),
            flushing: Mutex::default(),
            numbers: LogNumbers::default(),
            watch: OnceLock::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock ends the writer or openraft's core; either way the log stops.
        self.state.lock()
    }

    /// Tells when the log has failed, and why.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Looks at the memory.
    ///
    /// # Errors
    /// The log's failure, with its kind.
    pub fn look<R>(&self, look: impl FnOnce(&Memory) -> R) -> io::Result<R> {
        let state = self.state();
        match &state.failure {
            Some(failure) => Err(failure.error()),
            None => Ok(look(&state.memory)),
        }
    }

    /// Looks at the memory, failed or not.
    pub fn peek<R>(&self, look: impl FnOnce(&Memory) -> R) -> R {
        look(&self.state().memory)
    }

    /// Changes the memory, for the writer.
    pub fn update<R>(&self, update: impl FnOnce(&mut Memory) -> R) -> R {
        update(&mut self.state().memory)
    }

    /// Queues entries and makes them readable.
    ///
    /// # Errors
    /// The log's failure. `BrokenPipe`: the log is closed. `InvalidInput`: the entries do not follow its
    /// last one, or one is too long for a record. The waiter is told the same.
    pub fn append(
        &self,
        entries: Vec<LogEntry>,
        waiter: Waiter,
        encoded: Vec<u8>,
        lengths: Vec<usize>,
    ) -> io::Result<()> {
        let ids = entries.iter().map(|entry| entry.log_id).zip(lengths).collect::<Vec<_>>();
        let format = record::format(&entries);
        self.submit(Op::Append { encoded, entries: Vec::new(), format }, waiter, |memory, op| {
            let mut head = memory.head.clone();
            for (id, length) in &ids {
                if !head.accepts(id.index) {
                    let message = format!("entry {id} does not follow the log, whose last is {:?}", head.last);
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
                }
                if *length > MAX_RECORD_BYTES {
                    let message = format!("entry {id} takes {length} bytes: more than a log record can");
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
                }
                head.last = Some(*id);
            }
            for (entry, (_, length)) in entries.into_iter().zip(&ids) {
                memory.push(entry, u32::try_from(FRAME_HEADER_BYTES + length).expect("checked above"), None);
            }
            if let Op::Append { entries, .. } = op {
                *entries = ids;
            }
            Ok(())
        })
    }

    /// Queues anything but entries.
    ///
    /// # Errors
    /// The log's failure. `BrokenPipe`: the log is closed. The waiter is told the same.
    pub fn push(&self, op: Op, waiter: Waiter) -> io::Result<()> {
        let mut purged = None;
        self.submit(op, waiter, |memory, op| {
            match op {
                Op::Vote(vote) => memory.head.vote = Some(*vote),
                Op::Committed(committed) => memory.head.committed = *committed,
                Op::Truncate(after) => memory.truncate(*after),
                Op::Purge(upto) => purged = Some(memory.purge(*upto)),
                Op::Append { .. } => unreachable!("entries go through append"),
            }
            Ok(())
        })?;
        // Here, outside of the lock, purged entries are dropped.
        drop(purged);
        Ok(())
    }

    fn submit(
        &self,
        mut op: Op,
        waiter: Waiter,
        apply: impl FnOnce(&mut Memory, &mut Op) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state();
        let accepted = match (&state.failure, state.stop) {
            (Some(failure), _) => Err(failure.error()),
            (None, Some(_)) => Err(closed()),
            (None, None) => apply(&mut state.memory, &mut op),
        };
        if let Err(error) = accepted {
            drop(state);
            waiter.complete(Err(io::Error::new(error.kind(), error.to_string())));
            return Err(error);
        }
        match (&op, state.ops.last_mut()) {
            (Op::Committed(newer), Some((Op::Committed(last), _))) => *last = *newer,
            _ => {
                state.urgent |= !matches!(op, Op::Committed(_));
                state.ops.push((op, waiter));
            }
        }
        // A committed index alone rides with the next flush, or with one of its own where none comes.
        if (state.urgent || !state.dozing) && std::mem::take(&mut state.asleep) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until an operation is queued, and takes all of them.
    ///
    /// # Errors
    /// [`Stop`]: the log is to stop and the queue is empty.
    pub fn take(&self, mut room: Vec<(Op, Waiter)>) -> Result<Vec<(Op, Waiter)>, Stop> {
        let mut state = self.state();
        // A commit mostly follows a flush: to look again after a while is cheaper than to be woken for it.
        let mut doze = true;
        loop {
            if let Some(stop) = state.stop
                && state.ops.is_empty()
            {
                return Err(stop);
            }
            if state.urgent || state.stop.is_some() {
                state.urgent = false;
                std::mem::swap(&mut state.ops, &mut room);
                return Ok(room);
            }
            state.asleep = true;
            state.dozing = doze || !state.ops.is_empty();
            if state.dozing {
                let waited = self.wake.wait_for(&mut state, COMMITTED_MAX_WAIT);
                doze = !waited.timed_out();
                state.urgent |= waited.timed_out() && !state.ops.is_empty();
            } else {
                self.wake.wait(&mut state);
            }
        }
    }

    /// All that waits, if anything does and the log has not failed.
    pub fn try_take(&self) -> Option<Vec<(Op, Waiter)>> {
        let mut state = self.state();
        state.urgent = false;
        (state.failure.is_none() && !state.ops.is_empty()).then(|| std::mem::take(&mut state.ops))
    }

    /// Asks the writer to stop once the queue is empty; nothing more is accepted.
    pub fn stop(&self, how: Stop) {
        self.state().stop.get_or_insert(how);
        self.wake.notify_one();
    }

    /// Fails the log for good, and tells everyone who waits: `taken`, then the queue.
    pub fn fail(&self, kind: io::ErrorKind, message: String, taken: Vec<(Op, Waiter)>) {
        let (failure, queued) = {
            let mut state = self.state();
            let failure = state.failure.get_or_insert(Failure { kind, message }).clone();
            (failure, std::mem::take(&mut state.ops))
        };
        self.failed.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert_with(|| failure.message.clone());
            first
        });
        for (_, waiter) in taken.into_iter().chain(queued) {
            waiter.complete(Err(failure.error()));
        }
    }

    /// Checks that the log has not failed.
    ///
    /// # Errors
    /// The log's failure, with its kind.
    pub fn check(&self) -> io::Result<()> {
        self.look(|_| ())
    }
}
