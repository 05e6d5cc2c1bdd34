//! Nodes whose directories are started under other addresses: moved, swapped, rotated, and copied.

use std::path::Path;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::node::Node;
use crate::support::process::finish;
use crate::support::wait::{SETTLE, check, eventually};

/// Stops it and starts its directory under other addresses, with `--rjoin` naming these.
fn moved(cluster: &Cluster, number: usize, rjoin: &[&str]) -> Node {
    let mut moved = cluster.lab.node(&format!("moved{number}")).rjoin(rjoin);
    moved.rdir = cluster.nodes[number].rdir.clone();
    moved
}

/// All nodes in new places, each with the list of all new client addresses; not started.
fn all_in_new_places(cluster: &Cluster) -> Vec<Node> {
    let count = cluster.nodes.len();
    let mut nodes: Vec<Node> = (0..count).map(|number| moved(cluster, number, &[])).collect();
    let list: Vec<String> = nodes.iter().map(|node| node.haddr.clone()).collect();
    nodes.iter_mut().for_each(|node| node.set_args(&["--rjoin", &list.join(",")]));
    nodes
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// It runs, takes no part, and says so with these words.
fn takes_no_part(node: &mut Node, words: &[&str]) {
    eventually(SETTLE, &format!("{} says why it takes no part", node.name), || {
        let ready = node.get("/hraftd/raft/ready")?;
        let said = ready.json()["msg"].as_str().unwrap_or_default().to_owned();
        check(ready.status == 503 && words.iter().all(|word| said.contains(word)), || said.clone())
    });
    let key = node.get("/hraftd/key/k").unwrap();
    assert_eq!((key.status, &key.json()["code"]), (503, &"not_ready".into()), "{}", key.brief());
    node.assert_alive();
}

fn is_whole(cluster: &Cluster) {
    cluster.settled();
    cluster.all_have("before", "1");
    for (number, node) in cluster.nodes.iter().enumerate() {
        let key = format!("after{number}");
        node.set(&key, "1").unwrap();
        cluster.all_have(&key, "1");
    }
}

/// Issue 15, row 7: no leader, for ever.
#[test]
fn all_at_once() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    cluster.stop_all();
    cluster.nodes = all_in_new_places(&cluster);
    cluster.start_all();
    is_whole(&cluster);
    // It is settled: another start asks nobody.
    cluster.stop_all();
    cluster.start_all();
    is_whole(&cluster);
}

#[test]
fn one_after_the_other() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    for number in 0..3 {
        let other = cluster.nodes[(number + 1) % 3].haddr.clone();
        cluster.nodes[number].stop();
        cluster.nodes[number] = moved(&cluster, number, &[&other]);
        cluster.nodes[number].start();
        is_whole(&cluster);
    }
}

/// The others hear of it from the movers alone: nothing that they were started with names the new places.
#[test]
fn two_of_three() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    let list: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
    let stays = cluster.follower();
    let moving: Vec<usize> = (0..3).filter(|number| *number != stays).collect();
    moving.iter().for_each(|number| cluster.nodes[*number].ask_to_stop());
    moving.iter().for_each(|number| cluster.nodes[*number].wait_stopped());
    let mut places: Vec<Node> = moving.iter().map(|number| moved(&cluster, *number, &[])).collect();
    let rjoin = format!("{},{},{}", list[stays], places[0].haddr, places[1].haddr);
    for (number, mut node) in moving.into_iter().zip(places.drain(..)) {
        node.set_args(&["--rjoin", &rjoin]);
        node.start();
        cluster.nodes[number] = node;
    }
    is_whole(&cluster);
}

/// Each directory goes on at the addresses of the next of these.
fn rotate(cluster: &mut Cluster, numbers: &[usize]) {
    numbers.iter().for_each(|number| cluster.nodes[*number].ask_to_stop());
    numbers.iter().for_each(|number| cluster.nodes[*number].wait_stopped());
    let dirs: Vec<_> = numbers.iter().map(|number| cluster.nodes[*number].rdir.clone()).collect();
    for (place, number) in numbers.iter().enumerate() {
        cluster.nodes[*number].rdir = dirs[(place + 1) % dirs.len()].clone();
        cluster.nodes[*number].start();
    }
}

#[test]
fn two_swap_their_addresses() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    rotate(&mut cluster, &[1, 2]);
    is_whole(&cluster);
}

#[test]
fn three_rotate() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    rotate(&mut cluster, &[0, 1, 2]);
    is_whole(&cluster);
}

/// A learner that moves keeps its place without a vote.
#[test]
fn a_learner() {
    let cluster = Cluster::start(1);
    let first = cluster.nodes[0].haddr.clone();
    let mut learner = cluster.lab.node("learner").rjoin(&[&first]).args(&["--non-voter"]);
    learner.start();
    learner.wait_ready();
    learner.stop();
    let mut moved = cluster.lab.node("moved").rjoin(&[&first]).args(&["--non-voter"]);
    moved.rdir = learner.rdir.clone();
    moved.start();
    moved.wait_ready();
    cluster.nodes[0].set("k", "1").unwrap();
    eventually(SETTLE, "its new address is known, and no other", || {
        let members = cluster.nodes[0].stats()?["latest_configuration"].clone();
        let ids: Vec<_> = members.as_array().unwrap().iter().map(|member| member["id"].clone()).collect();
        let wanted = [cluster.nodes[0].id(), moved.id()];
        check(ids.len() == 2 && wanted.iter().all(|id| ids.contains(&id.as_str().into())), || members.to_string())
    });
    assert_eq!(moved.state().unwrap(), "Learner");
    assert_eq!(moved.value("k").unwrap(), 1);
}

