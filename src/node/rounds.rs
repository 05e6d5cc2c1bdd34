//! One answer for all who ask the same at the same time.
//!
//! Who asks takes part in a round that begins after that, never in one that has begun: what it is told is not older than
//! its question. While rounds are under way the next one begins [`PACE`] after the last, so that a few at most run at a time,
//! however many ask and however slow the answer is; alone, one begins at once.
//!
//! A round is driven by those who wait for it, and ends unfinished once none does.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// The least time between the beginnings of two rounds, where the first is not over yet.
pub(super) const PACE: Duration = Duration::from_millis(100);

/// The rounds of one question.
pub(super) struct Rounds<T: Clone>(Arc<Mutex<Turns<T>>>);

struct Turns<T: Clone> {
    under_way: usize,
    began: Option<Instant>,
    /// The round that has not begun, as long as somebody waits for it.
    next: Option<WeakShared<BoxFuture<'static, T>>>,
}

impl<T: Clone> Default for Rounds<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Turns { under_way: 0, began: None, next: None })))
    }
}

impl<T: Clone> fmt::Debug for Rounds<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rounds")
    }
}

/// A round that has begun, until it is over or given up.
struct UnderWay<T: Clone>(Arc<Mutex<Turns<T>>>);

impl<T: Clone> UnderWay<T> {
    fn begin(all: Arc<Mutex<Turns<T>>>) -> Self {
        let mut turns = all.lock();
        turns.under_way += 1;
        turns.began = Some(Instant::now());
        // Who comes from here on waits for another.
        turns.next = None;
        drop(turns);
        Self(all)
    }
}

impl<T: Clone> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
    }
}

impl<T: Clone + Send + Sync + 'static> Rounds<T> {
    /// Takes part in the next round. `ask` must be the same question for all.
    pub(super) async fn ask<F: Future<Output = T> + Send + 'static>(
        &self,
        ask: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        self.next(ask).await
    }

    fn next<F: Future<Output = T> + Send + 'static>(
        &self,
        ask: impl FnOnce() -> F + Send + 'static,
    ) -> Shared<BoxFuture<'static, T>> {
        let mut turns = self.0.lock();
        if let Some(next) = turns.next.as_ref().and_then(WeakShared::upgrade) {
            return next;
        }
        let begins = turns.began.filter(|_| turns.under_way > 0).map(|began| began + PACE);
        let all = self.0.clone();
        let round = async move {
            if let Some(begins) = begins {
                sleep_until(begins).await;
            }
            let _under_way = UnderWay::begin(all);
            ask().await
        };
        let round = round.boxed().shared();
        turns.next = round.downgrade();
        round
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::*;

    /// The number of the round, after a while.
    async fn number(rounds: &Rounds<u32>, count: &Arc<AtomicU32>, takes: Duration) -> u32 {
        let count = count.clone();
        let asked = rounds.ask(move || async move {
            let number = count.fetch_add(1, SeqCst) + 1;
            sleep(takes).await;
            number
        });
        asked.await
    }

    /// Issue 18, the second attack: each of thousands of requests asked all members for itself.
    #[tokio::test(start_paused = true)]
    async fn thousands_are_one_round_and_none_is_told_what_is_older_than_its_question() {
        let (rounds, count) = (Rounds::default(), Arc::new(AtomicU32::new(0)));
        let takes = Duration::from_millis(30);
        assert_eq!(number(&rounds, &count, takes).await, 1);
        let together = join_all((0..3_000).map(|_| number(&rounds, &count, takes)));
        let late = async {
            sleep(Duration::from_millis(10)).await;
            (Instant::now(), join_all((0..3_000).map(|_| number(&rounds, &count, takes))).await)
        };
        let (first, (asked, second)) = tokio::join!(together, late);
        // The second round begins with the first question, the third after all others.
        assert!(first[0] == 2 && first[1..].iter().chain(&second).all(|number| *number == 3));
        assert!(asked.elapsed() <= PACE + takes, "{:?}", asked.elapsed());
        assert_eq!(rounds.0.lock().under_way, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_rounds_are_few_at_a_time_and_nobody_waits_for_their_end() {
        let (rounds, count) = (Rounds::default(), Arc::new(AtomicU32::new(0)));
        let takes = Duration::from_secs(1);
        let asked = (0..2_000).map(async |ms| {
            sleep(Duration::from_millis(ms)).await;
            let began = Instant::now();
            number(&rounds, &count, takes).await;
            assert!(began.elapsed() <= takes + PACE + Duration::from_millis(2), "{:?}", began.elapsed());
            assert!(rounds.0.lock().under_way <= 11);
        });
        join_all(asked).await;
        assert!(count.load(SeqCst) <= 22, "{count:?} rounds in 2 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_nobody_waits_for_any_more_holds_nobody_up() {
        let (rounds, count) = (Rounds::default(), Arc::new(AtomicU32::new(0)));
        for _ in 0..3 {
            let asked = number(&rounds, &count, Duration::from_secs(60));
            assert!(tokio::time::timeout(Duration::from_millis(10), asked).await.is_err());
        }
        assert_eq!(rounds.0.lock().under_way, 0);
        assert_eq!(number(&rounds, &count, Duration::ZERO).await, 4);
    }
}
