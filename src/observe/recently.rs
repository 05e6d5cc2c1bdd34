//! How often something happened lately.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::task::Moment;

/// More are not counted.
const MAX: usize = 256;

/// When something happened last.
#[derive(Debug, Default)]
pub struct Recently(Mutex<VecDeque<Moment>>);

impl Recently {
    /// It has just happened.
    pub fn note(&self) {
        let mut times = self.0.lock();
        if times.len() == MAX {
            times.pop_front();
        }
        times.push_back(Moment::now());
    }

    /// How often it happened within this time, at most [`MAX`].
    pub fn within(&self, window: Duration) -> usize {
        self.0.lock().iter().rev().take_while(|at| at.elapsed() <= window).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_recent_counts() {
        let recently = Recently::default();
        recently.note();
        tokio::time::advance(Duration::from_secs(10)).await;
        recently.note();
        assert_eq!((recently.within(Duration::from_secs(9)), recently.within(Duration::from_secs(10))), (1, 2));
        (0..MAX).for_each(|_| recently.note());
        assert_eq!(recently.within(Duration::from_secs(60)), MAX);
    }
}
