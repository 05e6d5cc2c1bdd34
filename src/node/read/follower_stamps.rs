//! Stamps that followers gave with their answers, as their leader has them.
//!
//! A stamp goes back to its follower once the leader can say more of it, see [`freshness`](super::freshness). Only the
//! order in which things happened here counts: a stamp was given before it was received.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::node::rpc::Stamp;
use crate::raft_types::RaftId;

/// Stamps that follow one another faster are not kept: a follower is taken for older by so much.
const MIN_STAMP_INTERVAL: Duration = Duration::from_millis(1);

/// The most stamps of a follower. Where no quorum answers, those that are there stay, and later ones are not kept.
const MAX_STAMPS: usize = 256;

/// Stamps by follower.
#[derive(Debug, Default)]
pub(in crate::node) struct FollowerStamps(Mutex<BTreeMap<RaftId, Stamps>>);

#[derive(Debug)]
struct Stamps {
    newest: Stamp,
    /// When each was received, oldest first.
    received: VecDeque<(Instant, Stamp)>,
}

impl FollowerStamps {
    /// A follower gave this stamp.
    pub(in crate::node) fn received(&self, from: RaftId, stamp: Stamp) {
        let now = Instant::now();
        let mut all = self.0.lock();
        let stamps = all.entry(from).or_insert_with(|| Stamps { newest: stamp, received: VecDeque::new() });
        if stamps.newest.boot != stamp.boot {
            // Another process by now, to which the stamps of the last one mean nothing.
            *stamps = Stamps { newest: stamp, received: VecDeque::new() };
        } else if stamps.newest.micros < stamp.micros {
            stamps.newest = stamp;
        }
        let is_later = stamps
            .received
            .back()
            .is_none_or(|(at, last)| last.micros < stamp.micros && now >= *at + MIN_STAMP_INTERVAL);
        if is_later && stamps.received.len() < MAX_STAMPS {
            stamps.received.push_back((now, stamp));
        }
    }

    /// The newest stamp of a follower.
    pub(in crate::node) fn newest(&self, from: RaftId) -> Option<Stamp> {
        self.0.lock().get(&from).map(|stamps| stamps.newest)
    }

    /// The newest stamp of a follower that was received by then; older ones are forgotten.
    pub(in crate::node) fn received_by(&self, from: RaftId, moment: Instant) -> Option<Stamp> {
        let mut all = self.0.lock();
        let received = &mut all.get_mut(&from)?.received;
        while received.get(1).is_some_and(|(at, _)| *at <= moment) {
            received.pop_front();
        }
        received.front().filter(|(at, _)| *at <= moment).map(|(_, stamp)| *stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn stamp(micros: u64) -> Stamp {
        Stamp { boot: 7, micros }
    }

    async fn pass(ms: u64) -> Instant {
        tokio::time::advance(Duration::from_millis(ms)).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stamp_counts_from_when_it_was_received() {
        let (stamps, began) = (FollowerStamps::default(), pass(1).await);
        assert_eq!((stamps.newest(2), stamps.received_by(2, began)), (None, None));
        stamps.received(2, stamp(10));
        let between = pass(5).await;
        let later = pass(5).await;
        stamps.received(2, stamp(20));
        assert_eq!(stamps.newest(2), Some(stamp(20)));
        assert_eq!(stamps.received_by(2, began - Duration::from_millis(1)), None);
        assert_eq!(stamps.received_by(2, between), Some(stamp(10)));
        stamps.received(2, stamp(15));
        assert_eq!(stamps.received_by(2, later), Some(stamp(20)), "an answer that was overtaken tells nothing new");
        assert_eq!(stamps.received_by(3, later), None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_process_begins_anew() {
        let stamps = FollowerStamps::default();
        stamps.received(2, stamp(1_000));
        let reborn = Stamp { boot: 8, micros: 1 };
        stamps.received(2, reborn);
        assert_eq!((stamps.newest(2), stamps.received_by(2, Instant::now())), (Some(reborn), Some(reborn)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_stay_where_no_quorum_answers() {
        let (stamps, began) = (FollowerStamps::default(), Instant::now());
        for ms in 1..=1_000 {
            stamps.received(2, stamp(ms * 1_000));
            pass(1).await;
        }
        assert_eq!(stamps.received_by(2, began), Some(stamp(1_000)));
        assert_eq!(stamps.received_by(2, Instant::now()), Some(stamp(MAX_STAMPS as u64 * 1_000)));
        stamps.received(2, stamp(2_000_000));
        assert_eq!(stamps.received_by(2, Instant::now()), Some(stamp(2_000_000)), "there is room again");
    }
}
