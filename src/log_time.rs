//! Log time: what deadlines are measured in.
//!
//! It is the newest stamp of the log plus the time since, in milliseconds, counted by monotonic clocks only: no wall
//! clock is asked, so none can jump. Leaders stamp what they propose with it; applying takes the larger of that and what
//! was, so it never goes back.
//!
//! Never early: a stamp is applied after the leader made it, so every node's estimate lags behind the leader's, and the
//! next leader goes on from its own. Of all the offsets that were seen the largest counts: that of the stamp that was
//! underway for the shortest time.
//!
//! Caveat: a node that has not seen a stamp knows nothing. It may only begin at 0 once it leads, or a process that waited
//! for hours to join a young cluster would bring these hours with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

/// Nothing was seen yet.
const UNKNOWN: i64 = i64::MIN;

/// A node's estimate of log time. Clones share it.
#[derive(Debug, Clone)]
pub struct LogClock {
    began: Instant,
    /// Log time when this was made.
    offset_ms: Arc<AtomicI64>,
}

impl Default for LogClock {
    fn default() -> Self {
        Self { began: Instant::now(), offset_ms: Arc::new(AtomicI64::new(UNKNOWN)) }
    }
}

impl LogClock {
    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// An entry with this stamp, or a snapshot of this log time, was applied just now.
    pub fn applied(&self, stamp_ms: u64) {
        if stamp_ms > 0 {
            let stamp_ms = i64::try_from(stamp_ms).unwrap_or(i64::MAX);
            // Rounded up, where reading the clock rounds down: nodes that lead in turn gain no fractions.
            let elapsed_ms = self.began.elapsed().as_nanos().div_ceil(1_000_000);
            let elapsed_ms = i64::try_from(elapsed_ms).unwrap_or(i64::MAX);
            self.offset_ms.fetch_max(stamp_ms.saturating_sub(elapsed_ms), Ordering::Relaxed);
        }
    }

    /// Log time now, in milliseconds; 0 where nothing is known.
    pub fn now_ms(&self) -> u64 {
        match self.offset_ms.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            offset_ms => u64::try_from(self.elapsed_ms().saturating_add(offset_ms)).unwrap_or(0),
        }
    }

    /// What a leader stamps on an entry: time begins now where no entry has one.
    pub fn stamp_ms(&self) -> u64 {
        // Not 0, which is no stamp.
        let begin = 1_i64.saturating_sub(self.elapsed_ms());
        let _ = self.offset_ms.compare_exchange(UNKNOWN, begin, Ordering::Relaxed, Ordering::Relaxed);
        self.now_ms()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn pass(ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_the_stamp_that_was_fastest() {
        let clock = LogClock::default();
        pass(5_000).await;
        assert_eq!(clock.now_ms(), 0, "nothing is known");
        clock.applied(100);
        pass(50).await;
        assert_eq!(clock.now_ms(), 150);
        clock.applied(120);
        assert_eq!(clock.now_ms(), 150, "one that took longer tells nothing new");
        clock.applied(170);
        assert_eq!(clock.now_ms(), 170);
    }

    #[tokio::test(start_paused = true)]
    async fn passing_it_on_gains_nothing() {
        let first = LogClock::default();
        first.stamp_ms();
        let mut last = first.clone();
        for hop in 0..5_000u64 {
            tokio::time::advance(Duration::from_nanos(1 + hop % 7 * 150_000)).await;
            let next = LogClock::default();
            tokio::time::advance(Duration::from_nanos(1 + hop % 11 * 90_000)).await;
            next.applied(last.stamp_ms());
            last = next;
            assert!(last.now_ms() <= first.now_ms(), "{last:?} is before {first:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_begins_with_the_first_leader_and_not_with_the_process() {
        let clock = LogClock::default();
        pass(3_600_000).await;
        assert_eq!(clock.stamp_ms(), 1);
        pass(10).await;
        assert_eq!(clock.stamp_ms(), 11);
        let late = LogClock::default();
        late.applied(clock.stamp_ms());
        assert_eq!(late.stamp_ms(), 11);
    }
}
