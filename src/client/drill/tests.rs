//! Histories that are made up: what is wrong with them is found, and told with the operations that prove it.

use serde_json::json;

use super::check::{Op, What};
use super::faults::{to_stop, voters};
use super::findings::{Finding, Kind, of};
use super::history::{Disturbance, Event, Fault, History, Key, Record, Tenure};
use super::report;

use What::{Cas, Get, Put};

const KEY: Key = Key { group: 0, slot: 3 };
const MS: u64 = 1_000_000;

/// An operation of client 1 through node 0, from and to these milliseconds.
fn record(what: What, called: u64, returned: Option<u64>) -> Record {
    let op = Op { what, called: called * MS, returned: returned.map(|end| end * MS) };
    let index = what.written().filter(|_| returned.is_some());
    Record { client: 1, node: 0, key: KEY, op, index }
}

fn done(what: What, called: u64, returned: u64) -> Record {
    record(what, called, Some(returned))
}

/// The watch told this value, at an index that is the same.
fn event(value: u64) -> Event {
    Event { key: KEY.to_string(), value: Some(value), id: (value, 1), node: "h:1".to_owned() }
}

/// Operations, and a watch that told these.
fn history(records: &[Record], told: &[u64]) -> History {
    History {
        nodes: vec!["h:1".to_owned()],
        records: records.to_vec(),
        events: told.iter().copied().map(event).collect(),
        watch_is_whole: true,
        ..History::default()
    }
}

#[track_caller]
fn only(history: &History, kind: Kind) -> Finding {
    let found = of(history);
    assert_eq!(found.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [kind], "{found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_healthy_history_has_no_findings() {
    let records = [
        done(Put(1), 0, 2),
        record(Put(2), 3, None),
        done(Get(Some(1)), 3, 4),
        done(Cas { from: 1, to: 3 }, 5, 8),
        done(Get(Some(3)), 9, 10),
    ];
    // The one of unknown outcome came, or never did.
    assert_eq!(of(&history(&records, &[1, 3])), []);
    assert_eq!(of(&history(&records, &[1, 2, 3])), []);
}

#[test]
fn a_stale_read_is_told_with_the_write_that_it_missed() {
    let records = [done(Put(1), 0, 1), done(Put(2), 2, 3), done(Get(Some(1)), 4, 5), done(Get(Some(2)), 6, 7)];
    let found = only(&history(&records, &[1, 2]), Kind::StaleRead);
    assert_eq!(found.about, "key 0-3");
    let [write, read] = &found.proof[..] else { panic!("{found:?}") };
    assert_eq!(write, "client 1 wrote 2 through h:1, from 0.002000 s to 0.003000 s, at index 2");
    assert_eq!(read, "client 1 read 1 through h:1, from 0.004000 s to 0.005000 s");
    // A read proves it, too, where the write was never answered.
    let records = [done(Put(1), 0, 1), record(Put(2), 2, None), done(Get(Some(2)), 3, 4), done(Get(Some(1)), 5, 6)];
    let found = only(&history(&records, &[1, 2]), Kind::StaleRead);
    assert!(found.proof[0].contains("read 2") && found.proof[1].contains("read 1"), "{found:?}");
    // And nothing is as old as can be.
    let records = [done(Put(1), 0, 1), done(Get(None), 2, 3)];
    assert!(only(&history(&records, &[1]), Kind::StaleRead).proof[1].contains("read nothing"));
}

#[test]
fn a_lost_write_is_told_with_the_read_that_did_not_find_it() {
    let records = [done(Put(1), 0, 1), done(Put(2), 2, 3), done(Get(Some(1)), 4, 5)];
    let found = of(&history(&records, &[1]));
    assert_eq!(found.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::LostWrite, Kind::WatchGap]);
    assert!(found[0].proof[0].contains("wrote 2") && found[0].proof[1].contains("read 1"), "{found:?}");
    // A lost update: two found the same value.
    let records = [done(Put(1), 0, 1), done(Cas { from: 1, to: 2 }, 2, 3), done(Cas { from: 1, to: 3 }, 4, 5)];
    let found = only(&history(&records, &[1, 2, 3]), Kind::StaleRead);
    assert!(found.proof[1].contains("found 1 and wrote 3"), "{found:?}");
}

