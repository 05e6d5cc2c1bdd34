//! How often a quantity had which size.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Sharded;

/// The unit of what is observed, and the upper bounds of its buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Ascending, in the unit of what is observed. What is larger than the last one has a bucket of its own.
    pub bounds: &'static [u64],
    /// How much of the unit that is shown one of what is observed is.
    pub unit: f64,
}

impl Scale {
    /// Durations, observed in microseconds and shown in seconds: a disk, a network, a request.
    pub const SECONDS: Self = Self {
        bounds: &[
            50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600, 819_200,
            1_638_400, 6_553_600, 26_214_400,
        ],
        unit: 1e-6,
    };

    /// Counts up to some thousands.
    pub const COUNTS: Self = Self { bounds: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048], unit: 1.0 };
}

/// A histogram that many threads write.
#[derive(Debug)]
pub struct Histogram {
    scale: Scale,
    shards: Sharded<Shard>,
}

#[derive(Debug)]
struct Shard {
    /// One for each bound, and one for what is larger.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Each upper bound, and how many were at most as large.
    pub buckets: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Histogram {
    /// One that has seen nothing.
    pub fn new(scale: Scale) -> Self {
        let shard =
            || Shard { buckets: (0..=scale.bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) };
        Self { scale, shards: Sharded::new(shard) }
    }

    /// Adds one of this size, in the unit of the scale's bounds.
    pub fn observe(&self, size: u64) {
        let shard = self.shards.own();
        let bucket = self.scale.bounds.partition_point(|bound| *bound < size);
        if let Some(bucket) = shard.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        shard.sum.fetch_add(size, Relaxed);
    }

    /// Adds one of a scale of [`Scale::SECONDS`].
    pub fn took(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// What it has seen. Sizes that are added meanwhile are in it or not.
    pub fn seen(&self) -> Seen {
        let of = |bucket: usize| self.shards.all().map(|shard| shard.buckets[bucket].load(Relaxed)).sum::<u64>();
        let mut count = 0;
        let mut cumulative = |bucket: usize| {
            count += of(bucket);
            count
        };
        let bounds = self.scale.bounds.iter().enumerate();
        let buckets = bounds.map(|(bucket, bound)| (*bound as f64 * self.scale.unit, cumulative(bucket))).collect();
        let count = cumulative(self.scale.bounds.len());
        let sum = self.shards.all().map(|shard| shard.sum.load(Relaxed) as f64).sum::<f64>() * self.scale.unit;
        Seen { buckets, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_in_its_bucket_and_those_above() {
        let histogram = Histogram::new(Scale { bounds: &[10, 20, 40], unit: 0.5 });
        [0, 10, 11, 40, 41, 1_000].into_iter().for_each(|size| histogram.observe(size));
        let seen = histogram.seen();
        assert_eq!(seen.buckets, [(5.0, 2), (10.0, 3), (20.0, 4)]);
        assert_eq!((seen.count, seen.sum), (6, 551.0));
    }

    #[test]
    fn bounds_ascend() {
        for scale in [Scale::SECONDS, Scale::COUNTS] {
            assert!(scale.bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
