//! What a cluster tells of itself: probes, times, events, findings, and the client that shows them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::events::Events;
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::node::{Node, hraftd};
use crate::support::process::{Finished, finish};
use crate::support::wait::{SETTLE, check, eventually};

/// The parts of a `Server-Timing` header, in milliseconds.
fn parts(header: &str) -> Vec<(String, f64)> {
    let part = |part: &str| {
        let (name, dur) = part.trim().split_once(";dur=").unwrap_or_else(|| panic!("{header}"));
        (name.to_owned(), dur.parse().unwrap())
    };
    header.split(',').map(part).collect()
}

fn put(node: &Node, path: &str, headers: &[(&str, &str)]) -> http::Reply {
    http::call_with(&node.haddr, "PUT", path, headers, Some(b"1")).unwrap()
}

/// Checks that the parts of an answer add up, and gives them.
#[track_caller]
pub fn adds_up(reply: &http::Reply) -> Vec<(String, f64)> {
    let header = reply.header("server-timing").unwrap_or_else(|| panic!("{reply:?}"));
    let parts = parts(header);
    let (last, named) = parts.split_last().unwrap();
    assert_eq!(last.0, "total", "{header}");
    let sum: f64 = named.iter().map(|(_, ms)| ms).sum();
    assert!((sum - last.1).abs() <= last.1 * 0.05 + 0.2, "{sum} of {header}");
    parts
}

#[test]
fn the_time_of_a_request_is_told_and_adds_up() {
    let cluster = Cluster::start_with(Lab::new(), 3, &["--log-requests=all"]);
    let (leader, follower) = (&cluster.nodes[cluster.leader()], &cluster.nodes[cluster.follower()]);
    let names = |parts: &[(String, f64)]| parts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let long = "x".repeat(10_000);
    for round in 0..20 {
        let at_leader = adds_up(&put(leader, "/key/a?timing", &[("X-Request-Id", &long)]));
        assert_eq!(names(&at_leader), ["parse", "wait", "propose", "flush", "quorum", "apply", "total"]);
        let passed_on = put(follower, "/key/a?timing", &[("traceparent", "00-0af7-b7ad-01")]);
        assert_eq!(passed_on.status, 200, "{round}: {}", passed_on.brief());
        let passed_on = adds_up(&passed_on);
        let wanted = ["parse", "wait", "propose", "flush", "quorum", "apply", "forward", "total"];
        assert_eq!(names(&passed_on), wanted, "{round}");
    }
    let read = adds_up(&http::call(&leader.haddr, "GET", "/key/a?timing", None).unwrap());
    assert_eq!(names(&read), ["quorum", "total"]);
    let read = adds_up(&http::call(&follower.haddr, "GET", "/key/a?timing&level=weak", None).unwrap());
    assert_eq!(names(&read), ["forward", "total"]);
    assert!(put(leader, "/key/a", &[]).header("server-timing").is_none());
    assert_eq!(put(leader, "/key/a?timing=maybe", &[]).status, 400);
    // The log of requests has what the client calls it, cut, and so has the leader's.
    put(follower, "/key/b", &[("X-Request-Id", &long), ("traceparent", "00-1234-5678-01")]);
    eventually(SETTLE, "both have logged it", || {
        let (at, at_leader) = (follower.log_text(), leader.log_text());
        let cut = format!("request_id=\"{}\"", "x".repeat(128));
        let line = at.lines().find(|line| line.contains("/key/b"));
        check(line.is_some_and(|line| line.contains(&cut) && line.contains("status=201")), || at.clone())?;
        let told = at_leader.lines().find(|line| line.contains("passed on") && line.contains("00-1234-5678-01"));
        check(told.is_some_and(|line| line.contains(&cut)), || at_leader.clone())
    });
}

