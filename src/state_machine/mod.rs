//! The replicated state: openraft's state machine over the map.
//!
//! Contract:
//! * The map is in memory only; the newest snapshot and the log above it make it again. [`StateMachine::open`] loads the
//!   snapshot, openraft replays the log.
//! * Every [`ApplyResponder`] is sent, after the entry is visible to readers.
//! * Readers see whole commands, and a map and an applied index that belong together.
//! * Readers and writers wait for each other only for [`MAX_KEYS_A_HOLD`] changes: a command of more is applied to a
//!   clone of the map beside them, and beside Raft's threads. No lock is held across an await.
//! * Building and installing a snapshot stop neither reads nor, for a build, writes.
//!
//! openraft and errors (0.10.0-alpha.37, `core/sm/worker.rs`, `raft_core.rs`): an `Err` from any method here, a
//! background snapshot included, stops the node for good. See [`SnapshotBuilder`] for how a failed snapshot is kept from that.
//!
//! Caveats: dropping the state machine [stops](SnapshotStore::stop) its snapshot store. An entry that
//! openraft has committed but cannot read ends `apply` with an error, after what came before was applied.

mod auth_now;
mod builder;
mod expired;
mod observer;
#[cfg(test)]
mod raft_tests;
mod reader;
#[cfg(test)]
mod tests;

use parking_lot::RwLock;
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, OnceLock};

use futures_util::{FutureExt, Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;

use crate::command::{Action, Command, Reply, Stamped};
use crate::formats::Format;
use crate::kv::{self, Event, KvStore};
use crate::log_time::LogClock;
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::{LogEntry, LogId, SnapshotMeta, StoredMembership};
use crate::storage::StorageError;
use crate::storage::identity::ClusterHandle;
use crate::storage::snapshot::{SnapshotFile, SnapshotStore};
use crate::task;
use crate::watch::{HistoryLimits, Watches};

pub use auth_now::AuthNow;
pub use builder::SnapshotBuilder;
pub use expired::Expired;
pub use observer::Observer;
pub use reader::{MapReader, Noted};

/// The most keys that are changed while readers wait: some 0.4 ms.
pub const MAX_KEYS_A_HOLD: usize = 256;

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// The replicated state: the keys, and the position in the log.
#[derive(Debug, Clone, Default)]
struct State {
    kv: KvStore,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

/// Whoever is told of what is applied.
struct OnApplied(Box<dyn Fn(u64) + Send + Sync>);

impl fmt::Debug for OnApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnApplied")
    }
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// Index of the last applied entry; 0 before the first. Sent once the entry can be read and its changes are in
    /// `watches`.
    applied: watch::Sender<u64>,
    watches: Watches,
    clock: LogClock,
    /// The newest mark that was applied.
    noted: watch::Sender<Option<Noted>>,
    /// The format of the cluster. Sent before who waits for the entry that raised it is answered.
    format: watch::Sender<Format>,
    expired: Expired,
    /// Told of the index up to which all is applied.
    on_applied: OnceLock<OnApplied>,
    /// Sent before who waits for the entry that changed it is answered.
    auth: watch::Sender<AuthNow>,
}

impl Shared {
    fn replace(&self, state: State) -> State {
        mem::replace(&mut *self.state.write(), state)
    }

    /// Applies entries, makes them visible, and then answers who waits for them.
    fn apply(&self, batch: &mut Batch, observer: Option<&dyn Observer>) {
        if batch.entries.is_empty() {
            return;
        }
        let (mut newest, mut noted) = (None, None);
        let mut format = Format::default();
        let mut auth = None;
        let before = self.auth.borrow().mark;
        let mut apply_all = |state: &mut State, batch: &mut Batch| {
            for (entry, responder) in batch.entries.drain(..) {
                newest = newest.max(stamp_of(&entry));
                let is_mark = is_mark(&entry);
                let reply = state.apply(entry, &mut batch.events, observer);
                batch.replies.extend(responder.map(|responder| (responder, reply)));
                if is_mark {
                    noted = Some(Noted::now(index_of(state), state.kv.digest()));
                }
            }
            format = state.kv.format();
            auth = (state.kv.auth().mark() != before).then(|| AuthNow::of(&state.kv));
            index_of(state)
        };
        let index = if mem::take(&mut batch.keys) > MAX_KEYS_A_HOLD {
            // Nobody else changes the state: `&mut` of the state machine is needed to get here.
            let mut state = self.state.read().clone();
            let applied = apply_all(&mut state, batch);
            drop(self.replace(state));
            applied
        } else {
            apply_all(&mut self.state.write(), batch)
        };
        if let Some((term, stamp_ms)) = newest {
            self.clock.noted(term, stamp_ms);
        }
        self.note_format(format);
        if let Some(auth) = auth {
            self.auth.send_replace(auth);
        }
        if noted.is_some() {
            self.noted.send_replace(noted);
        }
        self.announce(index, &mut batch.events);
        for (responder, reply) in batch.replies.drain(..) {
            responder.send(reply);
        }
    }

