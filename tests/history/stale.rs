//! `level=none` reads old state at a follower that was paused, and the checker sees it: the tests here can fail.

use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::history::{Client, Recorder};
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, eventually};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for some writes; shorter than it takes to reconnect.
const PAUSE: Duration = Duration::from_millis(300);

#[test]
fn none_is_stale_after_a_pause() {
    let cluster = Cluster::start_with(Lab::new(), 3, &[]);
    let haddrs: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
    let (leader, paused) = (cluster.leader(), cluster.follower());
    let all = Recorder::new(haddrs.clone(), 1);
    let linearizable = Recorder::new(haddrs, 1);
    let (mut local, mut good) = (Client::new(&all, PATIENCE), Client::new(&linearizable, PATIENCE));
    eventually(SETTLE, "a stale read at a follower that was paused", || {
        // On connections that are open before the pause.
        for client in [&mut local, &mut good] {
            client.put(leader, 0);
            client.get(paused, 0, "linearizable");
        }
        cluster.nodes[paused].pause();
        local.put(leader, 0);
        good.put(leader, 0);
        // How long the fault lasts.
        std::thread::sleep(PAUSE);
        cluster.nodes[paused].resume();
        local.get(paused, 0, "none");
        good.get(paused, 0, "linearizable");
        if all.is_linearizable() { Err(format!("none yet: {}", all.counts())) } else { Ok(()) }
    });
    linearizable.assert_linearizable("linearizable reads after a pause");
}

/// The bound that a reader sets, and what it is told, count the pause.
#[test]
fn freshness_refuses_what_is_too_old() {
    let cluster = Cluster::start_with(Lab::new(), 3, &[]);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.all_have("k", "1");
    let (leader, paused) = (cluster.leader(), cluster.follower());
    let mut seen = Vec::new();
    eventually(SETTLE, "a read that is told how old its copy is", || {
        let mut conn = Conn::open(&cluster.nodes[paused].haddr)?;
        cluster.nodes[paused].pause();
        cluster.nodes[leader].set("k", "2").unwrap();
        std::thread::sleep(PAUSE);
        cluster.nodes[paused].resume();
        let reply = conn.request("GET", "/hraftd/key/k?level=none", &[], None)?;
        let age: u64 = reply.header("X-Hraftd-Staleness-Ms").and_then(|age| age.parse().ok()).ok_or("no age")?;
        seen.push(age);
        let bounded = conn.request("GET", "/hraftd/key/k?level=none&freshness=10s", &[], None)?;
        assert_eq!(bounded.status, 200, "{}", bounded.brief());
        if age >= 200 { Ok(()) } else { Err(format!("ages {seen:?}")) }
    });
    // With nobody to hear from, its copy only ages.
    for number in (0..3).filter(|&number| number != paused) {
        cluster.nodes[number].pause();
    }
    eventually(SETTLE, "a copy that is too old is refused", || {
        let reply = cluster.nodes[paused].get("/hraftd/key/k?level=none&freshness=500ms")?;
        if reply.status == 503 { Ok(()) } else { Err(reply.brief()) }
    });
    cluster.nodes.iter().for_each(crate::support::node::Node::resume);
}