/// A slow member that the quorum needs shows in `quorum`, and nowhere else.
#[test]
fn a_follower_that_stands_still_shows_as_the_quorum() {
    let mut cluster = Cluster::start(3);
    let leads = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|n| *n != leads).collect();
    cluster.nodes[others[0]].kill();
    cluster.nodes[others[1]].pause();
    std::thread::scope(|scope| {
        let leader = &cluster.nodes[leads];
        let write = scope.spawn(|| put(leader, "/key/slow?timing&timeout=10s", &[]));
        let began = Instant::now();
        eventually(SETTLE, "it waits for its quorum", || {
            let stats = leader.stats()?;
            let number = |name: &str| stats[name].as_str().unwrap_or("0").parse::<u64>().unwrap();
            let waits = number("last_log_index") > number("commit_index");
            check(waits && began.elapsed() > Duration::from_millis(250), || stats.to_string())
        });
        cluster.nodes[others[1]].resume();
        let parts = adds_up(&write.join().unwrap());
        let of = |name: &str| parts.iter().find(|(part, _)| part == name).unwrap().1;
        assert!(of("quorum") > of("total") * 0.8 && of("total") > 200.0, "{parts:?}");
    });
}

#[test]
fn an_election_is_seen_with_its_reasons() {
    let mut cluster = Cluster::start(3);
    let (leads, asked) = (cluster.leader(), cluster.follower());
    let former = cluster.nodes[leads].id();
    let mut events = Events::open(&cluster.nodes[asked].haddr, "?all", &[]);
    put(&cluster.nodes[asked], "/key/a", &[]);
    // From then on, all are followed.
    let mut commits = BTreeSet::new();
    while commits.len() < 3 {
        let event = events.next();
        if event["event"] == "commit" {
            commits.insert(event["node"].as_str().unwrap().to_owned());
        } else if event["event"] == "alive" || commits.len() < 3 {
            put(&cluster.nodes[asked], "/key/a", &[]);
        }
    }
    cluster.nodes[leads].kill();
    let seen = events.until("another is elected", |event| event["event"] == "elected");
    let elected = seen.last().unwrap();
    let (winner, term) = (elected["node"].as_str().unwrap(), elected["term"].as_u64().unwrap());
    assert_ne!(winner, former);
    assert!(elected["index"].as_u64().unwrap() > 0, "{elected}");
    let own = |name: &str| {
        let found =
            seen.iter().position(|event| event["node"] == winner && event["event"] == name && event["term"] == term);
        found.unwrap_or_else(|| panic!("no {name} of {winner}: {seen:#?}"))
    };
    // As the winner heard of it: what another node tells of the same may arrive before the winner's question does.
    let granted = seen
        .iter()
        .position(|event| event["node"] == winner && event["event"] == "vote" && event["action"] == "granted");
    let granted = granted.unwrap_or_else(|| panic!("{seen:#?}"));
    assert!(own("timeout") < own("vote") && own("vote") <= granted && granted < seen.len() - 1, "{seen:#?}");
    let why = seen[own("timeout")]["reason"].as_str().unwrap();
    assert!(why.contains("is gone") || why.contains("no leader was heard"), "{why}");
    assert!(seen[granted]["reason"].as_str().unwrap().contains("has all of the voter's"), "{}", seen[granted]);
    for event in seen.iter().filter(|event| event["action"] == "refused") {
        assert!(event["reason"].as_str().is_some_and(|why| !why.is_empty()), "{event}");
    }
    let mut all = seen.clone();
    if !all.iter().any(|event| event["event"] == "peer") {
        all = events.until("who was killed is missed", |event| event["event"] == "peer");
    }
    let lost = all.iter().find(|event| event["event"] == "peer").unwrap();
    assert_eq!(lost["peer"], former.as_str());
    cluster.nodes[leads].start();
    events.until("it is back", |event| event["text"].as_str().is_some_and(|text| text.contains("is followed again")));
}