    fn note_format(&self, format: Format) {
        let is_news = self.format.send_if_modified(|known| std::mem::replace(known, format) != format);
        if is_news {
            tracing::info!("the cluster's format is {format} now: members need {} or newer", format.since());
        }
    }

    /// Tells readers and watchers that entries up to `index` can be read.
    fn announce(&self, index: u64, events: &mut Vec<Event>) {
        self.expired.count(events);
        self.watches.append(events);
        self.applied.send_replace(index);
        if let Some(OnApplied(tell)) = self.on_applied.get() {
            tell(index);
        }
    }
}

fn index_of(state: &State) -> u64 {
    state.last_applied.as_ref().map_or(0, |log_id| log_id.index)
}

impl State {
    fn apply(&mut self, entry: LogEntry, events: &mut Vec<Event>, observer: Option<&dyn Observer>) -> Reply {
        let seen = observer.map(|observer| (observer, entry.clone(), events.len()));
        let index = entry.log_id.index;
        self.last_applied = Some(entry.log_id);
        let reply = match entry.payload {
            EntryPayload::Blank => Reply::None,
            EntryPayload::Normal(command) => self.kv.apply(index, &command, events),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(self.last_applied, membership);
                Reply::None
            }
        };
        if let Some((observer, entry, before)) = seen {
            observer.applied(&entry, &self.kv, &reply, &events[before..]);
        }
        reply
    }
}

/// openraft's state machine; openraft owns it, [`MapReader`] is what others keep.
#[derive(Debug)]
pub struct StateMachine {
    shared: Arc<Shared>,
    snapshots: SnapshotStore,
    cluster: ClusterHandle,
    observer: Option<Arc<dyn Observer>>,
}

impl StateMachine {
    /// Loads the newest snapshot, if there is one, and keeps `history` of later changes. Blocks while it reads.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`: the snapshot cannot be loaded, and this node must not start.
    pub fn open(
        snapshots: SnapshotStore,
        cluster: ClusterHandle,
        history: HistoryLimits,
    ) -> Result<Self, StorageError> {
        Self::open_observed(snapshots, cluster, history, None)
    }

    /// As [`open`](Self::open), with an observer of all it does.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_observed(
        snapshots: SnapshotStore,
        cluster: ClusterHandle,
        history: HistoryLimits,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Self, StorageError> {
        let state =
            snapshots.current().map_or(Ok(State::default()), |file| load(&snapshots, &file, observer.as_deref()))?;
        let (index, format, auth) = (index_of(&state), state.kv.format(), AuthNow::of(&state.kv));
        let clock = LogClock::default();
        clock.loaded(state.kv.log_time_ms());
        let shared = Shared {
            state: RwLock::new(state),
            applied: watch::Sender::new(index),
            watches: Watches::new(history, index),
            clock,
            noted: watch::Sender::default(),
            format: watch::Sender::new(format),
            expired: Expired::default(),
            on_applied: OnceLock::new(),
            auth: watch::Sender::new(auth),
        };
        Ok(Self { shared: Arc::new(shared), snapshots, cluster, observer })
    }

    /// A handle to read the map with.
    pub fn reader(&self) -> MapReader {
        MapReader::new(self.shared.clone())
    }

    /// The snapshots: the network receives into them.
    pub fn snapshots(&self) -> &SnapshotStore {
        &self.snapshots
    }

    fn state(&self) -> State {
        self.shared.state.read().clone()
    }

    fn builder(&self, must: bool) -> SnapshotBuilder {
        let State { kv, last_applied, membership } = self.state();
        let meta = SnapshotMeta { last_log_id: last_applied, last_membership: membership };
        SnapshotBuilder::new(kv, meta, self.snapshots.clone(), self.cluster.clone(), must)
    }

    /// Applies entries, makes them visible, and then answers who waits for them. Those that change much are applied beside
    /// Raft's threads: what its heartbeats need must not wait behind them.
    async fn apply_now(&self, batch: &mut Batch) -> io::Result<()> {
        if mem::take(&mut batch.turns_on) {
            // Before anybody may see that it is on: from its next start on this node asks, whatever it has read by then.
            let snapshots = self.snapshots.clone();
            blocking(move || snapshots.note_authentication()).await?;
        }
        if batch.keys <= MAX_KEYS_A_HOLD {
            self.shared.apply(batch, self.observer.as_deref());
            return Ok(());
        }
        let (shared, observer, mut long) = (self.shared.clone(), self.observer.clone(), mem::take(batch));
        task::spawn_blocking(move || shared.apply(&mut long, observer.as_deref())).await.map_err(io::Error::other)
    }
}

