//! `GET /hraftd/watch` at real nodes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::http::{Conn, PATIENCE};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::watch::{Event, NotOpen, Watch};

fn set(index: u64, key: &str, value: u64) -> Event {
    Event {
        name: "set".to_owned(),
        id: Some(format!("{index}.1")),
        data: json!({"key": key, "value": value, "index": index}),
    }
}

/// The code of a request that is refused with this status.
fn refused(node: &Node, query: &str, status: u16) -> String {
    match Watch::open_with(&node.haddr, query, &[], PATIENCE) {
        Err(NotOpen::Refused(reply)) if reply.status == status => reply.json()["code"].as_str().unwrap().to_owned(),
        other => panic!("{query}: {other:?}"),
    }
}

#[test]
fn state_and_changes() {
    let cluster = Cluster::start(3);
    let node = &cluster.nodes[1];
    let first = cluster.nodes[0].set("app/a", "1").unwrap();
    // Acknowledged elsewhere, so it is there.
    let mut watch = Watch::open(&node.haddr, "prefix=app/&initial");
    let state = watch.event();
    assert_eq!((state.name.as_str(), state.id), ("set", None));
    assert_eq!(state.data, json!({"key": "app/a", "value": 1, "index": first}));
    let synced = watch.event();
    assert_eq!((synced.name.as_str(), synced.index()), ("synced", synced.data["index"].as_u64()));
    assert!(synced.index().unwrap() >= first);
    let mut lines =
        Watch::open_with(&node.haddr, "key=app/b", &[("Accept", "application/x-ndjson")], PATIENCE).unwrap();
    cluster.nodes[2].set("other", "1").unwrap();
    let second = cluster.nodes[2].set("app/b", "2").unwrap();
    let third = cluster.nodes[0].delete("/hraftd/key/app/b", None).unwrap().ok().unwrap().json()["index"].as_u64();
    for stream in [&mut watch, &mut lines] {
        assert_eq!(stream.event(), set(second, "app/b", 2));
        let gone = stream.event();
        assert_eq!((gone.name.as_str(), gone.index()), ("delete", third));
    }
}

/// Everything acknowledged after the answer began is seen, at whatever node.
#[test]
fn nothing_is_lost_between_the_answer_and_the_first_write() {
    let cluster = Cluster::start(3);
    for round in 0..30 {
        let (at, by) = (&cluster.nodes[round % 3], &cluster.nodes[(round / 3) % 3]);
        let mut watch = Watch::open(&at.haddr, "key=k");
        let index = by.set("k", &round.to_string()).unwrap();
        assert_eq!(watch.event(), set(index, "k", round as u64), "round {round}");
    }
}

#[test]
fn going_on_at_another_node() {
    let cluster = Cluster::start(3);
    let mut watch = Watch::open(&cluster.nodes[0].haddr, "prefix=k");
    let mut last = watch.last_id.clone();
    for round in 0..12_u64 {
        let indexes: Vec<u64> =
            (0..5).map(|n| cluster.nodes[(round as usize + 1) % 3].set(&format!("k{n}"), "1").unwrap()).collect();
        // What was given before the connection is left.
        for (n, &index) in indexes.iter().enumerate().take(round as usize % 6) {
            assert_eq!(watch.event(), set(index, &format!("k{n}"), 1));
        }
        last = watch.last_id.clone().or(last);
        let node = &cluster.nodes[round as usize % 3];
        let id = last.clone().unwrap_or_else(|| indexes[0].saturating_sub(1).to_string());
        watch = if round % 2 == 0 {
            Watch::resume(&node.haddr, "prefix=k&initial", &id)
        } else {
            Watch::open(&node.haddr, &format!("prefix=k&after={id}"))
        };
        for (n, &index) in indexes.iter().enumerate().skip(round as usize % 6) {
            assert_eq!(watch.event(), set(index, &format!("k{n}"), 1), "round {round}");
        }
    }
    // A position that no node knows yet.
    let future = cluster.nodes[0].stat("applied_index").unwrap() + 1_000;
    assert_eq!(refused(&cluster.nodes[1], &format!("prefix=&after={future}&timeout=200ms"), 504), "timeout");
}

