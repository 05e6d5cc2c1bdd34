//! What keeps an old state alive until its client has read an answer.
//!
//! It costs the memory of all that was replaced and deleted since. It is let go of:
//!
//! * once its client has taken nothing for [`STALLED_AFTER`], or for [`LOOK_EVERY`] while it costs [`MUCH_BYTES`];
//! * once it costs [`MOST_BYTES`], however much its client takes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::kv::Gone;
use crate::task;

/// How long a client may take for a piece.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(60);

/// So often somebody looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What an old state may cost for a client that takes nothing.
const MUCH_BYTES: u64 = 64 << 20;

/// What an old state may cost.
const MOST_BYTES: u64 = 256 << 20;

/// A value that is used piece by piece.
#[derive(Debug)]
pub(in crate::api) struct Held<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    value: Option<T>,
    /// How often it was used.
    uses: u64,
}

impl<T: Send + 'static> Held<T> {
    /// Holds a value; `gone`, where it keeps a state alive: the counter of that state.
    pub(in crate::api) fn new(value: T, gone: Option<Gone>) -> Self {
        let held = Arc::new(Mutex::new(Inner { value: Some(value), uses: 0 }));
        let began = gone.as_ref().map_or(0, Gone::bytes);
        task::spawn(watch(Arc::downgrade(&held), gone, began));
        Self(held)
    }

    /// True once it was let go of.
    pub(in crate::api) fn is_gone(&self) -> bool {
        self.0.lock().value.is_none()
    }

    /// Uses the value; `None`: it was let go of. What `of` says is whether it is needed any longer.
    pub(in crate::api) fn using<R>(&self, of: impl FnOnce(&mut T) -> (R, bool)) -> Option<R> {
        let mut held = self.0.lock();
        held.uses += 1;
        let (result, more) = of(held.value.as_mut()?);
        if !more {
            held.value = None;
        }
        Some(result)
    }
}

async fn watch<T>(held: Weak<Mutex<Inner<T>>>, gone: Option<Gone>, began: u64) {
    let mut seen = (u64::MAX, Instant::now());
    loop {
        sleep(LOOK_EVERY).await;
        let Some(held) = held.upgrade() else { return };
        let mut held = held.lock();
        if held.value.is_none() {
            return;
        }
        if seen.0 != held.uses {
            seen = (held.uses, Instant::now());
        }
        let costs = gone.as_ref().map_or(0, Gone::bytes).saturating_sub(began);
        let stalled = seen.1.elapsed();
        if stalled >= STALLED_AFTER || costs > MOST_BYTES || (costs > MUCH_BYTES && !stalled.is_zero()) {
            held.value = None;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Action, Command};
    use crate::kv::KvStore;

    fn put(kv: &mut KvStore, index: u64, bytes: usize) {
        let pairs = vec![("k".into(), vec![b'1'; bytes].into())];
        let set = Action::Set { pairs, ttl_ms: None, conditions: Vec::new() };
        kv.apply(index, &Command::from(set), &mut Vec::new());
    }

    fn is_there(held: &Held<KvStore>) -> bool {
        held.using(|_| ((), true)).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_state_costs_so_much_and_no_more() {
        let mut kv = KvStore::new();
        put(&mut kv, 1, 40 << 20);
        let (read, stalled) = (Held::new(kv.clone(), Some(kv.gone())), Held::new(kv.clone(), Some(kv.gone())));
        // The second of these makes what is replaced more than a client that does not read may cost.
        for index in 2..4 {
            put(&mut kv, index, 40 << 20);
            for _ in 0..9 {
                sleep(LOOK_EVERY / 3).await;
                assert!(is_there(&read), "it is read");
            }
        }
        assert!(stalled.0.lock().value.is_none());
        for index in 4..8 {
            put(&mut kv, index, 40 << 20);
        }
        sleep(LOOK_EVERY * 2).await;
        assert!(!is_there(&read), "however much is read");
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_another_replaced_is_let_go_of() {
        let kv = KvStore::new();
        let held = Held::new(kv.clone(), Some(kv.gone()));
        sleep(LOOK_EVERY * 3).await;
        assert!(held.0.lock().value.is_some());
        kv.gone().all();
        sleep(LOOK_EVERY * 2).await;
        assert!(held.0.lock().value.is_none());
    }
}
