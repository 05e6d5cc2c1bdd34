//! Members that were removed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

fn remove(asked: &Node, id: &str) {
    let reply = asked.delete("/hraftd/raft/remove", Some(&format!(r#"{{"id":"{id}"}}"#))).unwrap().ok().unwrap();
    assert_eq!(reply.json(), serde_json::json!({"ok": true, "msg": "OK"}));
}

fn without(cluster: &Cluster, number: usize) -> BTreeSet<String> {
    cluster.ids().into_iter().filter(|id| *id != cluster.nodes[number].id()).collect()
}

/// It runs, says that it was removed, and takes no key requests.
fn is_removed(node: &mut Node) {
    eventually(SETTLE, &format!("{} knows that it was removed", node.name), || {
        let state = node.state()?;
        check(state == "Shutdown", || state)
    });
    for reply in [
        node.get("/hraftd/key/k").unwrap(),
        node.post("/hraftd/key", r#"{"refused":1}"#).unwrap(),
        node.delete("/hraftd/key/k", None).unwrap(),
    ] {
        assert_eq!((reply.status, &reply.json()["code"]), (503, &"removed".into()), "{}", reply.brief());
        assert!(reply.header("Retry-After").is_some(), "{:?}", reply.headers);
    }
    assert_eq!(node.get("/hraftd/raft/ready").unwrap().status, 503);
    assert_eq!(node.get("/hraftd/raft/health").unwrap().status, 200);
    assert_eq!(node.stats().unwrap()["state"], "Shutdown");
    node.get("/hraftd/raft/cluster").unwrap().ok().unwrap();
    node.get("/hraftd/raft/node").unwrap().ok().unwrap();
    node.assert_alive();
}

#[test]
fn a_removed_follower_stays_up_and_says_so() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    let gone = cluster.follower();
    let id = cluster.nodes[gone].id();
    // Through the third node: neither the leader nor the one that goes.
    let asked = (0..3).find(|&number| number != gone && number != cluster.leader()).unwrap();
    remove(&cluster.nodes[asked], &id);
    cluster.voters_are(&without(&cluster, gone));
    is_removed(&mut cluster.nodes[gone]);
    cluster.nodes[asked].set("k", "2").unwrap();
    assert_eq!(cluster.nodes[asked].get("/hraftd/key/refused").unwrap().status, 404);
    let stats = cluster.nodes[asked].stats().unwrap();
    assert_eq!(stats["num_peers"], "1", "{stats}");
}

#[test]
fn a_removed_leader_hands_over() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    let gone = cluster.leader();
    let id = cluster.nodes[gone].id();
    let asked = (gone + 1) % 3;
    remove(&cluster.nodes[asked], &id);
    cluster.voters_are(&without(&cluster, gone));
    is_removed(&mut cluster.nodes[gone]);
    cluster.nodes[asked].set("k", "2").unwrap();
    assert_eq!(cluster.nodes[(gone + 2) % 3].value("k").unwrap(), 2);
}

#[test]
fn a_removed_node_that_names_another_joins_anew() {
    let mut cluster = Cluster::start(3);
    let ids = cluster.ids();
    cluster.nodes[0].set("k", "1").unwrap();
    let id = cluster.nodes[2].id();
    remove(&cluster.nodes[0], &id);
    cluster.voters_are(&without(&cluster, 2));
    is_removed(&mut cluster.nodes[2]);
    cluster.nodes[2].stop();
    cluster.nodes[1].set("k", "2").unwrap();
    cluster.nodes[2].start();
    cluster.voters_are(&ids);
    cluster.settled();
    cluster.all_have("k", "2");
}

/// The first of the list names itself only: a restart does not bring it back, nor does it form a cluster.
#[test]
fn a_removed_node_that_names_nobody_stays_removed() {
    let mut cluster = Cluster::start(3);
    let id = cluster.nodes[0].id();
    remove(&cluster.nodes[1], &id);
    cluster.voters_are(&without(&cluster, 0));
    is_removed(&mut cluster.nodes[0]);
    cluster.nodes[0].stop();
    cluster.nodes[0].start();
    is_removed(&mut cluster.nodes[0]);
    cluster.voters_are(&without(&cluster, 0));
}

/// It was down when it was removed: it learns of it when it comes back.
#[test]
fn a_node_that_was_removed_while_it_was_down() {
    let mut cluster = Cluster::start(3);
    let gone = cluster.follower();
    let id = cluster.nodes[gone].id();
    cluster.nodes[gone].kill();
    cluster.nodes[gone].forget_args();
    let asked = (gone + 1) % 3;
    remove(&cluster.nodes[asked], &id);
    cluster.voters_are(&without(&cluster, gone));
    cluster.nodes[gone].start();
    is_removed(&mut cluster.nodes[gone]);
}

/// The id as a query parameter, and as httpie sends it under any Content-Type.
#[test]
fn ways_to_name_the_node() {
    let mut cluster = Cluster::start(3);
    let unknown = "127.0.0.1:1,127.0.0.1:2";
    let missing = cluster.nodes[0].delete(&format!("/hraftd/raft/remove?id={unknown}"), None).unwrap();
    assert_eq!((missing.status, &missing.json()["code"]), (404, &"not_found".into()), "{}", missing.brief());
    let nobody = cluster.nodes[0].delete("/hraftd/raft/remove", Some("{}")).unwrap();
    assert_eq!((nobody.status, &nobody.json()["code"]), (400, &"bad_request".into()), "{}", nobody.brief());
    cluster.voters_are(&cluster.ids());

    let id = cluster.nodes[2].id();
    let gone = cluster.nodes[1].delete(&format!("/raft/remove?id={id}"), None).unwrap();
    assert_eq!(gone.status, 200, "{}", gone.brief());
    cluster.voters_are(&without(&cluster, 2));
    is_removed(&mut cluster.nodes[2]);
}

/// Found by the simulation (seed 80): where nobody else was up, the first of the list, removed and started again, formed a
/// cluster beside the one that it was to join.
#[test]
fn a_removed_first_node_forms_no_other_cluster() {
    let mut cluster = Cluster::with_one_list(3);
    cluster.start_all();
    cluster.settled();
    let ids = cluster.ids();
    cluster.nodes[1].set("k", "1").unwrap();
    let id = cluster.nodes[0].id();
    remove(&cluster.nodes[1], &id);
    cluster.voters_are(&without(&cluster, 0));
    is_removed(&mut cluster.nodes[0]);
    cluster.stop_all();
    for _ in 0..2 {
        cluster.nodes[0].start();
        // It listens for a second before it forms one.
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let voters = cluster.nodes[0].voters().unwrap_or_default();
            assert!(!voters.contains(&id), "{voters:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster.nodes[0].stop();
    }
    cluster.start_all();
    cluster.voters_are(&ids);
    cluster.settled();
    cluster.all_have("k", "1");
}
