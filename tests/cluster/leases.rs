//! Leases at real nodes: they outlive leaders and restarts, and end in one entry.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::http::{self, PATIENCE, Reply};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::watch::Watch;

const TTL: Duration = Duration::from_secs(10);

fn lease(node: &Node) -> u64 {
    let made = node.post(&format!("/hraftd/lease?ttl={}s", TTL.as_secs()), "{\"host\":\"a\"}").unwrap();
    assert_eq!(made.status, 201, "{}", made.brief());
    made.json()["lease"].as_u64().unwrap()
}

fn keep_alive(node: &Node, lease: u64) -> Result<Reply, String> {
    http::call(&node.haddr, "PUT", &format!("/hraftd/lease/{lease}"), None)
}

fn count(node: &Node) -> Result<u64, String> {
    let counted = node.get("/hraftd/key?prefix=svc/&count")?.ok()?.json();
    counted["count"].as_u64().ok_or_else(|| counted.to_string())
}

/// The index and the digest of a node's state.
fn digest(node: &Node) -> Result<(Value, Value), String> {
    let about = node.get("/hraftd/raft/node")?.ok()?.json();
    Ok((about["applied_index"].clone(), about["digest"].clone()))
}

#[test]
fn a_lease_outlives_nodes_and_ends_in_one_entry() {
    let lab = Lab::new();
    // Snapshots are made, so that a restart reads one.
    let mut cluster = Cluster::start_with(lab, 3, &["--snapshot-threshold", "50"]);
    let leader = cluster.leader();
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = lease(&cluster.nodes[one]);
    cluster.nodes[two].post(&format!("/hraftd/key?lease={id}"), r#"{"svc/b":1,"svc/a":2}"#).unwrap().ok().unwrap();
    cluster.nodes[leader].post(&format!("/hraftd/lock/svc?lease={id}"), "").unwrap().ok().unwrap();
    for round in 0..60 {
        cluster.nodes[one].set("other", &round.to_string()).unwrap();
    }
    cluster.nodes[leader].kill();
    eventually(SETTLE, "it is kept alive by the next leader", || keep_alive(&cluster.nodes[one], id)?.ok().map(drop));
    cluster.nodes[leader].start();
    eventually(SETTLE, "it is back", || cluster.nodes[leader].ready());
    keep_alive(&cluster.nodes[leader], id).unwrap().ok().unwrap();
    cluster.stop_all();
    cluster.start_all();
    let mut sent = Instant::now();
    eventually(SETTLE, "it is kept alive after a stop of all", || {
        sent = Instant::now();
        keep_alive(&cluster.nodes[two], id)?.ok().map(drop)
    });
    let shown = cluster.nodes[one].get(&format!("/hraftd/lease/{id}?keys")).unwrap().ok().unwrap().json();
    assert_eq!(shown["keys"], serde_json::json!(["svc/a", "svc/b"]), "{shown}");
    assert_eq!((&shown["body"]["host"], &shown["locks"]), (&"a".into(), &1.into()), "{shown}");

    let mut watch = Watch::open(&cluster.nodes[one].haddr, "prefix=svc/");
    let (first, second) = (watch.event(), watch.event());
    assert!(sent.elapsed() >= TTL, "early, after {:?}", sent.elapsed());
    for (event, key) in [(&first, "svc/a"), (&second, "svc/b")] {
        assert_eq!((event.name.as_str(), &event.data["key"]), ("expire", &key.into()), "{event:?}");
        assert_eq!(event.data["lease"], id, "{event:?}");
    }
    assert_eq!(first.index(), second.index(), "one entry");
    for node in &cluster.nodes {
        let gone = node.get(&format!("/hraftd/lease/{id}")).unwrap();
        assert_eq!(gone.status, 404, "{}", gone.brief());
        assert_eq!(count(node), Ok(0));
    }
    let lost = cluster.nodes[two].post(&format!("/hraftd/key?lease={id}"), r#"{"svc/c":1}"#).unwrap();
    assert_eq!((lost.status, &lost.json()["code"]), (409, &"lease_lost".into()), "{}", lost.brief());
    eventually(SETTLE, "equal digests", || {
        let all = cluster.nodes.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
        check(all.windows(2).all(|pair| pair[0] == pair[1]), || format!("{all:?}"))
    });
}

/// Whoever watches is told all of it, though it is more than the history is meant for.
#[test]
fn a_large_lease_is_revoked_under_watch() {
    let cluster = Cluster::start_with(Lab::new(), 3, &["--watch-history", "1000"]);
    let id = lease(&cluster.nodes[0]);
    for part in 0..5 {
        let keys: Vec<String> = (0..1_000).map(|key| format!("\"svc/{part}/{key:04}\":1")).collect();
        let body = format!("{{{}}}", keys.join(","));
        cluster.nodes[part % 3].post(&format!("/hraftd/key?lease={id}"), &body).unwrap().ok().unwrap();
        keep_alive(&cluster.nodes[0], id).unwrap().ok().unwrap();
    }
    let mut watch = Watch::open_with(&cluster.nodes[1].haddr, "prefix=svc/", &[], PATIENCE).unwrap();
    let revoked = cluster.nodes[2].delete(&format!("/hraftd/lease/{id}"), None).unwrap().ok().unwrap();
    assert_eq!(revoked.json()["deleted"], 5_000);
    for event in 0..5_000 {
        let name = watch.event().name;
        assert_eq!(name, "expire", "event {event}");
    }
    for node in &cluster.nodes {
        assert_eq!(count(node), Ok(0));
    }
}