/// On the same connection, at a follower and at the next leader.
#[test]
fn a_leader_is_killed() {
    let mut cluster = Cluster::start(3);
    let gone = cluster.leader();
    let left: Vec<usize> = (0..3).filter(|&number| number != gone).collect();
    let mut watches: Vec<Watch> =
        left.iter().map(|&number| Watch::open(&cluster.nodes[number].haddr, "prefix=")).collect();
    let before = cluster.nodes[left[0]].set("k", "1").unwrap();
    cluster.nodes[gone].kill();
    let after = eventually(SETTLE, "the others take writes", || cluster.nodes[left[0]].set("k", "2"));
    for watch in &mut watches {
        assert_eq!(watch.event(), set(before, "k", 1));
        // A write that was refused may have been done.
        let mut event = watch.event();
        while event.index() < Some(after) {
            event = watch.event();
        }
        assert_eq!(event, set(after, "k", 2));
    }
}

/// Issue 18: one write of more keys than the history has places ended all watches.
#[test]
fn one_write_of_many_keys_reaches_all_who_follow() {
    const KEYS: usize = 70_000;
    let cluster = Cluster::start(3);
    let mut watches: Vec<Watch> = cluster.nodes.iter().map(|node| Watch::open(&node.haddr, "prefix=many/")).collect();
    let pairs: Vec<String> = (0..KEYS).map(|n| format!("\"many/{n:06}\":1")).collect();
    let mut conn = Conn::open(&cluster.nodes[0].haddr).unwrap();
    let body = format!("{{{}}}", pairs.join(","));
    let writes =
        [("POST", "/hraftd/key", Some(body.as_bytes()), "set"), ("DELETE", "/hraftd/key?prefix=many/", None, "delete")];
    for (method, path, body, name) in writes {
        let written = conn.request(method, path, &[], body).unwrap().ok().unwrap();
        let index = written.json()["index"].as_u64();
        // All of them read at once, as those do who keep up.
        std::thread::scope(|scope| {
            for watch in &mut watches {
                scope.spawn(move || {
                    for n in 0..KEYS {
                        let event = watch.event();
                        assert_eq!((&*event.name, event.index()), (name, index), "{n}");
                        assert_eq!(event.data["key"], format!("many/{n:06}"));
                    }
                });
            }
        });
    }
}

