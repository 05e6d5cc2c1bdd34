//! Strangers at the Raft port, and those that ask to join: members get through all the same, and strangers learn nothing.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::support::cluster::Cluster;
use crate::support::crowd::{Client, allow_files, request};
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::namespace::in_own_network;
use crate::support::node::Node;
use crate::support::say;
use crate::support::shell::Shell;
use crate::support::wait::{SETTLE, check, eventually};

/// Keeps so many half messages at a Raft port: what ends is begun again after `pause`.
async fn keep_half_messages(raddr: String, count: usize, pause: Duration) {
    let half = format!("POST /raft/v1/call HTTP/1.1\r\nHost: {raddr}\r\nContent-Length: 100\r\n\r\nx").into_bytes();
    let tasks = (0..count).map(|_| {
        let (raddr, half) = (raddr.clone(), half.clone());
        async move {
            loop {
                if let Ok(mut client) = Client::open(&raddr).await
                    && client.stream.write_all(&half).await.is_ok()
                {
                    let _ = client.head().await;
                }
                tokio::time::sleep(pause).await;
            }
        }
    });
    futures_util::future::join_all(tasks).await;
}

/// Issue 18, A6: 2,750 half messages at the leader's Raft port made followers' writes and reads fail, and the leader change.
#[test]
fn members_get_through_to_a_raft_port_full_of_half_messages() {
    const HALF: usize = 2_750;
    allow_files();
    // Their Raft ports have places for some of the half messages only.
    let cluster = Cluster::start_with_files(3, 4_096);
    let term = cluster.nodes[0].stat("term").unwrap();
    let leads = cluster.leader();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let flood = runtime.spawn(keep_half_messages(cluster.nodes[leads].raddr.clone(), HALF, Duration::from_millis(500)));
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < Duration::from_secs(4) {
        for node in &cluster.nodes {
            written += 1;
            node.set("k", &written.to_string()).unwrap();
            assert_eq!(node.value("k").unwrap(), written);
        }
    }
    assert!(!flood.is_finished());
    flood.abort();
    say(&format!("strangers: {written} writes beside {HALF} half messages"));
    for node in &cluster.nodes {
        assert_eq!(node.stat("term").unwrap(), term, "an election because of half messages");
    }
}

/// A member that starts again while strangers fill its Raft port, and its leader's, comes back all the same.
#[test]
fn a_member_restarts_beside_a_lasting_flood_of_its_raft_port() {
    const HALF: usize = 600;
    const PAUSE: Duration = Duration::from_secs(1);
    allow_files();
    // Their Raft ports have 64 places for strangers.
    let mut cluster = Cluster::start_with_files(3, 1_024);
    let (leads, restarts) = (cluster.leader(), cluster.follower());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let floods =
        [leads, restarts].map(|at| runtime.spawn(keep_half_messages(cluster.nodes[at].raddr.clone(), HALF, PAUSE)));
    for round in 0..2 {
        if round == 0 {
            cluster.nodes[restarts].stop();
        } else {
            cluster.nodes[restarts].kill();
        }
        let before = round.to_string();
        let other = &cluster.nodes[leads];
        eventually(SETTLE, "the others take writes", || other.set("meanwhile", &before));
        let began = Instant::now();
        cluster.nodes[restarts].start();
        cluster.nodes[restarts].wait_ready();
        cluster.nodes[restarts].set("after", &before).unwrap();
        say(&format!("strangers: a member serves {:.1?} after its start beside a flood", began.elapsed()));
        assert_eq!(cluster.nodes[restarts].value("meanwhile").unwrap(), round);
    }
    assert!(floods.iter().all(|flood| !flood.is_finished()));
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    cluster.settled();
}

/// The refusal of a join of this id.
fn refused_join(node: &Node, id: &str) -> String {
    let asked = node.post("/hraftd/raft/join?timeout=10s", &format!("{{\"id\":\"{id}\"}}")).unwrap();
    assert_eq!(asked.status, 409, "{}", asked.text());
    asked.json()["msg"].as_str().unwrap().to_owned()
}

