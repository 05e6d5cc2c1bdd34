//! A number that only grows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Sharded;

/// Counts from 0.
#[derive(Debug, Default)]
pub struct Counter(Sharded<AtomicU64>);

impl Counter {
    /// Counts one more.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts so many more.
    pub fn add(&self, more: u64) {
        self.0.own().fetch_add(more, Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.all().map(|part| part.load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_count() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1_000).for_each(|_| counter.one()));
            }
        });
        counter.add(5);
        assert_eq!(counter.get(), 20_005);
    }
}
