//! Log time: the clock of all deadlines, in milliseconds.
//!
//! Log time is the newest stamp of the log plus the time since then. Only monotonic clocks count it: a wall clock could
//! jump. A leader stamps each command it proposes. Applying a command takes the larger of its stamp and the log time so
//! far: log time never goes back.
//!
//! Each leader has a *line* of time for its term: its own clock with a fixed offset. All others follow that line. A key
//! must never expire early:
//! * A line begins at the time that its leader saw on the line before. Every node sees a line late, so from term to term
//!   offsets only shrink. A deadline stamped on one line is not due sooner on a later one.
//! * The newest term counts, not the largest estimate. A leader that was down for a while lost that time, and all
//!   followers lose it too. If they kept the better estimate, keys of the new leader would expire early.
//! * A leader begins its line once it has applied all that earlier leaders stamped, and keeps to it.
//!
//! Each message of a leader carries its log time: a node that was down, or got a snapshot, knows it after one message. A
//! follower uses only recent messages. A clock that is slightly faster than the leader's would otherwise get ahead without
//! bound, and keys would expire early by that much once this node leads.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

use crate::task::Moment;

/// The length of a window, in milliseconds. A message counts in its own window and in the next one: for less than three
/// times as long.
pub(crate) const WINDOW_MS: i64 = 2_000;

/// A node's estimate of log time. Clones share it.
#[derive(Debug, Clone)]
pub struct LogClock {
    began: Moment,
    line: Arc<Mutex<Line>>,
}

/// The line that is followed.
#[derive(Debug, Default)]
struct Line {
    /// The term of its leader; 0 if that is not known, as after a snapshot.
    term: u64,
    /// True if this node is that leader.
    is_mine: bool,
    /// Log time when the clock was made; `None` if no stamp was ever seen.
    offset_ms: Option<i64>,
    /// For another leader's line: the best offset heard in the current window, and when the window began.
    heard: Option<(i64, i64)>,
}

impl Line {
    /// Takes an offset that was heard at `now_ms`. Of the offsets heard in this window and the one before, the largest
    /// counts: its message was underway for the shortest time.
    fn hear(&mut self, offset_ms: i64, now_ms: i64) {
        let (best, began_ms) = self.heard.unwrap_or((offset_ms, now_ms));
        let age_ms = now_ms - began_ms;
        if age_ms < WINDOW_MS {
            self.heard = Some((best.max(offset_ms), began_ms));
            self.offset_ms = self.offset_ms.max(Some(offset_ms));
        } else {
            let before = (age_ms < 2 * WINDOW_MS).then_some(best);
            self.heard = Some((offset_ms, now_ms));
            self.offset_ms = before.max(Some(offset_ms));
        }
    }
}

impl Default for LogClock {
    fn default() -> Self {
        Self { began: Moment::now(), line: Arc::default() }
    }
}

impl LogClock {
    fn line(&self) -> MutexGuard<'_, Line> {
        // Only whole lines are ever put in, so a panic elsewhere poisons nothing.
        self.line.lock()
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn offset_ms(&self, ms: u64) -> Option<i64> {
        // Rounded up, where reading the clock rounds down: nodes that lead in turn gain no fractions.
        let elapsed_ms = i64::try_from(self.began.elapsed().as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        (ms > 0).then(|| i64::try_from(ms).unwrap_or(i64::MAX).saturating_sub(elapsed_ms))
    }

    /// Notes that the state was replaced by a snapshot with this log time. Any number of lines may lie between.
    pub fn loaded(&self, log_time_ms: u64) {
        *self.line() = Line { offset_ms: self.offset_ms(log_time_ms), ..Line::default() };
    }

    /// Notes a stamp of the leader of this term: of an entry that was applied just now, or of a message.
    pub fn noted(&self, term: u64, ms: u64) {
        let Some(offset_ms) = self.offset_ms(ms) else { return };
        let mut line = self.line();
        if term > line.term {
            *line = Line { term, ..Line::default() };
        }
        if term == line.term && !line.is_mine {
            line.hear(offset_ms, self.elapsed_ms());
        }
    }

    /// Log time now, in milliseconds; 0 if nothing is known.
    pub fn now_ms(&self) -> u64 {
        self.now_on(&self.line())
    }

    fn now_on(&self, line: &Line) -> u64 {
        let now_ms = line.offset_ms.map_or(0, |offset_ms| self.elapsed_ms().saturating_add(offset_ms));
        u64::try_from(now_ms).unwrap_or(0)
    }

    /// The stamp for an entry, in milliseconds. The caller leads this term and has applied all of earlier terms. If there
    /// was no stamp before, time begins now: not with the process, which may have waited for hours.
    pub fn stamp_ms(&self, term: u64) -> u64 {
        let mut line = self.line();
        if term > line.term {
            // Not 0, which is no stamp.
            let offset_ms = line.offset_ms.or(Some(1_i64.saturating_sub(self.elapsed_ms())));
            *line = Line { term, is_mine: true, offset_ms, heard: None };
        }
        self.now_on(&line)
    }

    /// The term that this node leads and has stamped in, and log time now.
    pub fn led(&self) -> Option<(u64, u64)> {
        let line = self.line();
        line.is_mine.then(|| (line.term, self.now_on(&line)))
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
        clock.noted(1, 100);
        pass(50).await;
        assert_eq!(clock.now_ms(), 150);
        clock.noted(1, 120);
        assert_eq!(clock.now_ms(), 150, "one that took longer tells nothing new");
        clock.noted(1, 170);
        assert_eq!(clock.now_ms(), 170);
        assert_eq!(clock.led(), None);
    }

    /// Else it would lead with all that it got ahead in the years before, and what expires in a minute would be due.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_faster_than_the_leaders_does_not_get_ahead_without_bound() {
        let (fast, mut leads_ms) = (LogClock::default(), 1);
        for _ in 0..100_000 {
            fast.noted(1, leads_ms);
            pass(100).await;
            leads_ms += 99;
        }
        let ahead_ms = fast.stamp_ms(2) - leads_ms;
        assert!((1..=2 * WINDOW_MS as u64 / 99 + 1).contains(&ahead_ms), "{ahead_ms} ms ahead");
    }