impl Drop for StateMachine {
    fn drop(&mut self) {
        // A build may still run on a blocking thread, and keeps the directory locked while it does.
        self.snapshots.stop();
    }
}

/// Entries that are applied under one hold of the lock.
#[derive(Default)]
struct Batch {
    entries: Vec<EntryResponder<TypeConfig>>,
    /// How many keys they change.
    keys: usize,
    /// One of them may turn authentication on.
    turns_on: bool,
    replies: Vec<(ApplyResponder<TypeConfig>, Reply)>,
    events: Vec<Event>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_KEYS_A_HOLD || self.keys >= MAX_KEYS_A_HOLD
    }

    fn push(&mut self, item: EntryResponder<TypeConfig>) {
        if let EntryPayload::Normal(command) = &item.0.payload {
            self.keys = self.keys.saturating_add(kv::weight(command));
            let action = command.stamped().map(|stamped| &stamped.action);
            self.turns_on |= matches!(action, Some(Action::Authentication { on: true, .. }));
        }
        self.entries.push(item);
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let State { last_applied, membership, .. } = self.state();
        Ok((last_applied, membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        loop {
            // What is at hand goes into one batch; waiting for more would make those applied wait.
            let next = match entries.next().now_or_never() {
                Some(next) => next,
                None => {
                    self.apply_now(&mut batch).await?;
                    entries.next().await
                }
            };
            match next {
                Some(Ok(item)) => batch.push(item),
                Some(Err(error)) => {
                    self.apply_now(&mut batch).await?;
                    return Err(error);
                }
                None => {
                    return self.apply_now(&mut batch).await;
                }
            }
            if batch.is_full() {
                self.apply_now(&mut batch).await?;
                // The lock is not fair: without a pause, readers that were woken find it taken again.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        Some(self.builder(force))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.builder(true)
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let invalid = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if *meta != *snapshot.meta() {
            return invalid("the snapshot to install is not the one announced");
        }
        if meta.last_log_id < self.state().last_applied {
            return invalid("the snapshot to install is older than what is applied");
        }
        let (shared, snapshots, observer) = (self.shared.clone(), self.snapshots.clone(), self.observer.clone());
        blocking(move || {
            // Read before it replaces the previous one: reading checks all of it again.
            let state = load(&snapshots, &snapshot, observer.as_deref())?;
            if state.kv.auth().is_on() {
                snapshots.note_authentication()?;
            }
            snapshots.install(&snapshot)?;
            let index = index_of(&state);
            shared.clock.loaded(state.kv.log_time_ms());
            shared.note_format(state.kv.format());
            shared.auth.send_replace(AuthNow::of(&state.kv));
            // The old map is dropped here, on a thread that may take its time.
            let old = shared.replace(state);
            old.kv.gone().all();
            drop(old);
            shared.watches.reset(index);
            shared.announce(index, &mut Vec::new());
            Ok(())
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshots.current().map(openraft_snapshot))
    }
}

/// The term of the leader that stamped an entry, and the stamp in milliseconds.
fn stamp_of(entry: &LogEntry) -> Option<(u64, u64)> {
    match &entry.payload {
        EntryPayload::Normal(command) => {
            command.stamped().map(|stamped| (entry.log_id.leader_id.term, stamped.stamp_ms))
        }
        _ => None,
    }
}

fn is_mark(entry: &LogEntry) -> bool {
    let EntryPayload::Normal(command) = &entry.payload else { return false };
    matches!(&**command, Command::Stamped(Stamped { action: Action::Mark, .. }))
}

fn openraft_snapshot(file: SnapshotFile) -> Snapshot {
    Snapshot { meta: file.meta().clone(), snapshot: file }
}

fn load(
    snapshots: &SnapshotStore,
    file: &SnapshotFile,
    observer: Option<&dyn Observer>,
) -> Result<State, StorageError> {
    let kv = snapshots.load(file)?;
    let SnapshotMeta { last_log_id, last_membership } = file.meta().clone();
    if let (Some(observer), Some(last)) = (observer, last_log_id) {
        observer.loaded(last, &kv);
    }
    Ok(State { kv, last_applied: last_log_id, membership: last_membership })
}

/// Runs blocking work beside the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StorageError> + Send + 'static) -> io::Result<T> {
    match task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(io_error(error)),
        Err(gone) => Err(io::Error::other(gone)),
    }
}

/// A storage error as openraft takes it: its kind and the whole message.
fn io_error(error: StorageError) -> io::Error {
    let kind = match &error {
        StorageError::Io { source, .. } => source.kind(),
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