/// A history that is short, in entries and across a restart.
#[test]
fn positions_that_are_too_old() {
    let lab = Lab::new();
    let mut node = lab.node("only").args(&["--watch-history", "10", "--snapshot-threshold", "100"]);
    node.start();
    node.wait_ready();
    let mut conn = Conn::open(&node.haddr).unwrap();
    let write = |conn: &mut Conn| {
        let reply = conn.request("POST", "/hraftd/key", &[], Some(br#"{"k":1}"#)).unwrap().ok().unwrap();
        reply.json()["index"].as_u64().unwrap()
    };
    let first = write(&mut conn);
    let last = (0..300).map(|_| write(&mut conn)).last().unwrap();
    let after = |position: u64| format!("prefix=&after={position}");
    assert_eq!(refused(&node, &after(first), 410), "compacted");
    assert_eq!(refused(&node, &after(last - 11), 410), "compacted");
    assert_eq!(Watch::open(&node.haddr, &after(last - 10)).event(), set(last - 9, "k", 1));
    eventually(SETTLE, "a snapshot", || {
        let snapshot = node.stat("last_snapshot_index")?;
        check(snapshot > 0, || snapshot.to_string())
    });
    node.stop();
    node.start();
    node.wait_ready();
    assert_eq!(refused(&node, &after(first), 410), "compacted");
    let mut watch = Watch::open(&node.haddr, "key=k&initial");
    assert_eq!((watch.event().data["value"].as_u64(), watch.event().name.as_str()), (Some(1), "synced"));
    let index = node.set("k", "2").unwrap();
    assert_eq!(watch.event(), set(index, "k", 2));
}

/// A node that was so far behind that it got a snapshot does not know what was in between, and says so.
#[test]
fn a_snapshot_is_installed_under_a_watch() {
    let cluster = Cluster::start_with(Lab::new(), 3, &["--snapshot-threshold", "100"]);
    let behind = cluster.follower();
    let index = cluster.nodes[0].set("k", "0").unwrap();
    let mut watch = Watch::open(&cluster.nodes[behind].haddr, &format!("prefix=k&after={}", index - 1));
    assert_eq!(watch.event(), set(index, "k", 0));
    cluster.nodes[behind].pause();
    let leader = &cluster.nodes[cluster.leader_but(behind)];
    let mut conn = Conn::open(&leader.haddr).unwrap();
    let is_lost = || {
        let seen = leader.get("/hraftd/raft/cluster").unwrap().json();
        let servers = seen["servers"].as_array().unwrap();
        servers.iter().any(|server| server["id"] == cluster.nodes[behind].id() && server["state"] == "Lost")
    };
    // Until the leader has given up what it had on its way there, nothing of that is dropped from its log.
    let mut written = 0;
    let mut last = u64::MAX;
    while written < last {
        written += 1;
        let body = format!(r#"{{"k":{written}}}"#);
        conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
        if written % 100 == 0 && written >= 1_000 && last == u64::MAX && is_lost() {
            last = written + 500;
        }
    }
    cluster.nodes[behind].resume();
    // Some of it may have been on its way already.
    let (mut seen, mut wanted) = (watch.event(), 1);
    while seen.name == "set" && wanted < written {
        assert_eq!(seen.data["value"], wanted);
        wanted += 1;
        seen = watch.event();
    }
    assert_eq!(seen.name, "compacted", "after {wanted}: {seen:?}");
    watch.assert_ends();
    let oldest: u64 = seen.data["oldest"].as_str().unwrap().parse().unwrap();
    assert!(oldest > index + wanted, "{seen:?}");
    assert_eq!(refused(&cluster.nodes[behind], &format!("prefix=k&after={index}"), 410), "compacted");
}

impl Cluster {
    /// The leader, in the eyes of others than a node that is stopped.
    fn leader_but(&self, stopped: usize) -> usize {
        let leads = |number: usize| self.nodes[number].state().is_ok_and(|state| state == "Leader");
        eventually(SETTLE, "a leader", || {
            (0..self.nodes.len()).find(|&number| number != stopped && leads(number)).ok_or_else(String::new)
        })
    }
}

#[test]
fn a_removed_node_ends_its_streams() {
    let cluster = Cluster::start(3);
    let gone = &cluster.nodes[cluster.follower()];
    let mut watch = Watch::open(&gone.haddr, "prefix=");
    let other = cluster.nodes.iter().find(|node| node.id() != gone.id()).unwrap();
    other.delete("/hraftd/raft/remove", Some(&format!(r#"{{"id":"{}"}}"#, gone.id()))).unwrap().ok().unwrap();
    watch.assert_ends();
    for query in ["prefix=", "prefix=&initial", "prefix=&after=1", "prefix=&level=none"] {
        assert_eq!(refused(gone, query, 503), "removed", "{query}");
    }
}

/// Streams end cleanly, and nobody waits for a client that does not read.
#[test]
fn a_stop_ends_streams() {
    let lab = Lab::busy();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    let mut watches: Vec<Watch> = (0..50).map(|_| Watch::open(&node.haddr, "key=last")).collect();
    let stuck = Watch::open(&node.haddr, "key=large");
    let value = format!("\"{}\"", "x".repeat(900_000));
    // More than the kernel takes for it.
    for _ in 0..20 {
        node.set("large", &value).unwrap();
    }
    let last = node.set("last", "1").unwrap();
    for watch in &mut watches {
        assert_eq!(watch.event(), set(last, "last", 1));
    }
    let began = Instant::now();
    node.ask_to_stop();
    watches.iter_mut().for_each(Watch::assert_ends);
    let ended = began.elapsed();
    node.wait_stopped();
    let stopped = began.elapsed();
    assert!(ended < Duration::from_secs(3) && stopped < Duration::from_secs(6), "{ended:?}, then {stopped:?}");
    drop(stuck);
}