#[test]
fn events_go_on_from_where_one_was() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let mut first = Events::open(&node.haddr, "?history", &[]);
    let seen = first.until("its election", |event| event["event"] == "elected");
    let kinds: Vec<&str> = seen.iter().filter_map(|event| event["event"].as_str()).collect();
    for kind in ["term", "timeout", "role"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
    let number = |event: &Value| id(event).split_once('.').unwrap().1.parse::<u64>().unwrap();
    assert!(seen.windows(2).all(|two| number(&two[1]) == number(&two[0]) + 1), "{seen:#?}");
    drop(first);
    let last = seen.last().unwrap();
    put(node, "/key/a", &[]);
    let mut second = Events::open(&node.haddr, "", &[("Last-Event-ID", &id(last))]);
    let more = second.until("the write", |event| event["event"] == "apply");
    assert_eq!(number(&more[0]), number(last) + 1, "nothing is missed, nothing comes twice");
    for refused in ["?all&history", "?evil"] {
        assert_eq!(node.get(&format!("/hraftd/raft/events{refused}")).unwrap().status, 400, "{refused}");
    }
    let bad = http::call_with(&node.haddr, "GET", "/raft/events", &[("Last-Event-ID", "x")], None).unwrap();
    assert_eq!(bad.status, 400);
}

fn client(cluster: &Cluster, args: &[&str]) -> Finished {
    let endpoints = cluster.nodes.iter().map(|node| node.haddr.clone()).collect::<Vec<_>>().join(",");
    let mut command = hraftd(cluster.lab.path());
    command.args(args).args(["--endpoints", &endpoints]);
    finish(&mut command, Duration::from_secs(30))
}

#[test]
fn an_entry_is_shown_as_a_waterfall() {
    let cluster = Cluster::start(3);
    let leader = &cluster.nodes[cluster.leader()];
    let index = put(&cluster.nodes[cluster.follower()], "/key/a", &[]).json()["index"].as_u64().unwrap();
    let entry = eventually(SETTLE, "both followers have it", || {
        let entry = leader.get(&format!("/hraftd/raft/entry/{index}"))?.ok()?.json();
        let flushed = entry["members"].as_array().into_iter().flatten().filter(|m| m["flushed_ms"].is_f64()).count();
        check(flushed == 2, || entry.to_string())?;
        Ok(entry)
    });
    let ms = |name: &str| entry[name].as_f64().unwrap_or_else(|| panic!("{entry}"));
    assert!(ms("committed_ms") <= ms("applied_ms") && ms("flushed_ms") > 0.0, "{entry}");
    let members = entry["members"].as_array().unwrap();
    assert!(members.iter().all(|m| m["sent_ms"].as_f64() <= m["flushed_ms"].as_f64()), "{entry}");
    let earliest = members.iter().map(|m| m["flushed_ms"].as_f64().unwrap()).fold(f64::MAX, f64::min);
    assert!(ms("committed_ms") >= earliest.min(ms("flushed_ms")), "nobody else had it: {entry}");
    assert_eq!(entry["passed_on_by"], cluster.nodes[cluster.follower()].id().as_str(), "{entry}");
    assert_eq!(leader.get("/hraftd/raft/entry/999999").unwrap().status, 404);
    assert_eq!(leader.get("/hraftd/raft/entry/x").unwrap().status, 400);
    let why = client(&cluster, &["why", &index.to_string()]);
    assert_eq!(why.code, Some(0), "{why:?}");
    for part in ["flushed here", "committed", "passed on by"] {
        assert!(why.stdout.contains(part), "{why:?}");
    }
    assert_eq!(client(&cluster, &["why", "999999"]).code, Some(1));
}

