//! When this node last heard from a leader, and how fresh that leader's own authority was.
//!
//! A leader says with each message how long ago a quorum acknowledged it, and what is committed. The
//! state here is as fresh as the newest such moment whose commit index is applied here: by then
//! nobody else can have committed anything that is missing. A leader that is cut off goes on calling
//! but gets no younger.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Moments that wait to be applied; one a heartbeat, so this is some seconds' worth.
const MAX_PENDING: usize = 64;

/// What was heard from leaders.
#[derive(Debug, Default)]
pub(in crate::node) struct LeaderFreshness(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    last: Option<Instant>,
    /// The newest moment at which this node's applied state was all that was committed.
    fresh: Option<Instant>,
    /// Moments with their commit index, oldest first.
    pending: VecDeque<(Instant, u64)>,
}

impl LeaderFreshness {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock()
    }

    /// A leader was heard just now.
    pub(in crate::node) fn heard(&self) {
        self.lock().last = Some(Instant::now());
    }

    /// A leader that a quorum acknowledged `quorum_age` ago says that `committed` is committed.
    pub(in crate::node) fn heard_quorum(&self, quorum_age: Duration, committed: u64) {
        let Some(at) = Instant::now().checked_sub(quorum_age) else { return };
        let mut heard = self.lock();
        if heard.pending.back().is_some_and(|(newest, _)| *newest >= at) {
            return;
        }
        if heard.pending.len() == MAX_PENDING {
            heard.pending.pop_front();
        }
        heard.pending.push_back((at, committed));
    }

    /// How long ago a leader was last heard; `None` for never.
    pub(in crate::node) fn age(&self) -> Option<Duration> {
        self.lock().last.map(|at| at.elapsed())
    }

    /// How old the state may be that has everything up to `applied`; `None` for not known.
    pub(in crate::node) fn staleness(&self, applied: u64) -> Option<Duration> {
        let mut heard = self.lock();
        while let Some((at, committed)) = heard.pending.front().copied()
            && committed <= applied
        {
            heard.fresh = Some(at);
            heard.pending.pop_front();
        }
        heard.fresh.map(|at| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_is_as_old_as_the_newest_moment_it_covers() {
        let contact = LeaderFreshness::default();
        tokio::time::advance(ms(1000)).await;
        assert_eq!(contact.staleness(9), None);
        contact.heard_quorum(ms(20), 5);
        assert_eq!(contact.staleness(4), None);
        assert_eq!(contact.staleness(5), Some(ms(20)));
        tokio::time::advance(ms(100)).await;
        contact.heard_quorum(ms(10), 8);
        assert_eq!(contact.staleness(7), Some(ms(120)), "what was committed later is not applied yet");
        assert_eq!(contact.staleness(8), Some(ms(10)));
        // A leader that is cut off: its authority only ages.
        tokio::time::advance(ms(500)).await;
        contact.heard_quorum(ms(510), 8);
        assert_eq!(contact.staleness(8), Some(ms(510)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded() {
        let contact = LeaderFreshness::default();
        for index in 0..1000 {
            tokio::time::advance(ms(1)).await;
            contact.heard_quorum(ms(0), index);
        }
        assert_eq!(contact.staleness(935), None, "the oldest are forgotten");
        assert_eq!(contact.staleness(2000), Some(ms(0)));
    }
}