    /// A message that was long underway sets nobody back who heard better a moment ago.
    #[tokio::test(start_paused = true)]
    async fn a_window_remembers_the_one_before() {
        let clock = LogClock::default();
        clock.noted(1, 1_000);
        for _ in 0..3 {
            pass(WINDOW_MS as u64 / 2).await;
            clock.noted(1, 10);
        }
        assert_eq!(clock.now_ms(), 1_000 + 3 * WINDOW_MS as u64 / 2);
        pass(3 * WINDOW_MS as u64).await;
        clock.noted(1, 5_000);
        assert_eq!(clock.now_ms(), 5_000, "after so long its own clock counts no more");
    }

    #[tokio::test(start_paused = true)]
    async fn passing_it_on_gains_nothing() {
        let first = LogClock::default();
        first.stamp_ms(1);
        let mut last = first.clone();
        for hop in 2..5_000u64 {
            tokio::time::advance(Duration::from_nanos(1 + hop % 7 * 150_000)).await;
            let next = LogClock::default();
            tokio::time::advance(Duration::from_nanos(1 + hop % 11 * 90_000)).await;
            next.noted(hop, last.stamp_ms(hop));
            last = next;
            assert!(last.now_ms() <= first.now_ms(), "{last:?} is before {first:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_begins_with_the_first_leader_and_not_with_the_process() {
        let clock = LogClock::default();
        pass(3_600_000).await;
        assert_eq!(clock.stamp_ms(1), 1);
        pass(10).await;
        assert_eq!((clock.stamp_ms(1), clock.led()), (11, Some((1, 11))));
        let late = LogClock::default();
        late.noted(1, clock.stamp_ms(1));
        assert_eq!(late.stamp_ms(2), 11);
    }

    /// One that was down lost time, and then leads: who remembers better must not.
    #[tokio::test(start_paused = true)]
    async fn the_newest_leader_is_followed_back_too() {
        let (first, second, third) = (LogClock::default(), LogClock::default(), LogClock::default());
        first.stamp_ms(1);
        pass(60_000).await;
        third.noted(1, first.stamp_ms(1));
        second.loaded(40_000);
        let stamp_ms = second.stamp_ms(2);
        assert_eq!((stamp_ms, third.now_ms()), (40_000, 60_001));
        pass(100).await;
        third.noted(2, stamp_ms);
        // What the second stamped is due in as long as it said, and not 20 s sooner.
        assert_eq!((third.stamp_ms(3), second.now_ms()), (40_000, 40_100));
        third.noted(2, 50_000);
        assert_eq!(third.now_ms(), 40_000, "nobody hears the second any more");
    }

    /// A leader that was cut off before its first stamp was committed began a time that nobody knows.
    #[tokio::test(start_paused = true)]
    async fn a_beginning_that_was_never_committed_is_forgotten() {
        let (first, second) = (LogClock::default(), LogClock::default());
        first.stamp_ms(1);
        pass(60_000).await;
        let stamp_ms = second.stamp_ms(2);
        first.noted(2, stamp_ms);
        assert_eq!((first.stamp_ms(3), stamp_ms), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_keeps_to_its_line() {
        let clock = LogClock::default();
        clock.loaded(1_000);
        let stamp_ms = clock.stamp_ms(4);
        pass(700).await;
        // Its own entry, applied late.
        clock.noted(4, stamp_ms);
        assert_eq!(clock.stamp_ms(4), 1_700);
        clock.noted(3, 9_000);
        assert_eq!(clock.led(), Some((4, 1_700)));
        clock.noted(5, 1_600);
        assert_eq!((clock.led(), clock.now_ms()), (None, 1_600));
        // Too late: it does not lead any more, and its entry will be refused.
        assert_eq!((clock.stamp_ms(4), clock.led()), (1_600, None));
        clock.loaded(0);
        assert_eq!(clock.now_ms(), 0);
    }
}
