//! Garbage, slow clients, silent peers, no quorum: the node lives, and the others are served.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::cluster::Cluster;
use crate::support::http::{self, Conn};
use crate::support::wait::{SETTLE, check, eventually};

/// Where Raft messages are posted on the Raft port.
const CALL_PATH: &str = "/raft/v1/call";

/// Not HTTP, or not such as anybody should answer.
fn garbage() -> Vec<Vec<u8>> {
    // A fixed seed: the same bytes on every run.
    let mut rng = StdRng::seed_from_u64(1);
    let noise = (0..65_536).map(|_| rng.random::<u8>());
    vec![
        noise.collect(),
        vec![0; 10_000],
        vec![0xff; 10_000],
        b"\r\n\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /hraftd/key/k HTTP/9.9\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /hraftd/key/\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(),
        b"POST /hraftd/key HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /hraftd/key HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        b"POST /hraftd/key HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        [b"GET /".to_vec(), vec![b'a'; 1 << 20], b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ".to_vec(), vec![b'a'; 1 << 20], b"\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n".to_vec(), b"X: y\r\n".repeat(10_000), b"\r\n".to_vec()].concat(),
    ]
}

#[test]
fn garbage_on_both_ports() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    let term = cluster.nodes[0].stat("term").unwrap();
    for node in &cluster.nodes {
        for addr in [&node.haddr, &node.raddr] {
            for bytes in garbage() {
                let mut conn = Conn::open(addr).unwrap();
                conn.patience(Duration::from_millis(200));
                let _ = conn.send(&bytes);
                // No answer, or one that refuses.
                if let Ok(reply) = conn.reply(false) {
                    assert!(reply.status >= 400, "{addr}: {} for {:?}", reply.brief(), &bytes[..40.min(bytes.len())]);
                }
            }
        }
    }
    for node in &mut cluster.nodes {
        node.assert_alive();
    }
    cluster.settled();
    cluster.all_have("k", "1");
    assert_eq!(cluster.nodes[0].stat("term").unwrap(), term, "garbage caused an election");
}

/// Well-formed HTTP on the Raft port, with bodies that are no Raft messages.
#[test]
fn nonsense_for_raft() {
    let mut cluster = Cluster::start(1);
    for path in ["/", "/raft", "/append", "/vote", "/snapshot", "/raft/append", "/raft/vote", "/hraftd/key/k"] {
        for body in [&b""[..], b"{}", &[0xff; 1000], &[0; 100_000]] {
            let reply = http::call(&cluster.nodes[0].raddr, "POST", path, Some(body)).unwrap();
            assert!(reply.status >= 400, "{path}: {}", reply.brief());
        }
    }
    cluster.nodes[0].assert_alive();
    cluster.nodes[0].set("k", "1").unwrap();
}

/// Many clients that send a byte now and then, or half a body: they are cut off, and nobody waits for them.
#[test]
fn slow_clients_are_cut_off() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let began = Instant::now();
    let open = |addr: &str, head: &str| {
        let mut conn = Conn::open(addr).unwrap();
        conn.send(head.as_bytes()).unwrap();
        conn.patience(Duration::from_millis(1));
        conn
    };
    let head = format!("GET /hraftd/raft/health HTTP/1.1\r\nHost: {}\r\nX-Slow: ", node.haddr);
    let half = format!("POST /hraftd/key HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\n{{\"k\"", node.haddr);
    let long = |addr: &str, path: &str| {
        open(addr, &format!("POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 90000\r\n\r\n{{\"k\":\""))
    };
    // Each with whether it goes on trickling.
    let mut slow: Vec<(Conn, bool)> = Vec::new();
    slow.extend((0..40).map(|_| (open(&node.haddr, &head), true)));
    slow.extend((0..10).map(|_| (open(&node.raddr, &head), true)));
    slow.extend((0..10).map(|_| (open(&node.haddr, &half), false)));
    slow.extend((0..10).map(|_| (long(&node.haddr, "/hraftd/key"), true)));
    slow.extend((0..10).map(|_| (long(&node.raddr, CALL_PATH), true)));
    let mut round = 0;
    eventually(SETTLE, "all slow clients are cut off", || {
        round += 1;
        let asked = Instant::now();
        node.set("served", &round.to_string()).unwrap();
        assert!(asked.elapsed() < Duration::from_secs(10), "others waited {:?}", asked.elapsed());
        slow.retain_mut(|(conn, trickles)| {
            let sent = if *trickles { conn.send(b"a") } else { Ok(()) };
            match conn.reply(true) {
                Ok(reply) => {
                    assert_eq!(reply.status, 408);
                    false
                }
                Err(error) => sent.is_ok() && is_still_open(&error),
            }
        });
        check(slow.is_empty(), || format!("{} are still open after {:?}", slow.len(), began.elapsed()))
    });
    assert_eq!(node.get("/hraftd/key/k").unwrap().status, 404);
}

