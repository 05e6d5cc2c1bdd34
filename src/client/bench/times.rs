//! How long requests took, in little memory: counts in buckets that grow with what they count.

use std::time::Duration;

/// Each doubling is divided into so many buckets, so that a bucket is 3 % wide at most.
const PARTS: u64 = 32;

/// Up to so many microseconds each has a bucket of its own.
const EXACT: u64 = 2 * PARTS;

/// Times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Times {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Times {
    pub(super) fn add(&mut self, took: Duration) {
        let at = bucket(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(at) {
            *count += 1;
        }
        self.count += 1;
        self.longest = self.longest.max(took);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The time that this share of a hundred did not exceed; up to 3 % more than they took.
    pub(super) fn percentile(&self, percent: u64) -> Duration {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(highest(at)).min(self.longest);
            }
        }
        self.longest
    }
}

fn bucket(micros: u64) -> usize {
    if micros < EXACT {
        return micros as usize;
    }
    // The power of two that it is divided by, so that PARTS to 2 * PARTS - 1 is left.
    let shift = u64::from(micros.ilog2()) - u64::from(PARTS.ilog2());
    (shift * PARTS + (micros >> shift)) as usize
}

/// The most microseconds that a bucket has.
fn highest(at: usize) -> u64 {
    let at = at as u64;
    if at < EXACT {
        return at;
    }
    let shift = at / PARTS - 1;
    let part = at % PARTS + PARTS;
    ((part + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_are_narrow() {
        let mut before = None;
        for micros in (0..100_000).chain((17..40).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1])) {
            let at = bucket(micros);
            assert!(before.is_none_or(|before| before <= at), "{micros}");
            before = Some(at);
            let most = highest(at);
            assert!(most >= micros && (most - micros) * PARTS <= micros, "{micros} is told as {most}");
            assert_eq!(bucket(most), at);
        }
    }

    #[test]
    fn percentiles() {
        let mut times = Times::default();
        assert_eq!((times.percentile(99), times.count()), (Duration::ZERO, 0));
        (1..=1000).for_each(|ms| times.add(Duration::from_millis(ms)));
        for (percent, ms) in [(50, 500), (99, 990)] {
            let told = times.percentile(percent).as_secs_f64() * 1e3;
            assert!((f64::from(ms)..f64::from(ms) * 1.04).contains(&told), "{percent}: {told}");
        }
        assert_eq!((times.percentile(100), times.longest()), (Duration::from_secs(1), Duration::from_secs(1)));
    }
}