/// Issue 18, B5: join dialled loopback in disguise.
#[test]
fn loopback_in_disguise_is_not_dialled() {
    in_own_network("strangers::loopback_in_disguise_is_not_dialled", &[], || {
        let lab = Lab::new();
        Shell::new(lab.path()).run("ip addr add 10.99.0.1/32 dev lo");
        let mut node = lab.node("only");
        (node.haddr, node.raddr) = ("10.99.0.1:11000".to_owned(), "10.99.0.1:12000".to_owned());
        node.bind = vec!["--haddr".to_owned(), node.haddr.clone()];
        node.start();
        node.wait_ready();
        let secret = TcpListener::bind("127.0.0.1:0").unwrap();
        secret.set_nonblocking(true).unwrap();
        let port = secret.local_addr().unwrap().port();
        for host in ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "127.9.9.9"] {
            let why = refused_join(&node, &format!("10.99.0.1:1,{host}:{port}"));
            assert!(why.contains("one of them advertises loopback"), "{host}: {why}");
        }
        assert_eq!(secret.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody connected");
        for host in ["169.254.169.254", "[::ffff:169.254.169.254]", "0.0.0.0", "[fe80::1]"] {
            let why = refused_join(&node, &format!("10.99.0.1:1,{host}:{port}"));
            assert!(why.contains("no node can be at that Raft address"), "{host}: {why}");
        }
    });
}

/// Issue 18, B5: what join answered told open ports from closed ones.
#[test]
fn a_join_tells_nothing_of_the_port_that_it_names() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let [silent, closed] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = [&silent, &closed].map(|listener| listener.local_addr().unwrap().port().to_string());
    drop(closed);
    let http = node.haddr.rsplit_once(':').unwrap().1.to_owned();
    let told: Vec<String> = [ports[0].clone(), ports[1].clone(), http]
        .iter()
        .map(|port| {
            refused_join(node, &format!("127.0.0.1:1,127.0.0.1:{port}")).replace(&format!(":{port} "), ":PORT ")
        })
        .collect();
    assert!(told[0].contains("cannot reach 127.0.0.1:1,127.0.0.1:PORT at its Raft address"), "{told:?}");
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

/// Issue 18, B5: 200 joins to silent addresses held an honest remove for 30 s.
#[test]
fn joins_to_silent_addresses_hold_no_remove() {
    const JOINS: usize = 200;
    allow_files();
    let cluster = Cluster::start(3);
    let (leads, follows) = (&cluster.nodes[cluster.leader()], &cluster.nodes[cluster.follower()]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let asking = (0..JOINS).map(|number| {
        let haddr = leads.haddr.clone();
        let id = format!("{{\"id\":\"127.0.0.1:{},127.0.0.1:{port}\"}}", number + 1);
        async move {
            let ask = request(&haddr, "POST", "/hraftd/raft/join?timeout=30s", &id);
            Client::open(&haddr).await.unwrap().ask(&ask).await.unwrap().0.status
        }
    });
    let asking = runtime.spawn(futures_util::future::join_all(asking));
    // Some are dialled, and the rest is refused, before the remove comes.
    silent.accept().unwrap();
    let began = Instant::now();
    leads.delete(&format!("/hraftd/raft/remove?id={}", follows.id()), None).unwrap().ok().unwrap();
    let took = began.elapsed();
    say(&format!("strangers: a remove beside {JOINS} joins to a silent address took {} ms", took.as_millis()));
    assert!(took < Duration::from_secs(10), "{took:?}");
    let statuses = runtime.block_on(asking).unwrap();
    assert!(statuses.iter().all(|status| [409, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&503), "few are dialled at a time");
}

/// Issue 18, the second attack: junk to the snapshots' path was a line each, 8,900 a second, and so was a join that failed.
#[test]
fn what_strangers_send_is_a_few_log_lines() {
    const SENT: usize = 300;
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lines = || node.log_text().lines().count();
    let before = lines();
    let mut conn = Conn::open(&node.raddr).unwrap();
    for _ in 0..SENT {
        let headers = [("Content-Type", "application/vnd.hraftd.raft")];
        // Head of one byte, and no such head.
        let answer = conn.request("POST", "/raft/v1/snapshot", &headers, Some(b"\x01\0\0\0\xff"));
        if answer.is_ok_and(|answer| answer.header("connection") != Some("close")) {
            continue;
        }
        conn = Conn::open(&node.raddr).unwrap();
    }
    for number in 0..SENT {
        refused_join(node, &format!("127.0.0.1:{},127.0.0.1:{closed}", number + 1));
    }
    eventually(SETTLE, "both are logged", || {
        let text = node.log_text();
        check(text.contains("a snapshot was not received") && text.contains("cannot be reached"), || text.clone())
    });
    let written = lines() - before;
    assert!(written < 40, "{written} lines:\n{}", node.log_text());
    // An id is short, in the log and in the answer, here and at a follower.
    let long = format!(r#"{{"id":"127.0.0.1:1,{}:2"}}"#, "a".repeat(1 << 20));
    let refused = node.post("/hraftd/raft/join", &long).unwrap();
    assert!(refused.status == 400 && refused.body.len() < 500, "{} {}", refused.status, refused.body.len());
    assert!(node.log_text().len() < 100_000);
}
