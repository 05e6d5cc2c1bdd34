//! One value for each of a few groups of threads, so that they do not contend for a cache line.

use std::sync::atomic::{AtomicUsize, Ordering};

/// More than the threads that serve clients on most machines; each takes a cache line at least.
const SHARDS: usize = 8;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// Begins a cache line of its own, and the next one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// A value for each group of threads.
#[derive(Debug, Default)]
pub struct Sharded<T>([Padded<T>; SHARDS]);

impl<T> Sharded<T> {
    /// A value each, as `make` makes it.
    pub fn new(mut make: impl FnMut() -> T) -> Self {
        Self(std::array::from_fn(|_| Padded(make())))
    }

    /// The value of the calling thread's group.
    pub fn own(&self) -> &T {
        &self.0[OWN.with(|own| *own)].0
    }

    /// The values of all groups.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}
