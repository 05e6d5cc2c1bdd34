//! A test's own world: a temporary directory, and its share of the machine.
//!
//! Tests of nodes mostly wait for timers, so more of them than there are processors run side by side
//! (`RUST_TEST_THREADS` in `.cargo/config.toml`). The machine has some shares for them, and a test waits for those that it
//! takes. Whoever takes some is served in the order of asking. Whoever takes all goes last: the machine would stand idle
//! while the others end.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::node::Node;

#[derive(Debug)]
struct Machine {
    taken_shares: usize,
    /// Tests that wait for some shares.
    waiting: usize,
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine { taken_shares: 0, waiting: 0 });
static CHANGED: Condvar = Condvar::new();
/// Held by the first of those that wait for some shares.
static FIRST_IN_LINE: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether the test of this thread has shares: for more it could wait for ever.
    static HAS_SHARES: Cell<bool> = const { Cell::new(false) };
}

/// Two tests a processor, and at least four.
fn all_shares() -> usize {
    std::thread::available_parallelism().map_or(4, |processors| (processors.get() * 2).max(4))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many shares of the machine, until it is dropped.
#[derive(Debug)]
struct Shares(usize);

impl Shares {
    fn some(count: usize) -> Self {
        lock(&MACHINE).waiting += 1;
        let _first = lock(&FIRST_IN_LINE);
        Self::once(count, |machine| {
            let is_free = machine.taken_shares + count <= all_shares();
            machine.waiting -= usize::from(is_free);
            is_free
        })
    }

    fn all() -> Self {
        Self::once(all_shares(), |machine| machine.taken_shares == 0 && machine.waiting == 0)
    }

    /// Takes them once they are to be had.
    fn once(count: usize, mut are_free: impl FnMut(&mut Machine) -> bool) -> Self {
        assert!(!HAS_SHARES.replace(true), "a test has one lab: take `cluster.lab`");
        let waited = CHANGED.wait_while(lock(&MACHINE), |machine| !are_free(machine));
        waited.unwrap_or_else(PoisonError::into_inner).taken_shares += count;
        Self(count)
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        HAS_SHARES.set(false);
        lock(&MACHINE).taken_shares -= self.0;
        CHANGED.notify_all();
    }
}

/// One a test.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
    _shares: Shares,
}

impl Lab {
    /// For a test that mostly waits.
    pub fn new() -> Self {
        Self::with(Shares::some(1))
    }

    /// For a test that keeps a processor busy: at most two of these run side by side.
    pub fn busy() -> Self {
        Self::with(Shares::some(all_shares() / 2))
    }

    /// For a test that measures time, or that offers more load than a machine can take: no other test of this binary
    /// has nodes while this lab lives.
    pub fn alone() -> Self {
        Self::with(Shares::all())
    }

    fn with(shares: Shares) -> Self {
        let dir = tempfile::Builder::new().prefix("hraftd-test-").tempdir().unwrap();
        Self { dir, _shares: shares }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A node on free loopback ports with a directory of its own; not started.
    pub fn node(&self, name: &str) -> Node {
        Node::new(self.path(), name)
    }
}
