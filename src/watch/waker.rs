//! The task that wakes watchers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::subscribers::{Mark, WAKE_BATCH_WATCHERS};
use super::{Key, SCAN_EVENTS, Subject, Watches};

/// The interval between two batches of [`WAKE_BATCH_WATCHERS`], if many watch one key. A watcher that is woken late finds
/// more events at once, and writes do not wait for thousands of watchers to run.
const WAKE_INTERVAL: Duration = Duration::from_millis(1);

/// The pause per watcher after a look at many of them: a tenth of the time is spent looking.
const REST_PER_WATCHER: Duration = Duration::from_nanos(500);

impl Watches {
    /// Wakes watchers, until it is dropped.
    pub async fn wake(self) {
        let mut end = self.shared.end.subscribe();
        // Also what was appended before this task came to run.
        let mut at = 0;
        let mut more = true;
        let mut later = VecDeque::new();
        let (mut next_look, mut next_few) = (Instant::now(), Instant::now());
        loop {
            let news = async {
                if !more {
                    // It fails only once the sender is gone, which `self` keeps.
                    let _ = end.changed().await;
                    more = true;
                }
                sleep_until(next_look).await;
            };
            let look = tokio::select! {
                biased;
                () = news => true,
                () = sleep_until(next_few), if !later.is_empty() => false,
            };
            if look {
                let looked_at;
                (more, looked_at) = self.mark_some(&mut at, &mut later);
                next_look = Instant::now() + REST_PER_WATCHER.saturating_mul(looked_at);
                tokio::task::yield_now().await;
            }
            if !later.is_empty() && Instant::now() >= next_few {
                later.drain(..WAKE_BATCH_WATCHERS.min(later.len())).for_each(|mark| mark.wake());
                next_few = Instant::now() + WAKE_INTERVAL;
            }
        }
    }

    /// Marks some events from `at` on; whether there are more, and how many of many watchers were looked at.
    fn mark_some(&self, at: &mut u64, later: &mut VecDeque<Arc<Mark>>) -> (bool, u32) {
        let (subjects, end): (Vec<Subject<Key>>, u64) = {
            let ring = self.shared.ring();
            if *at < ring.first() {
                // Too slow for the ring itself: everybody looks.
                self.shared.subscribers.mark_all();
                *at = ring.first();
            }
            if self.shared.subscribers.is_empty() {
                *at = ring.end();
            }
            let subjects = ring.from(*at).take(SCAN_EVENTS).map(|event| Subject::of_change(&event.change).owned());
            (subjects.collect(), ring.end())
        };
        // Not under the ring's lock: one key may have thousands of watchers.
        let looked_at = self.shared.subscribers.mark(&subjects, *at, later);
        *at += subjects.len() as u64;
        self.shared.marked.store(*at, Ordering::Release);
        (*at < end, looked_at)
    }
}