/// It waits for the voter that is missing, however often it is started, and names it.
#[test]
fn without_a_voter_it_waits_and_names_it() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    cluster.stop_all();
    let missing = cluster.nodes[2].id();
    let mut places = all_in_new_places(&cluster);
    for _ in 0..2 {
        places[..2].iter_mut().for_each(Node::start);
        places[..2].iter_mut().for_each(|node| takes_no_part(node, &["moved from", &missing, "--moved"]));
        places[..2].iter_mut().for_each(Node::stop);
    }
    // Back at its addresses it is who it was.
    cluster.nodes[0].start();
    cluster.nodes[2].start();
    eventually(SETTLE, "two of three have a leader", || cluster.nodes[0].set("meanwhile", "1"));
    cluster.nodes[1].start();
    is_whole(&cluster);
}

/// A process that was killed may have been copied while it ran. The operator knows.
#[test]
fn after_a_kill_the_operator_says_that_they_moved() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    cluster.all_have("before", "1");
    Node::kill_all(cluster.nodes.iter_mut());
    cluster.nodes = all_in_new_places(&cluster);
    cluster.start_all();
    cluster.nodes.iter_mut().for_each(|node| takes_no_part(node, &["not stopped cleanly", "--moved"]));
    cluster.stop_all();
    let list: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
    cluster.nodes.iter_mut().for_each(|node| node.set_args(&["--moved", "--rjoin", &list.join(",")]));
    cluster.start_all();
    is_whole(&cluster);
}

/// The original stands still: a copy of it joins as a new member, and the original learns that it is none any more.
#[test]
fn a_copy_beside_a_frozen_original_replaces_it() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    cluster.all_have("before", "1");
    let frozen = cluster.follower();
    cluster.nodes[frozen].pause();
    let other = cluster.nodes[(frozen + 1) % 3].haddr.clone();
    let mut place = cluster.lab.node("copy").rjoin(&[&other]);
    copy(&cluster.nodes[frozen].rdir, &place.rdir);
    place.start();
    place.wait_ready();
    let original = std::mem::replace(&mut cluster.nodes[frozen], place);
    cluster.voters_are(&cluster.ids());
    cluster.nodes[frozen].set("k", "1").unwrap();
    original.resume();
    eventually(SETTLE, "the original is no member any more", || {
        let state = original.state()?;
        check(state == "Shutdown", || state.clone())
    });
    is_whole(&cluster);
}

/// Issue 15, row 1: with one more node down, the copy was let in, and there were two leaders of one term.
#[test]
fn a_copy_beside_a_frozen_original_waits_for_a_quorum() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    cluster.all_have("before", "1");
    let leader = cluster.leader();
    let (down, frozen) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[frozen].pause();
    cluster.nodes[down].kill();
    let mut place = cluster.lab.node("copy").rjoin(&[&cluster.nodes[leader].haddr.clone()]);
    copy(&cluster.nodes[frozen].rdir, &place.rdir);
    place.start();
    takes_no_part(&mut place, &["moved from", &cluster.nodes[down].id()]);
    let refused = cluster.nodes[leader].post("/hraftd/key?timeout=2s", r#"{"k":1}"#).unwrap();
    assert!(refused.status >= 500, "{}", refused.brief());
    cluster.nodes[frozen].resume();
    cluster.nodes[down].start();
    let code = eventually(SETTLE, "the copy ends", || place.ended().ok_or_else(|| "it runs".to_owned()));
    assert_eq!(code, Some(78), "{}", place.log_text());
    let reason = place.log_text().lines().last().unwrap_or_default().to_owned();
    assert!(reason.contains(&cluster.nodes[frozen].haddr) && reason.contains(&place.haddr), "{reason}");
    is_whole(&cluster);
}

/// A copy of a directory in use ends with 78, and the node that uses it goes on.
#[test]
fn a_copy_beside_a_living_original_is_refused() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("before", "1").unwrap();
    let original = cluster.follower();
    let place = cluster.lab.node("copy").rjoin(&[&cluster.nodes[(original + 1) % 3].haddr.clone()]);
    copy(&cluster.nodes[original].rdir, &place.rdir);
    let end = finish(&mut place.command(), Duration::from_secs(20));
    assert_eq!(end.code, Some(78), "{end:?}");
    let reason = end.stderr.lines().last().unwrap();
    assert!(reason.contains(&cluster.nodes[original].haddr) && reason.contains(&place.haddr), "{end:?}");
    cluster.nodes[original].assert_alive();
    is_whole(&cluster);
}
