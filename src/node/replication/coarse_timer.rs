//! A timer that is set anew with every message.
//!
//! A timer that is due before all others makes tokio wake its driver: a system call, and one more round of the thread
//! that set it. A [`CoarseTimer`] is a little late at times, or wakes for nothing, and is cheaper than one that is set
//! each time.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// How late it may ring where messages come and go.
pub(in crate::node) const MAX_LATENESS: Duration = Duration::from_millis(5);

/// For one that was not set yet.
const UNSET_DURATION: Duration = Duration::from_hours(24 * 365);

/// The timer.
pub(in crate::node) struct CoarseTimer(Pin<Box<Sleep>>);

impl CoarseTimer {
    pub(in crate::node) fn new() -> Self {
        Self(Box::pin(sleep(UNSET_DURATION)))
    }

    /// Waits until `deadline`; where something happened less than [`MAX_LATENESS`] ago, perhaps so much longer.
    pub(in crate::node) async fn wait_until(&mut self, deadline: Instant, happened: Instant) {
        let timer = &mut self.0;
        if timer.is_elapsed() || timer.deadline() > deadline + MAX_LATENESS {
            timer.as_mut().reset(deadline);
        }
        loop {
            timer.as_mut().await;
            let now = Instant::now();
            if now >= deadline {
                return;
            }
            // Set for an earlier one. The next will be soon, too, where much happens.
            timer.as_mut().reset(if now < happened + MAX_LATENESS { now + MAX_LATENESS } else { deadline });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_in_time_and_a_little_late_where_much_happens() {
        let ms = Duration::from_millis;
        let mut timer = CoarseTimer::new();
        let began = Instant::now();
        timer.wait_until(began + ms(1), began).await;
        assert_eq!(began.elapsed(), ms(1));
        // It is set for 3 ms, and not set anew for what comes later.
        let ring = timer.wait_until(began + ms(3), began);
        assert!(tokio::time::timeout(ms(1), ring).await.is_err());
        timer.wait_until(began + ms(4), began + ms(2)).await;
        assert_eq!(began.elapsed(), ms(8));
        // Long after that it keeps time.
        let now = Instant::now();
        timer.wait_until(now + ms(2_000), now - ms(100)).await;
        assert_eq!(now.elapsed(), ms(2_000));
        let ring = timer.wait_until(Instant::now() + ms(2_000), now);
        assert!(tokio::time::timeout(ms(100), ring).await.is_err());
        let now = Instant::now();
        timer.wait_until(now + ms(1), now).await;
        assert_eq!(now.elapsed(), ms(1));
    }
}
