//! How long the last of something took.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::task::Moment;

/// The most that are remembered.
const MAX: usize = 512;

/// For so long.
const WINDOW: Duration = Duration::from_secs(60);

/// The durations of the last minute, at most [`MAX`] of them.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<(Moment, Duration)>>);

impl Recent {
    /// It has just taken so long.
    pub fn took(&self, time: Duration) {
        let mut all = self.0.lock();
        if all.len() == MAX {
            all.pop_front();
        }
        all.push_back((Moment::now(), time));
    }

    /// The duration that this share of them did not exceed, and how many there are; `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<(Duration, usize)> {
        let mut times: Vec<Duration> = {
            let all = self.0.lock();
            all.iter().filter(|(at, _)| at.elapsed() <= WINDOW).map(|(_, time)| *time).collect()
        };
        times.sort_unstable();
        let place = (times.len() as f64 * share).ceil() as usize;
        Some((*times.get(place.clamp(1, times.len().max(1)) - 1)?, times.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_of_the_last_minute() {
        let recent = Recent::default();
        assert_eq!(recent.quantile(0.99), None);
        recent.took(Duration::from_secs(9));
        tokio::time::advance(WINDOW + Duration::from_millis(1)).await;
        assert_eq!(recent.quantile(0.99), None, "too long ago");
        (1..=200).for_each(|ms| recent.took(Duration::from_millis(ms)));
        assert_eq!(recent.quantile(0.99), Some((Duration::from_millis(198), 200)));
        assert_eq!(recent.quantile(1.0), Some((Duration::from_millis(200), 200)));
        (0..MAX).for_each(|_| recent.took(Duration::from_millis(7)));
        assert_eq!(recent.quantile(1.0), Some((Duration::from_millis(7), MAX)));
    }
}
