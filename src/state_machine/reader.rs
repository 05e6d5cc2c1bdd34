//! The read side of the state.

use parking_lot::RwLockReadGuard;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{AuthNow, Expired, OnApplied, Shared, State, index_of};
use crate::command::{Command, Denied, Need, Principal, TokenHash, TokenId};
use crate::formats::Format;
use crate::kv::{self, HeldLock, KvStore, RetryRoom, Sizes, Ticket, Token};
use crate::log_time::LogClock;
use crate::raft_types::alias::LogId;
use crate::record::Record;
use crate::watch::Watches;

/// The digest of the state right after the entry at an index was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// The index of the entry, a [`Mark`](crate::command::Action::Mark).
    pub index: u64,
    /// The digest of the state.
    pub digest: u64,
    /// When it was applied here.
    pub at: Instant,
}

impl Noted {
    pub(super) fn now(index: u64, digest: u64) -> Self {
        Self { index, digest, at: Instant::now() }
    }
}

/// Reads the state while entries are applied to it. Clones share it.
///
/// It promises nothing about staleness: the caller waits until [`applied`](Self::applied) has reached a read index. Its
/// methods block for at most one batch.
#[derive(Debug, Clone)]
pub struct MapReader {
    shared: Arc<Shared>,
}

impl MapReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read()
    }

    /// The record of a key, and the index of the last entry that was applied before the read (0: none).
    pub fn get(&self, key: &str) -> (Option<Record>, u64) {
        let state = self.state();
        (state.kv.get(key).cloned(), index_of(&state))
    }

    /// The same for a client, where it may read the key in that state.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn get_by(&self, by: Option<&Principal>, key: &str) -> Result<(Option<Record>, u64), Denied> {
        let state = self.state();
        state.kv.auth().check(by, Need::Read(key), self.log_time_of(&state))?;
        Ok((state.kv.get(key).cloned(), index_of(&state)))
    }

    /// Log time: not before that of the state. The clock is only looked at where it matters.
    fn log_time_of(&self, state: &State) -> u64 {
        let applied = state.kv.log_time_ms();
        if state.kv.auth().is_on() { applied.max(self.shared.clock.now_ms()) } else { applied }
    }

    /// Who shows the token with this id and hash, and the generation of that.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn identify(&self, id: TokenId, hash: &TokenHash) -> Result<(Arc<Token>, u32), Denied> {
        let state = self.state();
        let (token, generation) = state.kv.auth().identify(id, hash, self.log_time_of(&state))?;
        Ok((token.clone(), generation))
    }

    /// The token with this id, where its secret of this generation is good.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn held(&self, id: TokenId, generation: u32) -> Result<Arc<Token>, Denied> {
        let state = self.state();
        state.kv.auth().held(id, generation, self.log_time_of(&state)).cloned()
    }

    /// The token that a certificate with this name stands for.
    pub fn of_certificate(&self, name: &str) -> Option<(TokenId, Arc<Token>)> {
        let state = self.state();
        let found = state.kv.auth().of_certificate(name, self.log_time_of(&state));
        found.map(|(id, token)| (id, token.clone()))
    }

    /// Ok where somebody may do this; and for how long that holds, as long as no entry changes it.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allowed(&self, by: Option<&Principal>, need: Need<'_>) -> Result<Option<Duration>, Denied> {
        let state = self.state();
        let (auth, now_ms) = (state.kv.auth(), self.log_time_of(&state));
        auth.check(by, need, now_ms)?;
        Ok(auth.good_until(by).map(|until_ms| Duration::from_millis(until_ms.saturating_sub(now_ms))))
    }

    /// Follows authentication and tokens.
    pub fn auth(&self) -> watch::Receiver<AuthNow> {
        self.shared.auth.subscribe()
    }

    /// The whole state as it is now, and its index. Writes cost more while it lives.
    pub fn view(&self) -> (KvStore, u64) {
        let state = self.state();
        (state.kv.clone(), index_of(&state))
    }

    /// The same, with the log id that it is of.
    pub fn view_at(&self) -> (KvStore, Option<LogId>) {
        let state = self.state();
        (state.kv.clone(), state.last_applied)
    }

    /// A lock and the lease that it is held under, if somebody holds it, and the index of the state.
    pub fn lock(&self, name: &str) -> (Option<HeldLock>, u64) {
        let state = self.state();
        (state.kv.lock(name).map(|lock| (lock, state.kv.lease_of_lock(name))), index_of(&state))
    }

    /// The same for a client, where it may know of the lock in that state.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn lock_by(&self, by: Option<&Principal>, name: &str) -> Result<(Option<HeldLock>, u64), Denied> {
        let state = self.state();
        state.kv.auth().check(by, Need::Lock(name), self.log_time_of(&state))?;
        Ok((state.kv.lock(name).map(|lock| (lock, state.kv.lease_of_lock(name))), index_of(&state)))
    }

    /// The state of the request for a lock that the entry at index `ticket` made.
    pub fn ticket(&self, name: &str, ticket: u64) -> Ticket {
        self.state().kv.ticket(name, ticket)
    }

    /// What applying a command to the state as it is would cost, in microseconds.
    pub fn cost_us(&self, command: &Command) -> u64 {
        if kv::weight_is_all(command) { kv::weight(command) as u64 } else { self.state().kv.cost_us(command) }
    }

    /// The room for one more kept outcome, that of this `Idempotency-Key`.
    pub fn retry_room(&self, key: &str) -> RetryRoom {
        self.state().kv.retry_room(key)
    }

    /// When something is due next, and the log time that was applied last, in milliseconds.
    pub fn next_deadline(&self) -> (Option<u64>, u64) {
        let state = self.state();
        (state.kv.next_deadline(), state.kv.log_time_ms())
    }

    /// The digest of the state, and its index.
    pub fn digest(&self) -> (u64, u64) {
        let (kv, index) = self.view();
        (kv.digest(), index)
    }

    /// The most bytes of keys and values; 0: any number.
    pub fn quota(&self) -> u64 {
        self.state().kv.quota()
    }

    /// Locks whose holder's time was up at this log time and that others wait for, and how many these are.
    pub fn waiting_for_nobody(&self, at_ms: u64) -> (usize, usize) {
        self.state().kv.waiting_for_nobody(at_ms)
    }

    /// How much there is of everything.
    pub fn sizes(&self) -> Sizes {
        self.state().kv.sizes()
    }

    /// What has expired here since the process began.
    pub fn expired(&self) -> &Expired {
        &self.shared.expired
    }

    /// Tells the index up to which all is applied, after each batch. Only the first one who asks is told; it must not
    /// wait.
    pub fn on_applied(&self, tell: Box<dyn Fn(u64) + Send + Sync>) {
        let _first = self.shared.on_applied.set(OnApplied(tell));
    }

    /// Follows the format of the cluster.
    pub fn format(&self) -> watch::Receiver<Format> {
        self.shared.format.subscribe()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.state().kv.len()
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Follows the index of the last applied entry (0: none). Once it shows an index, [`get`](Self::get) reads from that
    /// entry on.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// Follows the newest mark that was applied.
    pub fn noted(&self) -> watch::Receiver<Option<Noted>> {
        self.shared.noted.subscribe()
    }

    /// Changes the state here and nowhere else.
    #[cfg(test)]
    pub(crate) fn tamper(&self, key: &str, record: Record) {
        self.shared.state.write().kv.restore(key.into(), record);
    }

    /// The history of changes, and its watchers.
    pub fn watches(&self) -> &Watches {
        &self.shared.watches
    }

    /// This node's estimate of log time.
    pub fn clock(&self) -> &LogClock {
        &self.shared.clock
    }
}