#[test]
fn a_value_that_nobody_wrote_is_told() {
    let found = only(&history(&[done(Get(Some(9)), 0, 1)], &[]), Kind::NotLinearizable);
    assert_eq!(found.why, "No client ever wrote 9");
    let records = [done(Get(Some(1)), 0, 1), done(Put(1), 2, 3)];
    assert!(only(&history(&records, &[1]), Kind::NotLinearizable).why.contains("before it was written"));
    // It was said that nothing was done.
    assert!(only(&history(&[], &[4]), Kind::NotLinearizable).why.contains("nothing was done"));
    // No two operations prove this one: two readers saw two writes in another order.
    let records = [
        done(Put(1), 0, 9),
        done(Put(2), 0, 9),
        done(Get(Some(1)), 1, 2),
        done(Get(Some(2)), 3, 4),
        done(Get(Some(1)), 5, 6),
    ];
    let found = only(&history(&records, &[1, 2]), Kind::NotLinearizable);
    assert!(found.proof.iter().any(|operation| operation.contains("read 1")), "{found:?}");
}

/// The key is written by one request alone, which was done twice.
#[test]
fn what_was_done_twice_is_told() {
    // It was added twice, which the next read says, and the watch.
    let mut added = history(&[done(Put(3), 0, 1), done(Get(Some(6)), 2, 3)], &[3, 6]);
    let found = of(&added);
    assert!(found.iter().all(|finding| finding.kind == Kind::NotLinearizable) && found.len() == 2, "{found:#?}");
    assert!(found[0].why.contains("No client ever wrote 6") && found[1].why.contains("nobody wrote"), "{found:#?}");
    // It does not help that another key has got the value meanwhile.
    let other = Key { group: 0, slot: 4 };
    added.records.push(Record { key: other, ..done(Put(6), 0, 1) });
    added.events.push(Event { key: other.to_string(), id: (7, 1), ..event(6) });
    added.records.last_mut().unwrap().index = Some(7);
    assert_eq!(of(&added), found);
    // It was created, and then refused as it was there: it found what it had written.
    let found = of(&history(&[done(Get(Some(3)), 0, 1)], &[3]));
    assert!(found.len() == 2 && found[0].why.contains("No client ever wrote 3"), "{found:#?}");
    // It was written twice: nothing but the watch tells.
    only(&history(&[done(Put(3), 0, 1), done(Get(Some(3)), 2, 3)], &[3, 3]), Kind::WatchRepetition);
}

#[test]
fn a_gap_of_the_watch_is_told_with_the_write_and_what_came_after() {
    let records = [done(Put(1), 0, 1), done(Put(2), 2, 3), done(Put(3), 4, 5)];
    let found = only(&history(&records, &[1, 3]), Kind::WatchGap);
    assert!(found.proof[0].contains("wrote 2"), "{found:?}");
    assert_eq!(found.proof[1], "the watch at h:1 told 0-3 = 3, with the id 3.1");
    // It was told that history was too short.
    let told = History { holes: vec![(1, 2)], ..history(&records, &[1, 3]) };
    assert_eq!(of(&told), []);
    let broken_off = History { watch_is_whole: false, ..history(&records, &[1, 2]) };
    assert!(only(&broken_off, Kind::WatchGap).why.contains("last write"));
    let mut elsewhere = history(&records, &[1, 2, 3]);
    elsewhere.events[2].id = (7, 1);
    assert!(only(&elsewhere, Kind::WatchGap).why.contains("another index"));
}

#[test]
fn a_repetition_of_the_watch_is_told() {
    let records = [done(Put(1), 0, 1), done(Put(2), 2, 3)];
    let found = only(&history(&records, &[1, 2, 2]), Kind::WatchRepetition);
    assert_eq!(found.proof.len(), 2);
    assert_eq!(only(&history(&records, &[2, 1]), Kind::WatchRepetition).proof.len(), 2);
}

#[test]
fn what_is_read_again_is_looked_at_too() {
    let records = [done(Put(1), 0, 1), done(Put(2), 2, 3)];
    let again =
        |told: &[u64]| History { again: Some(told.iter().copied().map(event).collect()), ..history(&records, &[1, 2]) };
    assert_eq!(of(&again(&[1, 2])), []);
    only(&again(&[2]), Kind::WatchGap);
    only(&again(&[1, 2, 2]), Kind::WatchRepetition);
}

