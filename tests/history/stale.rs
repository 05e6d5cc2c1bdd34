//! `level=none` reads old state at a follower that was paused, and the checker sees it: the tests here can fail.

use std::time::{Duration, Instant};

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

/// The bound that a reader sets, and what it is told, count the pause. The leader is stopped before the follower goes on,
/// so all that the follower can hear is older than its own pause.
#[test]
fn freshness_refuses_what_is_too_old() {
    let cluster = Cluster::start_with(Lab::new(), 3, &[]);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.all_have("k", "1");
    let (leader, paused) = (cluster.leader(), cluster.follower());
    let others: Vec<usize> = (0..3).filter(|&number| number != paused).collect();
    eventually(SETTLE, "a read that is told how old its copy is", || {
        let reply = cluster.nodes[paused].get("/hraftd/key/k?level=none&freshness=10s")?;
        if reply.header("X-Hraftd-Staleness-Ms").is_some() { Ok(()) } else { Err(reply.brief()) }
    });
    let mut conn = Conn::open(&cluster.nodes[paused].haddr).unwrap();
    cluster.nodes[paused].pause();
    let began = Instant::now();
    cluster.nodes[leader].set("k", "2").unwrap();
    // How long the fault lasts.
    std::thread::sleep(PAUSE);
    others.iter().for_each(|&number| cluster.nodes[number].pause());
    let paused_ms = began.elapsed().as_millis() as u64;
    cluster.nodes[paused].resume();
    for _ in 0..20 {
        let reply = conn.request("GET", "/hraftd/key/k?level=none", &[], None).unwrap();
        let age: u64 = reply.header("X-Hraftd-Staleness-Ms").expect("an age").parse().unwrap();
        assert!(age >= paused_ms, "told {age} ms after a pause of {paused_ms} ms: {}", reply.brief());
        let bounded = conn.request("GET", "/hraftd/key/k?level=none&freshness=200ms", &[], None).unwrap();
        assert_eq!(bounded.status, 503, "{}", bounded.brief());
    }
    others.iter().for_each(|&number| cluster.nodes[number].resume());
}