/// A read that found nothing yet: the time ran out, the connection did not end.
fn is_still_open(error: &str) -> bool {
    error.contains("temporarily unavailable") || error.contains("timed out")
}

#[test]
fn no_quorum_is_said_in_time() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.all_have("k", "1");
    let leader = cluster.leader();
    let left = (leader + 2) % 3;
    let dead = [leader, (leader + 1) % 3];
    for number in dead {
        cluster.nodes[number].kill();
    }
    let node = &cluster.nodes[left];
    // At first it may still believe in its leader.
    eventually(SETTLE, "there is no leader", || {
        let seen = node.get("/hraftd/raft/cluster")?.ok()?.json();
        check(seen["leader"].is_null(), || seen.to_string())
    });
    for (method, path, body) in [
        ("GET", "/hraftd/key/k", None),
        ("POST", "/hraftd/key", Some(&br#"{"lost":1}"#[..])),
        ("DELETE", "/hraftd/key/k", None),
    ] {
        let began = Instant::now();
        let reply = http::call(&node.haddr, method, path, body).unwrap();
        assert_eq!((reply.status, &reply.json()["code"]), (503, &"no_leader".into()), "{}", reply.brief());
        assert!(reply.header("Retry-After").is_some_and(|value| value.parse::<u32>().is_ok()), "{:?}", reply.headers);
        assert!(began.elapsed() < Duration::from_secs(9), "{method} took {:?}", began.elapsed());
        for number in dead {
            let haddr = &cluster.nodes[number].haddr;
            assert!(reply.text().contains(haddr), "{haddr} is not named: {}", reply.brief());
        }
        if method == "GET" {
            assert!(reply.text().contains("level=none"), "{}", reply.brief());
        }
    }
    let began = Instant::now();
    let reply = node.get("/hraftd/key/k?timeout=500ms").unwrap();
    assert_eq!(reply.status, 503, "{}", reply.brief());
    assert!(began.elapsed() < Duration::from_secs(9), "it took {:?}", began.elapsed());
    assert_eq!(node.local("k").unwrap(), 1);
    let ready = node.get("/hraftd/raft/ready").unwrap();
    assert_eq!((ready.status, node.get("/hraftd/raft/health").unwrap().status), (503, 200), "{}", ready.brief());

    cluster.nodes[leader].start();
    cluster.voters_are(&cluster.ids());
    cluster.all_have("k", "1");
    assert_eq!(cluster.nodes[left].get("/hraftd/key/lost").unwrap().status, 404);
}

/// The leader itself, cut off from both others: no 200 that is not so.
#[test]
fn a_leader_without_followers_acknowledges_nothing() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    cluster.nodes[(leader + 1) % 3].kill();
    cluster.nodes[(leader + 2) % 3].kill();
    let began = Instant::now();
    for request in [
        cluster.nodes[leader].post("/hraftd/key?timeout=2s", r#"{"k":1}"#).unwrap(),
        cluster.nodes[leader].get("/hraftd/key/k?timeout=2s").unwrap(),
    ] {
        assert!([503, 504].contains(&request.status), "{}", request.brief());
    }
    assert!(began.elapsed() < Duration::from_secs(18), "it took {:?}", began.elapsed());
}

/// The kernel still accepts for a stopped process: a peer that never answers.
#[test]
fn a_silent_follower_delays_nobody() {
    let cluster = Cluster::start(3);
    let (leader, silent) = (cluster.leader(), cluster.follower());
    let other = (0..3).find(|&number| number != leader && number != silent).unwrap();
    cluster.nodes[0].set("n", "0").unwrap();
    let term = cluster.nodes[leader].stat("term").unwrap();
    cluster.nodes[silent].pause();
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut count = 0;
    // Longer than any election or RPC timeout.
    while began.elapsed() < Duration::from_secs(6) {
        count += 1;
        let asked = Instant::now();
        let (writer, reader) = if count % 2 == 0 { (leader, other) } else { (other, leader) };
        cluster.nodes[writer].set("n", &count.to_string()).unwrap();
        assert_eq!(cluster.nodes[reader].value("n").unwrap(), count);
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "a write and a read took {slowest:?}");
    cluster.nodes[silent].resume();
    cluster.settled();
    cluster.all_have("n", &count.to_string());
    assert_eq!(cluster.nodes[leader].stat("term").unwrap(), term, "the silent node deposed the leader");
}

/// A leader that stops answering is replaced; when it goes on it follows, and acknowledges nothing on its own.
#[test]
fn a_silent_leader_is_replaced() {
    let cluster = Cluster::start(3);
    let silent = cluster.leader();
    cluster.nodes[silent].pause();
    let other = &cluster.nodes[(silent + 1) % 3];
    eventually(SETTLE, "the others take writes", || other.set("k", "2"));
    cluster.nodes[silent].resume();
    assert_eq!(eventually(SETTLE, "it reads what the others wrote", || cluster.nodes[silent].value("k")), 2);
    cluster.settled();
}
