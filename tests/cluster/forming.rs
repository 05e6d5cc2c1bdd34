//! One cluster, whatever the addresses lead to: names and balancers for all nodes, addresses that two nodes tell, and joins
//! in a node's first second (issue 15, rows 5, 6 and 8).

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

/// Leads each connection to the next of these addresses. Its threads end with the test's process.
fn balancer(to: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let next = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let to = &to[next.fetch_add(1, Ordering::Relaxed) % to.len()];
            if let Ok(server) = TcpStream::connect(to) {
                pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(server, client);
            }
        }
    });
    addr
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Three nodes that all name one balancer before all of them.
fn behind_a_balancer(args: &[&str]) -> Cluster {
    let lab = Lab::new();
    let nodes: Vec<Node> = (0..3).map(|number| lab.node(&format!("n{number}"))).collect();
    let name = balancer(nodes.iter().map(|node| node.haddr.clone()).collect());
    let nodes = nodes.into_iter().map(|node| node.rjoin(&[&name]).args(args)).collect();
    let mut cluster = Cluster { nodes, lab };
    cluster.start_all();
    cluster
}

/// `e12.py`: three of nine starts made two clusters.
#[test]
fn by_a_balancer_for_all_nobody_forms_and_says_so() {
    let cluster = behind_a_balancer(&[]);
    for node in &cluster.nodes {
        eventually(SETTLE, "it says what it waits for", || {
            let log = node.log_text();
            check(log.contains("waiting for a cluster to join"), || log.clone())
        });
        assert!(!node.log_text().contains("formed cluster"));
    }
}

#[test]
fn by_a_balancer_for_all_those_that_are_expected_form_one() {
    let mut cluster = behind_a_balancer(&["--bootstrap-expect", "3"]);
    cluster.settled();
    let formed = cluster.nodes.iter().filter(|node| node.log_text().contains("formed cluster")).count();
    assert_eq!(formed, 1);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.all_have("k", "1");
    // One that comes back empty, with the same command, joins.
    let ids = cluster.ids();
    cluster.nodes[1].kill();
    cluster.nodes[1].wipe();
    cluster.nodes[1].start();
    cluster.voters_are(&ids);
    cluster.settled();
    cluster.all_have("k", "1");
}

/// `e11b.py`: the living member was evicted, and with the third one down all writes stopped.
#[test]
fn a_joiner_with_the_client_address_of_a_living_member_is_refused() {
    let mut cluster = Cluster::start(3);
    let ids = cluster.ids();
    let leader = cluster.leader();
    let (alive, down) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[down].kill();
    let (first, twin) = (cluster.nodes[leader].haddr.clone(), cluster.nodes[alive].haddr.clone());
    let mut joiner = cluster.lab.node("twin").rjoin(&[&first]).args(&["--hadv", &twin]);
    let raddr = joiner.raddr.clone();
    joiner.start();
    eventually(SETTLE, "it is told why", || {
        let log = joiner.log_text();
        check(log.contains(&format!("{twin},{raddr}")) && log.contains("advertise one address"), || log.clone())
    });
    cluster.nodes[alive].set("k", "1").unwrap();
    let id = format!(r#"{{"id":"{twin},{raddr}"}}"#);
    let asked = cluster.nodes[leader].post("/hraftd/raft/join", &id).unwrap();
    assert_eq!((asked.status, &asked.json()["code"]), (409, &"conflict".into()), "{}", asked.brief());
    let msg = asked.json()["msg"].to_string();
    assert!(msg.contains(&raddr) && msg.contains(&cluster.nodes[alive].id()), "it names both: {msg}");
    assert_eq!(cluster.nodes[leader].voters().unwrap(), ids);
    cluster.nodes[leader].set("k", "2").unwrap();
    joiner.kill();
    cluster.nodes[down].start();
    cluster.settled();
}

/// Both formed a cluster, or one of them ended with 1.
#[test]
fn a_node_that_is_joined_in_its_first_second_joins() {
    let lab = Lab::new();
    let mut nodes = vec![lab.node("n0"), lab.node("n1")];
    nodes[0].start();
    nodes[0].wait_ready();
    nodes[1].start();
    let id = format!(r#"{{"id":"{}"}}"#, nodes[1].id());
    eventually(SETTLE, "it is let in", || nodes[0].post("/hraftd/raft/join", &id)?.ok().map(drop));
    let cluster = Cluster { nodes, lab };
    cluster.settled();
    assert!(!cluster.nodes[1].log_text().contains("formed cluster"), "{}", cluster.nodes[1].log_text());
}

/// It took a minute, and left a dead learner.
#[test]
fn a_removed_node_that_runs_is_refused_at_once() {
    let cluster = Cluster::start(3);
    let gone = cluster.follower();
    let id = cluster.nodes[gone].id();
    let other = (gone + 1) % 3;
    cluster.nodes[other].delete(&format!("/hraftd/raft/remove?id={id}"), None).unwrap().ok().unwrap();
    eventually(SETTLE, "it knows", || {
        let state = cluster.nodes[gone].state()?;
        check(state == "Shutdown", || state)
    });
    let began = Instant::now();
    let joined = cluster.nodes[other].post("/hraftd/raft/join", &format!(r#"{{"id":"{id}"}}"#)).unwrap();
    assert_eq!(joined.status, 409, "{}", joined.brief());
    assert!(joined.json()["msg"].to_string().contains("was removed"), "{}", joined.brief());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(cluster.nodes[other].voters().unwrap().len(), 2);
}
