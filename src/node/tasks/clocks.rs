//! How the clocks of the other members go, beside this node's own.
//!
//! Each member is asked now and then for the time of its machine, and for that of a clock which nobody sets. From the first
//! follows by how much the clocks differ, from two of the second at what rates they run. An answer was made at some time
//! between the question and its receipt: nothing more is known, so both are told with how far they may be off.
//!
//! Nothing in hraftd goes by what is found here. It is for those who look at clocks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::interval;

use crate::formats::Format;
use crate::node::Node;
use crate::node::rpc::{ClockRate, ClockReading, PeerReply, PeerRequest, Target};
use crate::platform::wall_ms;
use crate::raft_types::RaftId;

/// How often members are asked.
const INTERVAL: Duration = Duration::from_secs(10);

/// An answer that takes longer tells too little.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The format from which on members tell their time.
const SINCE: Format = Format(2);

/// Rates are those of the last five minutes.
const MAX_READINGS: usize = 30;

/// What is known of the clocks of others.
#[derive(Debug, Default)]
pub(in crate::node) struct Clocks(Mutex<BTreeMap<RaftId, VecDeque<Comparison>>>);

/// A clock of another beside this node's.
#[derive(Debug, Clone, Copy)]
struct Comparison {
    /// This node's clock when it asked, and how long the answer took, in microseconds.
    asked: u64,
    took: u64,
    /// This node's wall clock when it asked, in milliseconds since 1970.
    asked_ms: u64,
    answer: ClockReading,
}

impl Comparison {
    /// By how much the other's wall clock is ahead of this node's, as far as the answer shows it.
    fn skew_ms(&self) -> i64 {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let theirs = signed(self.answer.wall_ms);
        let (from, upto) = (signed(self.asked_ms), signed(self.asked_ms + self.took.div_ceil(1_000)));
        if theirs > upto { theirs - upto } else { theirs.min(from) - from }
    }
}

/// The rate of another's clock from two comparisons with it.
fn rate(first: &Comparison, last: &Comparison) -> Option<(i64, u64)> {
    let own = i128::from(last.asked.checked_sub(first.asked)?);
    let theirs = i128::from(last.answer.stamp.micros) - i128::from(first.answer.stamp.micros);
    if own == 0 {
        return None;
    }
    let ppm = |difference: i128| i64::try_from(difference * 1_000_000 / own).unwrap_or(i64::MAX);
    // Each answer may have been made at any time while it was waited for.
    let (slowest, fastest) = (theirs - own - i128::from(last.took), theirs - own + i128::from(first.took));
    let (slowest, fastest) = (ppm(slowest), ppm(fastest));
    let middle = slowest.midpoint(fastest);
    Some((middle, fastest.abs_diff(middle)))
}

impl Clocks {
    fn note(&self, member: RaftId, comparison: Comparison) {
        let mut all = self.0.lock();
        let readings = all.entry(member).or_default();
        if readings.back().is_some_and(|last| last.answer.stamp.boot != comparison.answer.stamp.boot) {
            // Another process: its clock began anew.
            readings.clear();
        }
        if readings.len() == MAX_READINGS {
            readings.pop_front();
        }
        readings.push_back(comparison);
    }

    fn keep(&self, is_member: impl Fn(RaftId) -> bool) {
        self.0.lock().retain(|member, _| is_member(*member));
    }

    /// By how many seconds a member's wall clock is ahead of this node's; `None` where that is not known.
    pub(in crate::node) fn skew_seconds(&self, member: RaftId) -> Option<f64> {
        let all = self.0.lock();
        Some(all.get(&member)?.back()?.skew_ms() as f64 / 1e3)
    }

    /// The rates of the others' clocks.
    pub(in crate::node) fn rates(&self) -> Vec<ClockRate> {
        let all = self.0.lock();
        let rates = all.iter().filter_map(|(member, readings)| {
            let (ppm, unsure_ppm) = rate(readings.front()?, readings.back()?)?;
            Some(ClockRate { member: *member, ppm, unsure_ppm })
        });
        rates.collect()
    }
}

impl Node {
    /// What this node's clocks say.
    pub(in crate::node) fn clock_reading(&self) -> ClockReading {
        ClockReading { stamp: self.inner.freshness.stamp(), wall_ms: wall_ms() }
    }

    /// Asks the other members for their time, now and then.
    pub(in crate::node) async fn compare_clocks(self) {
        let mut tick = interval(INTERVAL);
        loop {
            tick.tick().await;
            let members = self.members();
            self.inner.clocks.keep(|raft_id| members.iter().any(|member| member.raft_id == raft_id));
            if self.format() < SINCE {
                continue;
            }
            let me = self.inner.me.raft_id();
            let others = members.into_iter().filter(|member| member.raft_id != me);
            join_all(others.map(async |member| {
                let target = Target { raft_id: Some(member.raft_id), id: member.server.id };
                let (asked, asked_ms) = (self.inner.freshness.stamp().micros, wall_ms());
                let answer = self.inner.peers.call(&target, PeerRequest::Clock, TIMEOUT);
                let Ok(Ok(PeerReply::Clock(answer))) = tokio::time::timeout(TIMEOUT, answer).await else { return };
                let took = self.inner.freshness.stamp().micros.saturating_sub(asked);
                self.inner.clocks.note(member.raft_id, Comparison { asked, took, asked_ms, answer });
            }))
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::rpc::Stamp;

    fn compared(asked: u64, took: u64, theirs: u64, wall_ms: u64) -> Comparison {
        let stamp = Stamp { boot: 7, micros: theirs };
        Comparison { asked, took, asked_ms: 1_000_000, answer: ClockReading { stamp, wall_ms } }
    }

    #[test]
    fn a_clock_that_is_set_wrong() {
        for (wall_ms, seconds) in
            [(1_000_000, 0.0), (1_000_020, 0.0), (1_000_021, 0.001), (1_005_020, 5.0), (990_000, -10.0)]
        {
            let clocks = Clocks::default();
            clocks.note(2, compared(0, 20_000, 0, wall_ms));
            assert_eq!(clocks.skew_seconds(2), Some(seconds), "{wall_ms}");
            assert_eq!(clocks.skew_seconds(3), None);
        }
    }

    #[test]
    fn a_clock_that_is_fast() {
        let clocks = Clocks::default();
        assert!(clocks.rates().is_empty());
        clocks.note(2, compared(1_000_000, 1_000, 50_000_500, 1_000_000));
        assert!(clocks.rates().is_empty(), "one reading is none");
        // 101 s of its clock in 100 s of this one.
        clocks.note(2, compared(101_000_000, 1_000, 151_000_500, 1_000_000));
        let rates = clocks.rates();
        assert_eq!((rates[0].ppm, rates[0].unsure_ppm), (10_000, 10));
        // Answers that take long make it uncertain.
        clocks.note(2, compared(201_000_000, 900_000, 250_000_500, 1_000_000));
        let unsure = clocks.rates()[0].unsure_ppm;
        assert!((2_000..3_000).contains(&unsure), "{unsure}");
        clocks.note(
            2,
            Comparison {
                answer: ClockReading { stamp: Stamp { boot: 8, micros: 1 }, wall_ms: 1 },
                ..compared(301_000_000, 1, 0, 0)
            },
        );
        assert!(clocks.rates().is_empty(), "another process");
        clocks.keep(|_| false);
        assert_eq!(clocks.skew_seconds(2), None);
    }
}
