//! When entries came how far.
//!
//! Entries go through each stage in order, so a stage is a list of marks: up to this index at this time. A batch costs one
//! mark, however many entries it has, and so the time of any entry that is not too old can be looked up later, by who
//! wants to know.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use crate::node::rpc::Stages;
use crate::raft_types::RaftId;
use crate::task::Moment;

/// Marks of each stage, and so entries at least.
pub(in crate::node) const MARKS: usize = 4_096;

/// Times of this process: microseconds since it began.
pub(in crate::node) type Micros = u64;

/// The marks of one stage.
#[derive(Debug, Default)]
struct Stage {
    /// Ascending in both.
    marks: VecDeque<(u64, Micros)>,
    /// Nothing is known of entries up to this one.
    known_after: Option<u64>,
}

impl Stage {
    /// Entries up to `index` have come so far, of which those up to `before` had done so before.
    fn reached(&mut self, before: u64, index: u64, at: Micros) {
        self.known_after.get_or_insert(before);
        if self.marks.back().is_some_and(|(last, _)| *last >= index) {
            return;
        }
        if self.marks.len() == MARKS
            && let Some((dropped, _)) = self.marks.pop_front()
        {
            self.known_after = Some(dropped);
        }
        self.marks.push_back((index, at));
    }

    /// Entries after `index` are gone.
    fn truncated(&mut self, index: u64) {
        let mut at = None;
        while self.marks.back().is_some_and(|(last, _)| *last > index) {
            at = self.marks.pop_back().map(|(_, at)| at);
        }
        // Those before it in the same batch stay.
        if let (Some(at), true) = (at, self.known_after.is_some_and(|known| known < index)) {
            let last = self.marks.back().map(|(last, _)| *last);
            if last.or(self.known_after) < Some(index) {
                self.marks.push_back((index, at));
            }
        }
        self.known_after = self.known_after.map(|known| known.min(index));
    }

    fn at(&self, index: u64) -> Option<Micros> {
        if self.known_after.is_none_or(|known| index <= known) {
            return None;
        }
        let place = self.marks.partition_point(|(upto, _)| *upto < index);
        self.marks.get(place).map(|(_, at)| *at)
    }
}

/// The stages of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Step {
    /// In the log, as handed to it.
    Appended,
    /// On the disk.
    Flushed,
    /// Known to be committed.
    Committed,
    /// Applied.
    Applied,
}

/// What a leader knows of an entry at a follower.
#[derive(Debug, Default)]
struct Peer {
    sent: Stage,
    acknowledged: Stage,
}

/// When the newest entries came how far, at this node.
#[derive(Debug)]
pub(in crate::node) struct Timeline {
    began: Moment,
    stages: [Mutex<Stage>; 4],
    peers: Mutex<BTreeMap<RaftId, Peer>>,
    /// By index, the member that passed an entry on, and when it was where.
    origins: Mutex<VecDeque<(u64, RaftId, Proposed)>>,
}

/// The times of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::node) struct EntryTimes {
    pub(in crate::node) appended: Micros,
    pub(in crate::node) flushed: Option<Micros>,
    pub(in crate::node) committed: Option<Micros>,
    pub(in crate::node) applied: Option<Micros>,
    /// When it was sent to each, and when each had acknowledged it.
    pub(in crate::node) peers: Vec<(RaftId, Option<Micros>, Option<Micros>)>,
    /// The member that passed it on.
    pub(in crate::node) from: Option<RaftId>,
}

/// When a proposal was where; on the clock of the node that proposed it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proposed {
    /// When it was asked for.
    pub(in crate::node) asked: Micros,
    /// When its batch was handed to Raft.
    pub(in crate::node) handed: Micros,
    /// When its outcome was told.
    pub(in crate::node) told: Micros,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { began: Moment::now(), stages: Default::default(), peers: Mutex::default(), origins: Mutex::default() }
    }
}