#[test]
fn an_overlap_of_the_lock_is_told() {
    let tenure = |client, token, from, until| Tenure { client, token, asked: from, from, until };
    let with = |tenures: &[Tenure]| History { tenures: tenures.to_vec(), ..history(&[], &[]) };
    assert_eq!(of(&with(&[tenure(0, 5, 10, 20), tenure(1, 7, 20, 30), tenure(0, 9, 31, 40)])), []);
    let found = only(&with(&[tenure(0, 5, 10, 20), tenure(1, 7, 19, 30)]), Kind::LockOverlap);
    assert!(found.proof[0].contains("token 5") && found.proof[1].contains("token 7"), "{found:?}");
    // A long one over a short one that is over.
    only(&with(&[tenure(0, 5, 10, 50), tenure(1, 4, 1, 3), tenure(1, 7, 49, 60)]), Kind::LockOverlap);
    let found = only(&with(&[tenure(0, 5, 10, 20), tenure(1, 5, 30, 40)]), Kind::LockOverlap);
    assert_eq!(found.why, "The fencing token did not grow");
}

#[test]
fn findings_are_as_many_as_can_be_read() {
    let records: Vec<Record> = (1..1000).map(|value| done(Put(value), value, value)).collect();
    assert_eq!(of(&history(&records, &[1000])).iter().filter(|found| found.kind == Kind::WatchGap).count(), 5);
    let lost = History { lost_nodes: vec!["h:1 did not come back: it is gone".to_owned()], ..history(&[], &[]) };
    assert_eq!(only(&lost, Kind::NodeLost).why, "h:1 did not come back: it is gone");
}

#[test]
fn gaps_are_those_around_what_was_done() {
    let ends = [0, 100, 200, 700, 800, 3_000, 3_100, 3_200, 3_450, 6_000];
    let records: Vec<Record> = ends.iter().map(|&end| done(Put(end), end, end)).collect();
    let moved = |from: u64, until: u64, failed: Option<String>| Disturbance {
        fault: Fault::Move,
        node: "h:1".to_owned(),
        from: from * MS,
        until: until * MS,
        failed,
    };
    let mut history = history(&records, &[]);
    history.disturbances = vec![moved(250, 260, None), moved(3_210, 3_220, None), moved(1, 2, Some("no".to_owned()))];
    let gaps = report::gaps(&history, Fault::Move);
    // The stall from 800 to 3,000 begins within two seconds of the first; that from 3,450 to 6,000 within the second's.
    assert_eq!((gaps.count, gaps.failed), (2, 1));
    assert_eq!((gaps.longest, gaps.median), (2_550 * MS, 2_550 * MS));
    assert_eq!(report::gaps(&history, Fault::Stop), report::Gaps::default());
    assert_eq!(report::stalls(&history), [2_200 * MS, 2_550 * MS]);
    let text = report::text(&history, &[], 6.0);
    assert!(text.contains("2, 1 failed (no); without an acknowledged write 2550 ms at most"), "{text}");
    assert!(text.contains("2 of more than 1 s, the longest 2550 ms"), "{text}");
}

#[test]
fn no_node_is_stopped_that_a_quorum_needs() {
    let cluster = |states: &[&str]| {
        let server =
            |(at, state): (usize, &&str)| json!({"id": format!("h:{at},h:1{at}"), "suffrage": "Voter", "state": state});
        let mut servers: Vec<_> = states.iter().enumerate().map(server).collect();
        servers.push(json!({"id": "h:9,h:19", "suffrage": "Nonvoter", "state": "Learner"}));
        voters(&json!({"servers": servers, "leader": {"id": "h:0,h:10"}}))
    };
    let stopped = |states: &[&str], turn| to_stop(&cluster(states), turn).map(|voter| voter.haddr.clone());
    let (leader, follower) = ("Leader", "Follower");
    let three = [leader, follower, follower];
    let turns: Vec<_> = (0..7).filter_map(|turn| stopped(&three, turn)).collect();
    assert_eq!(turns, ["h:0", "h:0", "h:1", "h:0", "h:0", "h:2", "h:0"]);
    assert_eq!(stopped(&[leader, follower, "Lost"], 0), None);
    assert_eq!(stopped(&[leader, follower], 0), None);
    assert_eq!(stopped(&[leader], 0), None);
    assert_eq!(stopped(&[leader, follower, follower, follower, "Lost"], 0).as_deref(), Some("h:0"));
    let leaderless = voters(&json!({"servers": [], "leader": null}));
    assert_eq!(to_stop(&leaderless, 0), None);
}
