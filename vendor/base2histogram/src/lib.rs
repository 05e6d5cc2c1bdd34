//! Stands in for the crate `base2histogram` 0.2.3 under openraft, with as much of it as openraft uses.
//!
//! That crate computes tables for 16 widths of buckets when the first histogram is made, and keeps them: 26.7 MB resident
//! in every process, of which openraft uses 6 kB, for statistics of its batches that hraftd does not show. When a release
//! of it computes only what is asked for (there was none after 0.2.3), this and `[patch.crates-io]` can go.
//!
//! Caveat: buckets are powers of two, so a percentile is within a factor of two.

use std::fmt;
use std::marker::PhantomData;

/// How often values of each bit length were recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// By bit length; made with the first value.
    counts: Vec<u64>,
    metadata: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// Nothing is recorded yet.
    pub fn new() -> Self {
        Self { counts: Vec::new(), metadata: PhantomData }
    }

    /// Records a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Records a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bits = (u64::BITS - value.leading_zeros()) as usize;
        if self.counts.len() <= bits {
            self.counts.resize(bits + 1, 0);
        }
        self.counts[bits] += times;
    }

    /// What was recorded, in figures.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples: u64 = self.counts.iter().sum();
        let at = |share: f64| {
            let mut left = (samples as f64 * share).ceil() as u64;
            let bits = self.counts.iter().position(|count| {
                left = left.saturating_sub(*count);
                *count > 0 && left == 0
            });
            // The least value of that many bits.
            bits.and_then(|bits| bits.checked_sub(1)).map_or(0, |below| 1 << below)
        };
        PercentileStats {
            samples,
            p0_1: at(0.001),
            p1: at(0.01),
            p5: at(0.05),
            p10: at(0.1),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
        }
    }
}

/// Percentiles of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Histograms under each other.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a histogram.
    #[must_use]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.0.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn percentiles_are_within_a_factor_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        (0..1000).for_each(|value| histogram.record(value));
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p50, stats.p99_9), (1001, 1, 256, 512));
    }
}
