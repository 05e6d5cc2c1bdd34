//! Issue 22: what a cluster tells of itself, beside what a proxy between its nodes saw. No message is told of that did not
//! pass, none passed that is not told of, and the times of entries lie around the moments at which it saw them.

mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use hraftd::raft_types::alias::LogId;
use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::events::{follow, time};
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::ports;
use crate::support::wait::{SETTLE, check, eventually};
use crate::visible;
use tap::{Seen, Tap, What};

/// Three nodes that reach each other through a proxy alone.
fn behind_a_tap() -> (Cluster, Tap) {
    let (lab, mut tap) = (Lab::new(), Tap::default());
    let node = |number: usize| {
        let mut node = lab.node(&format!("n{number}"));
        let port = ports::free_pair();
        let advertised = format!("127.0.0.1:{port}");
        let bound = std::mem::replace(&mut node.raddr, advertised.clone());
        node.bind.extend(["--raddr".to_owned(), bound.clone()]);
        tap.add(port, bound);
        node.args(&["--radv", &advertised])
    };
    let nodes: Vec<Node> = (0..3).map(node).collect();
    let list: Vec<String> = nodes.iter().map(|node| node.haddr.clone()).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let nodes = nodes.into_iter().map(|node| node.rjoin(&list)).collect();
    let mut cluster = Cluster { nodes, lab };
    cluster.start_all();
    cluster.settled();
    (cluster, tap)
}

/// Of one question between two nodes: who asked, who was asked, whether it was a pre-vote, and the term.
type Question = (String, String, bool, u64);

fn counted<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts
}

/// One where the first has more than the second.
fn more<'a, T: Ord>(of: &'a BTreeMap<T, usize>, than: &BTreeMap<T, usize>) -> Option<&'a T> {
    of.iter().find(|(one, count)| than.get(one).copied().unwrap_or(0) < **count).map(|(one, _)| one)
}

/// An event about a vote, from the point of view of its node.
struct Ballot<'a> {
    event: &'a Value,
    node: &'a str,
    peer: &'a str,
    pre: bool,
    term: u64,
}

impl Ballot<'_> {
    /// It tells of what its own node decided, and not of what it heard.
    fn is_own(&self) -> bool {
        self.event["text"].as_str().unwrap().starts_with(self.node)
    }

    fn question(&self) -> Question {
        let (asker, asked) = match self.event["action"] == "asked" || !self.is_own() {
            true => (self.node, self.peer),
            false => (self.peer, self.node),
        };
        (asker.to_owned(), asked.to_owned(), self.pre, self.term)
    }
}

fn ballots(events: &[Value]) -> Vec<Ballot<'_>> {
    let votes = events.iter().filter(|event| event["event"] == "vote" || event["event"] == "pre_vote");
    // Who is not listened to at all is answered with no vote.
    votes
        .filter(|event| !event["text"].as_str().unwrap().contains("does not listen to"))
        .map(|event| Ballot {
            event,
            node: event["node"].as_str().unwrap(),
            peer: event["peer"].as_str().unwrap(),
            pre: event["event"] == "pre_vote",
            term: event["term"].as_u64().unwrap(),
        })
        .collect()
}

