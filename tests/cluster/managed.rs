//! Members that are managed: leadership that is moved, learners, nodes that move, many at once.

use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::wait::eventually;

#[test]
fn leadership_is_moved_to_whom_is_named() {
    let cluster = Cluster::start(3);
    cluster.settled();
    let old = cluster.leader();
    let (new, asked) = ((old + 1) % 3, (old + 2) % 3);
    let named = format!("{{\"id\":\"{}\"}}", cluster.nodes[new].haddr);
    let reply = cluster.nodes[asked].post("/hraftd/raft/leader", &named).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.brief());
    assert_eq!(cluster.leader(), new);
    cluster.nodes[asked].set("k", "1").unwrap();
    // To lead already is no error; to name nobody moves it to somebody else.
    assert_eq!(cluster.nodes[old].post("/hraftd/raft/leader", &named).unwrap().status, 200);
    assert_eq!(cluster.nodes[asked].post("/hraftd/raft/leader", "").unwrap().status, 200);
    assert_ne!(cluster.leader(), new);
    assert_eq!(cluster.nodes[new].post("/hraftd/raft/leader?id=:1", "").unwrap().status, 404);
}

#[test]
fn a_non_voter_follows_and_never_votes() {
    let mut cluster = Cluster::start(1);
    let first = cluster.nodes[0].haddr.clone();
    let mut learner = cluster.lab.node("learner").rjoin(&[&first]).args(&["--non-voter"]);
    learner.start();
    learner.wait_ready();
    assert_eq!(learner.state().unwrap(), "Learner");
    cluster.nodes[0].set("k", "1").unwrap();
    assert_eq!(learner.value("k").unwrap(), 1);
    let members = cluster.nodes[0].stats().unwrap()["latest_configuration"].clone();
    assert_eq!(members.as_array().unwrap().len(), 2, "{members}");
    assert_eq!(cluster.nodes[0].stat("num_peers").unwrap(), 0, "no voter but itself");
    let auto = learner.get("/hraftd/key/k?level=auto").unwrap();
    assert_eq!(auto.header("X-Hraftd-Level"), Some("none"));
    // The voter goes on without it, and it comes back as what it was.
    learner.kill();
    cluster.nodes[0].set("k", "2").unwrap();
    learner.start();
    learner.wait_ready();
    assert_eq!((learner.state().unwrap().as_str(), learner.value("k").unwrap()), ("Learner", 2.into()));
    cluster.nodes[0].assert_alive();
}

#[test]
fn a_node_moves_with_its_directory() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    let moving = cluster.follower();
    cluster.nodes[moving].stop();
    cluster.nodes[(moving + 1) % 3].set("k", "2").unwrap();
    let other = cluster.nodes[(moving + 1) % 3].haddr.clone();
    let mut moved = cluster.lab.node("moved").rjoin(&[&other]);
    moved.rdir = cluster.nodes[moving].rdir.clone();
    moved.start();
    moved.wait_ready();
    let old = std::mem::replace(&mut cluster.nodes[moving], moved);
    assert!(!cluster.ids().contains(&old.id()));
    cluster.voters_are(&cluster.ids());
    cluster.all_have("k", "2");
}

#[test]
fn a_node_alone_moves_with_its_directory() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.start();
    node.wait_ready();
    node.set("k", "1").unwrap();
    node.stop();
    let mut moved = lab.node("moved");
    moved.rdir = node.rdir.clone();
    moved.start();
    moved.wait_ready();
    eventually(Duration::from_secs(20), "its membership has its new address", || {
        let voters = moved.voters()?;
        if voters.contains(&moved.id()) { Ok(()) } else { Err(format!("{voters:?}")) }
    });
    assert_eq!(moved.value("k").unwrap(), 1);
}

#[test]
fn ten_join_and_five_leave_at_once() {
    let mut cluster = Cluster::start(1);
    let first = cluster.nodes[0].haddr.clone();
    for number in 1..=10 {
        let mut node = cluster.lab.node(&format!("m{number}")).rjoin(&[&first]);
        node.start();
        cluster.nodes.push(node);
    }
    cluster.voters_are(&cluster.ids());
    let gone: Vec<_> = cluster.nodes.iter().skip(6).map(|node| node.id()).collect();
    std::thread::scope(|scope| {
        for (number, id) in gone.iter().enumerate() {
            let asked = &cluster.nodes[number];
            scope.spawn(move || {
                let reply = asked.delete("/hraftd/raft/remove", Some(&format!("{{\"id\":\"{id}\"}}"))).unwrap();
                assert_eq!(reply.status, 200, "{}", reply.brief());
            });
        }
    });
    let removed = cluster.nodes.split_off(6);
    cluster.voters_are(&cluster.ids());
    for node in &removed {
        eventually(Duration::from_secs(30), "it knows that it was removed", || match node.state()?.as_str() {
            "Shutdown" => Ok(()),
            other => Err(other.to_owned()),
        });
    }
    cluster.nodes[1].set("k", "1").unwrap();
}