impl Timeline {
    /// The time.
    pub(in crate::node) fn now(&self) -> Micros {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long ago a time was.
    pub(in crate::node) fn since(&self, at: Micros) -> Duration {
        Duration::from_micros(self.now().saturating_sub(at))
    }

    /// Entries after `before` and up to `index` have come so far.
    pub(in crate::node) fn reached(&self, step: Step, before: u64, index: u64) {
        let now = self.now();
        self.stages[step as usize].lock().reached(before, index, now);
    }

    /// Entries after `index` were dropped.
    pub(in crate::node) fn truncated(&self, index: u64) {
        self.stages.iter().for_each(|stage| stage.lock().truncated(index));
        self.forget_peers();
    }

    /// Another leader: what was sent to whom is no more.
    pub(in crate::node) fn forget_peers(&self) {
        self.peers.lock().clear();
    }

    /// Entries after `before` and up to `index` are sent to a member.
    pub(in crate::node) fn sends(&self, to: RaftId, before: u64, index: u64) {
        let now = self.now();
        self.peers.lock().entry(to).or_default().sent.reached(before, index, now);
    }

    /// A member has acknowledged all entries up to `index`.
    pub(in crate::node) fn acknowledged(&self, by: RaftId, index: u64) {
        let now = self.now();
        let mut peers = self.peers.lock();
        let peer = peers.entry(by).or_default();
        // What was never sent from here was acknowledged to another.
        let before = peer.sent.known_after.unwrap_or(index);
        peer.acknowledged.reached(before, index, now);
    }

    /// These entries were passed on by a member.
    pub(in crate::node) fn passed_on(&self, by: RaftId, entries: impl Iterator<Item = (u64, Proposed)>) {
        let mut origins = self.origins.lock();
        for (index, proposed) in entries {
            if origins.len() == MARKS {
                origins.pop_front();
            }
            origins.push_back((index, by, proposed));
        }
    }

    /// When an entry that a member passed on was where.
    pub(in crate::node) fn passed_on_at(&self, index: u64) -> Option<Proposed> {
        self.origins.lock().iter().rev().find(|(of, ..)| *of == index).map(|(.., proposed)| *proposed)
    }

    fn at(&self, step: Step, index: u64) -> Option<Micros> {
        self.stages[step as usize].lock().at(index)
    }

    /// The times of an entry; `None` where it is too old, or yet to come.
    pub(in crate::node) fn entry(&self, index: u64) -> Option<EntryTimes> {
        let appended = self.at(Step::Appended, index)?;
        let peers = self.peers.lock();
        let peers = peers.iter().map(|(id, peer)| (*id, peer.sent.at(index), peer.acknowledged.at(index)));
        Some(EntryTimes {
            appended,
            flushed: self.at(Step::Flushed, index),
            committed: self.at(Step::Committed, index),
            applied: self.at(Step::Applied, index),
            peers: peers.filter(|(_, sent, acked)| sent.is_some() || acked.is_some()).collect(),
            from: self.origins.lock().iter().rev().find(|(of, ..)| *of == index).map(|(_, from, _)| *from),
        })
    }

    /// Where the time of a write went, whose entry is at `index`; `None` where that is too old.
    pub(in crate::node) fn stages(&self, index: u64, proposed: Proposed) -> Option<Stages> {
        let Proposed { asked, handed, told } = proposed;
        let appended = self.at(Step::Appended, index)?.clamp(handed, told);
        let committed = self.at(Step::Committed, index).unwrap_or(told).clamp(appended, told);
        let applied = self.at(Step::Applied, index).unwrap_or(told).clamp(committed, told);
        // A leader whose disk is slow may apply what others have on theirs.
        let flushed = self.at(Step::Flushed, index).filter(|at| *at <= applied).unwrap_or(committed).max(appended);
        let committed = committed.max(flushed);
        Some(Stages {
            wait_us: handed.saturating_sub(asked),
            propose_us: appended - handed,
            flush_us: flushed - appended,
            quorum_us: committed - flushed,
            apply_us: told - committed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_for_all_entries_up_to_it() {
        let mut stage = Stage::default();
        assert_eq!(stage.at(1), None);
        stage.reached(4, 6, 100);
        stage.reached(6, 9, 200);
        stage.reached(6, 9, 300);
        let at = |stage: &Stage| (4..=10).map(|index| stage.at(index)).collect::<Vec<_>>();
        let (first, second) = (Some(100), Some(200));
        assert_eq!(at(&stage), [None, first, first, second, second, second, None]);
        stage.truncated(7);
        assert_eq!(at(&stage), [None, first, first, second, None, None, None]);
        stage.reached(7, 8, 400);
        assert_eq!(stage.at(8), Some(400));
        stage.truncated(2);
        assert_eq!(at(&stage), [None; 7]);
        stage.reached(2, 3, 500);
        assert_eq!((stage.at(2), stage.at(3)), (None, Some(500)));
    }

    #[test]
    fn old_marks_are_dropped() {
        let mut stage = Stage::default();
        (0..MARKS as u64 + 10).for_each(|n| stage.reached(n * 2, n * 2 + 2, n));
        assert_eq!((stage.at(20), stage.at(21)), (None, Some(10)));
        assert_eq!(stage.marks.len(), MARKS);
    }

    /// Without a clock: the marks are set by hand.
    fn timeline(marks: [Option<Micros>; 4]) -> Timeline {
        let timeline = Timeline::default();
        for (stage, at) in timeline.stages.iter().zip(marks) {
            if let Some(at) = at {
                stage.lock().reached(6, 7, at);
            }
        }
        timeline
    }

    #[test]
    fn parts_follow_one_another_and_add_up() {
        let proposed = Proposed { asked: 100, handed: 110, told: 200 };
        let parts = |marks| {
            let stages = timeline(marks).stages(7, proposed).unwrap();
            assert_eq!(stages.sum_us(), 100);
            [stages.wait_us, stages.propose_us, stages.flush_us, stages.quorum_us, stages.apply_us]
        };
        assert_eq!(parts([Some(115), Some(130), Some(160), Some(190)]), [10, 5, 15, 30, 40]);
        // Others were faster, and the entry was applied once it was here, too.
        assert_eq!(parts([Some(115), Some(180), Some(160), Some(190)]), [10, 5, 65, 0, 20]);
        // It was applied before it was here.
        assert_eq!(parts([Some(115), Some(199), Some(160), Some(190)]), [10, 5, 45, 0, 40]);
        assert_eq!(parts([Some(115), None, Some(160), Some(190)]), [10, 5, 45, 0, 40]);
        assert_eq!(timeline([None; 4]).stages(7, proposed), None);
    }

    /// Each is told at the time at which it was noted, neither before nor after.
    #[test]
    fn what_is_noted_is_told_as_of_then() {
        let (timeline, peer) = (Timeline::default(), RaftId::from(2u8));
        let during = |note: &dyn Fn()| {
            let before = timeline.now();
            note();
            before..=timeline.now()
        };
        let appended = during(&|| timeline.reached(Step::Appended, 6, 7));
        let sent = during(&|| timeline.sends(peer, 6, 7));
        let flushed = during(&|| timeline.reached(Step::Flushed, 6, 7));
        let acknowledged = during(&|| timeline.acknowledged(peer, 7));
        let committed = during(&|| timeline.reached(Step::Committed, 6, 7));
        let applied = during(&|| timeline.reached(Step::Applied, 6, 7));
        let told = timeline.entry(7).unwrap();
        assert!(appended.contains(&told.appended), "{told:?}");
        let [(id, sent_at, acknowledged_at)] = told.peers[..] else { panic!("{told:?}") };
        assert_eq!(id, peer);
        for (when, at) in [
            (sent, sent_at),
            (flushed, told.flushed),
            (acknowledged, acknowledged_at),
            (committed, told.committed),
            (applied, told.applied),
        ] {
            assert!(at.is_some_and(|at| when.contains(&at)), "{when:?}: {told:?}");
        }
    }
}