/// Every question and answer that passed is an event of both, and every such event passed.
fn votes(seen: &[Seen], events: &[Value]) -> Result<(), String> {
    let question = |one: &Seen, pre, term, back| match back {
        false => (one.from.clone(), one.to.clone(), pre, term),
        true => (one.to.clone(), one.from.clone(), pre, term),
    };
    let asked_on_the_way = counted(seen.iter().filter_map(|one| match one.what {
        What::Asks { pre, term, .. } => Some(question(one, pre, term, false)),
        _ => None,
    }));
    let answered_on_the_way = counted(seen.iter().filter_map(|one| match one.what {
        What::Answers { pre, term, granted, .. } => Some((question(one, pre, term, true), granted)),
        _ => None,
    }));
    let ballots = ballots(events);
    let told = |own: bool| {
        let answers = ballots.iter().filter(|ballot| ballot.event["action"] != "asked" && ballot.is_own() == own);
        counted(answers.map(|ballot| (ballot.question(), ballot.event["action"] == "granted")))
    };
    let asked = ballots.iter().filter(|ballot| ballot.event["action"] == "asked");
    let asked = counted(asked.map(Ballot::question));
    let (given, heard) = (told(true), told(false));
    let none = |what: &str, one: Option<String>| one.map_or(Ok(()), |one| Err(format!("{what}: {one}")));
    none("asked, and not told", more(&asked_on_the_way, &asked).map(|one| format!("{one:?}")))?;
    none("told, and not asked", more(&asked, &asked_on_the_way).map(|one| format!("{one:?}")))?;
    none("answered, and not told", more(&answered_on_the_way, &given).map(|one| format!("{one:?}")))?;
    none("told, and not answered", more(&given, &answered_on_the_way).map(|one| format!("{one:?}")))?;
    none("an answer that nobody gave", more(&heard, &answered_on_the_way).map(|one| format!("{one:?}")))?;
    // Its reason is what the answer itself says.
    let shown = |id: Option<LogId>| format!("index {} of term {}", id.unwrap().index, id.unwrap().leader_id.term);
    for ballot in ballots.iter().filter(|ballot| ballot.event["action"] == "refused") {
        let reason = ballot.event["reason"].as_str().unwrap();
        let fits = seen.iter().any(|one| match &one.what {
            What::Answers { pre, term, granted: false, last, voter, voters_last }
                if question(one, *pre, *term, true) == ballot.question() =>
            {
                if last < voters_last {
                    reason.contains(&shown(*last)) && reason.contains(&shown(*voters_last))
                } else if voter.leader_id.term > *term {
                    reason.contains(&format!("term {} already", voter.leader_id.term))
                } else {
                    reason.contains("has voted for") || reason.contains("leader") || reason.contains("leads")
                }
            }
            _ => false,
        });
        check(fits, || format!("not the reason: {}", ballot.event))?;
    }
    Ok(())
}

fn named<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["event"] == name)
}

/// Who leads in which term, and into which terms nodes came.
fn terms(seen: &[Seen], events: &[Value]) -> Result<(), String> {
    let leaders: BTreeSet<(u64, String)> = seen
        .iter()
        .filter_map(|one| match one.what {
            What::Appends { term, .. } => Some((term, one.from.clone())),
            _ => None,
        })
        .collect();
    let elected: BTreeSet<(u64, String)> = named(events, "elected")
        .map(|event| (event["term"].as_u64().unwrap(), event["node"].as_str().unwrap().to_owned()))
        .collect();
    check(leaders == elected, || format!("{leaders:?} sent entries, and {elected:?} were elected"))?;
    check(leaders.iter().map(|(term, _)| term).collect::<BTreeSet<_>>().len() == leaders.len(), || {
        format!("two leaders of a term: {leaders:?}")
    })?;
    let of = |one: &Seen| match one.what {
        What::Asks { pre: false, term, .. } | What::Appends { term, .. } => Some(term),
        _ => None,
    };
    let passed: BTreeSet<u64> = seen.iter().filter_map(of).collect();
    let stray = named(events, "term").find(|event| !passed.contains(&event["term"].as_u64().unwrap()));
    check(stray.is_none(), || format!("nobody spoke in the term of {stray:?}"))
}

/// All entries that went to a member are told of once; what is told as committed a majority had said that it has.
fn entries(seen: &[Seen], events: &[Value], after: u64) -> Result<(), String> {
    let mut passed: BTreeMap<(String, String), u64> = BTreeMap::new();
    for one in seen {
        if let What::Appends { count: count @ 1.., .. } = one.what {
            *passed.entry((one.from.clone(), one.to.clone())).or_default() += count;
        }
    }
    let mut told: BTreeMap<(String, String), u64> = BTreeMap::new();
    let sent = named(events, "append").filter(|event| event["in_flight"].is_u64());
    for event in sent.filter(|event| event["count"].as_u64() > Some(0)) {
        let way = (event["node"].as_str().unwrap().to_owned(), event["peer"].as_str().unwrap().to_owned());
        *told.entry(way).or_default() += event["count"].as_u64().unwrap();
    }
    check(passed == told, || format!("entries that passed: {passed:?}, and that are told of: {told:?}"))?;
    for event in named(events, "commit").filter(|event| event["index"].as_u64() > Some(after)) {
        let (index, at) = (event["index"].as_u64().unwrap(), time(&event["time"]) + ROUNDED);
        let had = |one: &&Seen| one.at <= at && matches!(one.what, What::Has { index: has } if has >= index);
        check(seen.iter().any(|one| had(&one)), || format!("nobody else had it: {event}"))?;
    }
    Ok(())
}

