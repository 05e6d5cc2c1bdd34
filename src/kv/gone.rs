//! How much of the state is gone: whoever keeps an old state alive, a listing that is being sent for example, can tell how
//! much memory that costs by now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a change of a key copies beside its value, about: the page that it is in.
const PAGE_BYTES: usize = 1024;

/// Bytes of the state that were replaced or deleted since it was made. Clones of a state share it. It is no part of the
/// state: two that differ in it are equal.
#[derive(Debug, Clone, Default)]
pub struct Gone(Arc<AtomicU64>);

impl PartialEq for Gone {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Gone {}

impl Gone {
    /// How many by now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// As many as there were: what was added since did not happen.
    pub(super) fn put_back(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// All of the state is gone: another took its place.
    pub fn all(&self) {
        self.0.fetch_add(u64::MAX >> 8, Ordering::Relaxed);
    }

    /// A value of so many bytes is gone, or a new one came, which copies its page all the same.
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add((bytes + PAGE_BYTES) as u64, Ordering::Relaxed);
    }
}
