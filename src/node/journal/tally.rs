//! What happens too often to be told one by one: it is counted, and told together.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::node::rpc::{Event, EventKind};
use crate::raft_types::RaftId;

/// Heartbeats are told so many looks apart, if nothing else is to be told.
pub(super) const HEARTBEAT_EVERY_MS: u64 = 5_000;

/// Read indexes are told at most so often.
pub(super) const READ_INDEX_EVERY_MS: u64 = 1_000;

/// What went to a member.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    entries: u64,
    last: u64,
    matched: u64,
    in_flight: u64,
    changed: bool,
}

#[derive(Debug, Default)]
struct Counts {
    sent: BTreeMap<RaftId, Sent>,
    /// Entries that came, the last of them, and whose they are.
    received: (u64, u64),
    heartbeats: u64,
    committed: u64,
    applied: u64,
    told_committed: u64,
    told_applied: u64,
    told_rounds: u64,
    told_heartbeats_at: u64,
    told_rounds_at: u64,
}

fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The counts of a node.
#[derive(Debug, Default)]
pub(in crate::node) struct Tally(Mutex<Counts>);

impl Tally {
    /// A request goes to a member; without entries it is a heartbeat.
    pub(super) fn sends(&self, to: RaftId, entries: u64, last: u64) {
        let mut counts = self.0.lock();
        if entries == 0 {
            counts.heartbeats += 1;
            return;
        }
        let sent = counts.sent.entry(to).or_default();
        (sent.entries, sent.last, sent.changed) = (sent.entries + entries, last, true);
        sent.in_flight += 1;
    }

    /// A member has all entries up to `matched`.
    pub(super) fn acknowledged(&self, by: RaftId, matched: u64) {
        let mut counts = self.0.lock();
        let sent = counts.sent.entry(by).or_default();
        if sent.matched < matched {
            (sent.matched, sent.changed) = (matched, true);
        }
        sent.in_flight = if matched >= sent.last { 0 } else { sent.in_flight.saturating_sub(1) };
    }

    /// Entries came from the leader.
    pub(super) fn receives(&self, entries: u64, last: u64) {
        let mut counts = self.0.lock();
        counts.received = (counts.received.0 + entries, last);
    }

    /// Another leader: what was sent is of the past.
    pub(super) fn forget_peers(&self) {
        self.0.lock().sent.clear();
    }

    pub(super) fn committed(&self, index: u64) {
        self.0.lock().committed = index;
    }

    pub(super) fn applied(&self, index: u64) {
        self.0.lock().applied = index;
    }

    /// What is to be told now, in the order of the log.
    pub(super) fn take(
        &self,
        now_ms: u64,
        term: u64,
        rounds: u64,
        name: impl Fn(RaftId) -> String,
        leader: Option<String>,
    ) -> Vec<Event> {
        let mut counts = self.0.lock();
        let mut events = Vec::new();
        let (received, last) = std::mem::take(&mut counts.received);
        if received > 0 {
            let from = leader.clone().unwrap_or_else(|| "its leader".to_owned());
            let text = format!("It took {} from {from}, up to {last}.", many(received, "entry", "entries"));
            let event = Event::new(EventKind::Append, term, last, text).count(received);
            events.push(leader.into_iter().fold(event, Event::peer));
        }
        for (id, sent) in counts.sent.iter_mut().filter(|(_, sent)| sent.changed) {
            let peer = name(*id);
            let Sent { entries, last, matched, in_flight, .. } = *sent;
            let text = match entries {
                0 => format!("{peer} has acknowledged entries up to {matched}."),
                entries => format!(
                    "{} went to {peer}, up to {last}; it has acknowledged up to {matched}, and {} on the way.",
                    many(entries, "entry", "entries"),
                    many(in_flight, "request is", "requests are"),
                ),
            };
            let event = Event::new(EventKind::Append, term, last, text).peer(peer).count(entries);
            events.push(Event { matched: Some(matched), in_flight: Some(in_flight), ..event });
            (sent.entries, sent.changed) = (0, false);
        }
        let (committed, applied) = (counts.committed, counts.applied);
        for (kind, upto, told, what) in [
            (EventKind::Commit, committed, counts.told_committed, "known to be committed"),
            (EventKind::Apply, applied, counts.told_applied, "applied"),
        ] {
            if upto > told {
                let text = format!("Entries up to {upto} are {what}.");
                events.push(Event::new(kind, term, upto, text).count(upto - told));
            }
        }
        (counts.told_committed, counts.told_applied) = (committed, applied);
        if rounds > counts.told_rounds && now_ms >= counts.told_rounds_at + READ_INDEX_EVERY_MS {
            let count = rounds - counts.told_rounds;
            let text = format!("{} confirmed a read index.", many(count, "round", "rounds"));
            events.push(Event::new(EventKind::ReadIndex, term, committed, text).count(count));
            (counts.told_rounds, counts.told_rounds_at) = (rounds, now_ms);
        }
        if counts.heartbeats > 0 && now_ms >= counts.told_heartbeats_at + HEARTBEAT_EVERY_MS {
            let count = std::mem::take(&mut counts.heartbeats);
            let text = format!("{} went out.", many(count, "heartbeat", "heartbeats"));
            events.push(Event::new(EventKind::Heartbeat, term, committed, text).count(count));
            counts.told_heartbeats_at = now_ms;
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_told_together_and_once() {
        let tally = Tally::default();
        let take = |now_ms, rounds| {
            let events = tally.take(now_ms, 3, rounds, |id| format!("n{id}"), None);
            events.into_iter().map(|event| (event.kind, event.index, event.count)).collect::<Vec<_>>()
        };
        assert_eq!(take(0, 0), []);
        (0..10).for_each(|n| tally.sends(2, 1, n + 5));
        (0..7).for_each(|_| tally.sends(2, 0, 0));
        tally.acknowledged(2, 12);
        tally.committed(12);
        tally.applied(11);
        let first = take(HEARTBEAT_EVERY_MS, 3);
        assert_eq!(
            first,
            [
                (EventKind::Append, 14, Some(10)),
                (EventKind::Commit, 12, Some(12)),
                (EventKind::Apply, 11, Some(11)),
                (EventKind::ReadIndex, 12, Some(3)),
                (EventKind::Heartbeat, 12, Some(7)),
            ]
        );
        assert_eq!(take(HEARTBEAT_EVERY_MS + 10, 4), [], "rounds wait for a second");
        tally.receives(2, 14);
        tally.applied(12);
        let second = take(HEARTBEAT_EVERY_MS + 20, 4);
        assert_eq!(second, [(EventKind::Append, 14, Some(2)), (EventKind::Apply, 12, Some(1))]);
    }
}