/// Times of the API are whole milliseconds.
const ROUNDED: Duration = Duration::from_millis(2);

/// Compares until all that is on its way is told.
fn agree(cluster: &Cluster, tap: &Tap, logs: &[Mutex<Vec<Value>>], after: u64) {
    eventually(SETTLE, "events are what passed", || {
        let events: Vec<Value> = logs.iter().flat_map(|log| log.lock().unwrap().clone()).collect();
        let seen = tap.seen();
        votes(&seen, &events)?;
        terms(&seen, &events)?;
        entries(&seen, &events, after)?;
        check(cluster.nodes.len() == 3, String::new)
    });
}

#[test]
fn events_are_what_went_from_node_to_node() {
    let (cluster, tap) = behind_a_tap();
    let after = cluster.nodes[cluster.leader()].stat("last_log_index").unwrap();
    let (over, logs) = (AtomicBool::new(false), [(); 3].map(|()| Mutex::<Vec<Value>>::default()));
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for (node, log) in cluster.nodes.iter().zip(&logs) {
            let over = &over;
            scope.spawn(move || follow(&node.haddr, over, log));
        }
        let write = |count: usize| {
            for number in 0..count {
                let node = &cluster.nodes[number % 3];
                eventually(SETTLE, "a write", || node.set("k", &number.to_string()));
            }
        };
        write(30);
        agree(&cluster, &tap, &logs, after);
        // Leadership is handed over.
        let next = &cluster.nodes[cluster.follower()];
        let body = format!(r#"{{"id":"{}"}}"#, next.id());
        eventually(SETTLE, "it leads", || {
            cluster.nodes[0].post("/hraftd/raft/leader", &body)?.ok()?;
            check(next.state()? == "Leader", String::new)
        });
        write(9);
        agree(&cluster, &tap, &logs, after);
        // A follower that hears nothing asks, and is refused while the others hear their leader.
        let deaf = cluster.follower();
        tap.hold(deaf, true);
        let refused = || {
            let seen = tap.seen();
            let refused = |one: &&Seen| matches!(one.what, What::Answers { granted: false, .. });
            check(seen.iter().any(|one| refused(&one)), || "none was refused".to_owned())
        };
        eventually(SETTLE, "it is refused a vote", refused);
        let has_leader = &cluster.nodes[(deaf + 1) % 3];
        eventually(SETTLE, "a write of two", || has_leader.set("k", "1"));
        tap.hold(deaf, false);
        cluster.settled();
        write(9);
        agree(&cluster, &tap, &logs, after);
        // The leader stands still, and comes back to another.
        let former = cluster.leader();
        cluster.nodes[former].pause();
        let other = &cluster.nodes[(former + 1) % 3];
        eventually(SETTLE, "another leads", || other.set("k", "2"));
        cluster.nodes[former].resume();
        cluster.settled();
        write(9);
        agree(&cluster, &tap, &logs, after);
        let kinds: BTreeSet<String> = logs
            .iter()
            .flat_map(|log| {
                log.lock().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            })
            .collect();
        for kind in ["role", "term", "timeout", "pre_vote", "vote", "elected", "append", "commit", "apply", "transfer"]
        {
            assert!(kinds.contains(kind), "{kinds:?}");
        }
    });
}