#[test]
fn the_doctor_names_the_node_and_what_mends_it() {
    let mut cluster = Cluster::start(3);
    let (leads, paused) = (cluster.leader(), cluster.follower());
    let doctor = |node: &Node| node.get("/hraftd/raft/doctor").unwrap().ok().unwrap().json();
    let healthy = doctor(&cluster.nodes[leads]);
    assert_eq!(
        (healthy["ok"].as_bool(), healthy["findings"].as_array().map(Vec::len)),
        (Some(true), Some(0)),
        "{healthy}"
    );
    let shown = client(&cluster, &["doctor"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(0), "nothing is wrong\n"), "{shown:?}");
    let status = client(&cluster, &["status"]);
    assert!(status.stdout.lines().count() == 4 && status.stdout.contains("Leader"), "{status:?}");
    assert_eq!(client(&cluster, &["health", "--ready"]).code, Some(0));

    // It accepts, and never answers.
    cluster.nodes[paused].pause();
    let found =
        eventually(SETTLE, "an answer within three seconds, but for moments in which this machine is busy", || {
            let (began, found) = (Instant::now(), doctor(&cluster.nodes[leads]));
            check(began.elapsed() < Duration::from_secs(3), || format!("{:?}", began.elapsed()))?;
            Ok(found)
        });
    let findings = found["findings"].as_array().unwrap();
    assert_eq!(found["ok"], false);
    let about: Vec<&Value> = findings.iter().filter(|one| one["node"] == cluster.nodes[paused].id().as_str()).collect();
    assert!(about.iter().any(|one| one["what"].as_str().unwrap().contains("does not answer")), "{found}");
    assert!(findings.iter().any(|one| one["what"].as_str().unwrap().contains("loss of one more")), "{found}");
    cluster.nodes[paused].resume();
    cluster.settled();

    let other = (0..3).find(|n| *n != leads && *n != paused).unwrap();
    cluster.nodes[other].kill();
    let shown = client(&cluster, &["doctor"]);
    assert!(shown.code == Some(1) && shown.stdout.contains("do: start"), "{shown:?}");
    cluster.nodes[paused].kill();
    let left = &cluster.nodes[leads];
    let found = doctor(left);
    assert_eq!(found["findings"][0]["severity"], "critical", "{found}");
    assert!(found["findings"][0]["what"].as_str().unwrap().contains("no quorum"), "{found}");
    // Its process lives all the same, and says why it does not serve.
    assert_eq!(left.get("/livez").unwrap().status, 200);
    eventually(SETTLE, "it is not ready", || {
        let ready = left.get("/readyz?verbose")?;
        check(ready.status == 503 && ready.text().contains("[-]leader"), || ready.brief())
    });
    assert_eq!(client(&cluster, &["health"]).code, Some(0));
    assert_eq!(client(&cluster, &["health", "--ready"]).code, Some(75));
    cluster.nodes[leads].kill();
    assert_eq!(client(&cluster, &["status"]).code, Some(69));
}

#[test]
fn a_removed_node_says_so() {
    let cluster = Cluster::start_with(Lab::new(), 3, &[]);
    let removed = cluster.follower();
    let body = format!(r#"{{"id":"{}"}}"#, cluster.nodes[removed].id());
    let reply = cluster.nodes[cluster.leader()].delete("/hraftd/raft/remove", Some(&body)).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.brief());
    eventually(SETTLE, "it says that it was removed", || {
        let found = cluster.nodes[removed].get("/hraftd/raft/doctor")?.ok()?.json();
        let what = found["findings"][0]["what"].as_str().unwrap_or_default().to_owned();
        check(found["ok"] == false && what.contains("removed"), || found.to_string())
    });
    let found = cluster.nodes[cluster.leader()].get("/hraftd/raft/doctor").unwrap().json();
    assert_eq!(
        (found["ok"].as_bool(), &found["findings"][0]["severity"]),
        (Some(true), &Value::from("info")),
        "{found}"
    );
}

#[test]
fn one_node_alone_is_no_more_than_information() {
    let alone = Cluster::start(1);
    let found = alone.nodes[0].get("/hraftd/raft/doctor").unwrap().json();
    let severities: Vec<&str> =
        found["findings"].as_array().unwrap().iter().filter_map(|one| one["severity"].as_str()).collect();
    assert_eq!(severities, ["info"], "{found}");
}