/// Ends those who follow when a test ends, by a panic too.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a node tells of an entry, of which the beginning is as exact as can be: it can only be told too late.
fn entry(node: &Node, index: u64, is_complete: impl Fn(&Value) -> bool) -> (SystemTime, Value) {
    let look = || {
        let entry = node.get(&format!("/hraftd/raft/entry/{index}"))?.ok()?.json();
        check(is_complete(&entry), || entry.to_string())?;
        Ok((time(&entry["proposed"]), entry))
    };
    (0..5).map(|_| eventually(SETTLE, "the times of an entry", look)).min_by_key(|(proposed, _)| *proposed).unwrap()
}

fn plus(begin: SystemTime, ms: &Value) -> SystemTime {
    begin + Duration::from_secs_f64(ms.as_f64().unwrap_or_else(|| panic!("{ms}")) / 1e3)
}

/// The times of entries, and the parts of a write, lie around what the proxy saw; a way that is slow shows as `quorum`.
#[test]
fn times_lie_around_what_went_from_node_to_node() {
    const LATE: Duration = Duration::from_millis(60);
    let (cluster, tap) = behind_a_tap();
    let leads = cluster.leader();
    let leader = &cluster.nodes[leads];
    let others: Vec<usize> = (0..3).filter(|number| *number != leads).collect();
    for late in [Duration::ZERO, LATE] {
        others.iter().for_each(|number| tap.delay(*number, late));
        for round in 0..5 {
            let reply = http::call(&leader.haddr, "PUT", "/key/k?timing&timeout=20s", Some(b"1")).unwrap();
            assert_eq!(reply.status / 100, 2, "{}", reply.brief());
            let index: u64 = reply.header("x-hraftd-index").unwrap().parse().unwrap();
            let parts = visible::adds_up(&reply);
            let part =
                |name: &str| Duration::from_secs_f64(parts.iter().find(|(part, _)| part == name).unwrap().1 / 1e3);
            let (proposed, at_leader) = entry(leader, index, |entry| {
                let members = entry["members"].as_array().unwrap();
                members.len() == 2 && members.iter().all(|member| member["flushed_ms"].is_f64())
            });
            let seen = tap.seen();
            let mut acknowledged = Vec::new();
            for number in &others {
                let other = &cluster.nodes[*number];
                let of = |one: &&Seen, to: &Node| one.to == to.id() || one.from == to.id();
                let between = seen.iter().filter(|one| of(one, other) && of(one, leader));
                let came = between
                    .clone()
                    .find(|one| matches!(one.what, What::Appends { count: 1.., last, .. } if last >= index));
                let back = between.clone().find(|one| matches!(one.what, What::Has { index: has } if has >= index));
                let (came, back) = (came.unwrap().at, back.unwrap().at);
                acknowledged.push(back);
                let told =
                    at_leader["members"].as_array().unwrap().iter().find(|member| member["id"] == other.id().as_str());
                let told = told.unwrap();
                let (sent, flushed) = (plus(proposed, &told["sent_ms"]), plus(proposed, &told["flushed_ms"]));
                let (begun, at_follower) = entry(other, index, |entry| entry["applied_ms"].is_f64());
                let order = [
                    ("sent by the leader", sent),
                    ("seen on its way", came),
                    ("in the log of the follower", begun),
                    ("on its disk", plus(begun, &at_follower["flushed_ms"])),
                    ("seen on its way back", back),
                    ("there", flushed.checked_sub(late).unwrap()),
                ];
                for pair in order.windows(2) {
                    assert!(
                        pair[0].1 <= pair[1].1 + ROUNDED,
                        "{round}, {late:?}: {order:#?} {at_leader} {at_follower}"
                    );
                }
            }
            // The nearer of the two made the majority.
            let first = *acknowledged.iter().min().unwrap();
            let committed = plus(proposed, &at_leader["committed_ms"]);
            assert!(
                first + late <= committed + ROUNDED,
                "committed before anybody else was known to have it: {at_leader}"
            );
            assert!(committed <= plus(proposed, &at_leader["applied_ms"]) + ROUNDED, "{at_leader}");
            let waited = (first + late).duration_since(proposed).unwrap_or_default();
            assert!(part("flush") + part("quorum") + ROUNDED >= waited, "{parts:?} and {waited:?}");
            assert!(late.is_zero() || part("quorum") + part("flush") >= late, "{parts:?}");
        }
    }
}
