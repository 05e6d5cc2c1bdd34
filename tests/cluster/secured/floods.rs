//! Floods at a closed cluster: handshakes, half ones, and wrong tokens. All is bounded, those who belong are served, and nobody
//! takes a node for gone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{closed, tool};
use crate::support::cluster::Cluster;
use crate::support::crowd::allow_files;
use crate::support::extent::extent;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, eventually};

/// The begin of a handshake, whose rest never comes.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00";

/// Half handshakes that are held open at a time, at a client port and at a Raft port: fewer than there are places at the first.
const HALVES: (usize, usize) = (200, 100);

/// What a flood may take of a node's memory.
const MOST_KIB: u64 = 64 << 10;

/// Puts at each node again and again, on connections of their own, until there were so many in a row.
fn goes_on(cluster: &Cluster, puts: usize) {
    for number in 0..puts {
        let node = &cluster.nodes[number % cluster.nodes.len()];
        node.set("k", &number.to_string()).unwrap();
    }
}

#[test]
fn handshakes_whole_and_half_are_bounded_and_end_nothing() {
    let (cluster, _) = closed(Lab::busy(), 3, &[]);
    let leader = &cluster.nodes[cluster.leader()];
    goes_on(&cluster, 6);
    let (term, memory) = (leader.stat("term").unwrap(), leader.memory_kib("VmRSS"));
    let half = |addr: &str| {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(HALF).unwrap();
        stream
    };
    let began = Instant::now();
    let halves: Vec<TcpStream> =
        (0..HALVES.0).map(|_| half(&leader.haddr)).chain((0..HALVES.1).map(|_| half(&leader.raddr))).collect();
    let (stop, shaken) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    // A whole handshake, and no request; and one at the Raft port that is refused.
                    shaken.fetch_add(usize::from(Conn::open(&leader.haddr).is_ok()), Relaxed);
                    drop(half(&leader.raddr));
                }
            });
        }
        while began.elapsed() < Duration::from_secs(extent(3, 10)) {
            goes_on(&cluster, 3);
        }
        stop.store(true, Relaxed);
    });
    // Each half one has ended within its time.
    for mut stream in halves {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut space = [0; 64];
        while matches!(stream.read(&mut space), Ok(1..)) {}
    }
    goes_on(&cluster, 6);
    assert_eq!(leader.stat("term").unwrap(), term, "nobody took a node for gone");
    let grown = leader.memory_kib("VmHWM").saturating_sub(memory);
    say(&format!("{} handshakes, {HALVES:?} half ones: {} KiB more", shaken.load(Relaxed), grown));
    assert!(grown < MOST_KIB, "{grown} KiB");
    assert!(shaken.load(Relaxed) > 10, "hardly anybody got in");
}

#[test]
fn wrong_tokens_as_fast_as_they_come_stall_nobody() {
    let (cluster, _) = closed(Lab::busy(), 3, &[]);
    let lab = cluster.lab.path();
    // Well formed, and of nobody: the node looks again before it says no.
    let unknown = format!("Bearer {}", tool(lab, &["token"]).trim());
    let broken = format!("{}{}", &unknown[..unknown.len() - 1], if unknown.ends_with('a') { 'b' } else { 'a' });
    let leader = &cluster.nodes[cluster.leader()];
    goes_on(&cluster, 6);
    let (term, memory, logged) = (leader.stat("term").unwrap(), leader.memory_kib("VmRSS"), leader.log_text().len());
    let (began, stop, refused) = (Instant::now(), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for wrong in [&unknown, &broken, &broken] {
            let (stop, refused) = (&stop, &refused);
            scope.spawn(move || {
                let mut conn = Conn::open(&leader.haddr).unwrap();
                while !stop.load(Relaxed) {
                    let asked = conn.request("PUT", "/hraftd/key/k", &[("Authorization", wrong)], Some(b"0"));
                    let Ok(reply) = asked else {
                        // Its body came after the answer: nobody reads that.
                        conn = Conn::open(&leader.haddr).unwrap();
                        continue;
                    };
                    assert_eq!(reply.status, 401, "{}", reply.brief());
                    refused.fetch_add(1, Relaxed);
                }
            });
        }
        while began.elapsed() < Duration::from_secs(extent(3, 10)) {
            goes_on(&cluster, 3);
        }
        stop.store(true, Relaxed);
    });
    let (took, refused) = (began.elapsed(), refused.load(Relaxed));
    assert_eq!(leader.stat("term").unwrap(), term, "nobody took a node for gone");
    let (grown, log) = (leader.memory_kib("VmHWM").saturating_sub(memory), leader.log_text().len() - logged);
    say(&format!("{refused} wrong tokens in {took:.1?}: {grown} KiB more, {log} bytes of log"));
    assert!(grown < MOST_KIB, "{grown} KiB");
    assert!(log < 32 << 10, "{log} bytes of log: one line a second for a name and address");
    assert!(refused > 100, "{refused} wrong tokens");
}

/// Places for clients of a node that may open [`FEW_FILES`], and more.
const CROWD: usize = 120;
const FEW_FILES: usize = 256;

/// Issue 21, the second attack: whoever had no token held all places of a client port, and renewed that with a 401 now and then.
#[test]
fn connections_without_a_token_keep_nobody_out() {
    let (mut cluster, _) = closed(Lab::busy(), 3, &[]);
    let number = cluster.follower();
    let node = cluster.nodes.remove(number).files(FEW_FILES);
    cluster.nodes.insert(number, node);
    cluster.nodes[number].stop();
    cluster.nodes[number].start();
    cluster.nodes[number].wait_ready();
    let node = &cluster.nodes[number];
    let mut known = Conn::open(&node.haddr).unwrap();
    known.request("GET", "/hraftd/key/k", &[], None).unwrap();
    let held: Vec<Conn> = (0..CROWD)
        .filter_map(|_| {
            let mut conn = Conn::open(&node.haddr).ok()?;
            let answer = conn.request("GET", "/hraftd/key/k", &[("Authorization", "Bearer x")], None);
            answer.is_ok_and(|answer| answer.status == 401).then_some(conn)
        })
        .collect();
    let made_room = || {
        let metrics = node.get("/metrics")?.ok()?.text();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("hraftd_http_made_room_total ").map(str::to_owned));
        Ok::<_, String>(line.ok_or("no such metric")?.parse::<f64>().unwrap())
    };
    // They would stay for two minutes.
    eventually(SETTLE, "a client with a token is served", || node.set("k", "1").map(drop));
    assert!(made_room().unwrap() > 0.0, "there was room for all");
    let answer = known.request("GET", "/hraftd/key/k", &[], None).unwrap();
    assert_eq!(answer.status, 200, "it keeps its place: {}", answer.brief());
    drop(held);
}

/// The memory of a node for each of so many connections that have had one answer and wait, in KiB.
fn idle_kib(leader: &Node, count: usize) -> (f64, Vec<Conn>) {
    let open = || {
        let mut conn = Conn::open(&leader.haddr).unwrap();
        conn.request("GET", "/hraftd/raft/state", &[], None).unwrap().ok().unwrap();
        conn
    };
    // What all connections share is there after the first ones.
    let mut all: Vec<Conn> = (0..32).map(|_| open()).collect();
    let before = leader.memory_kib("VmRSS");
    all.extend((0..count).map(|_| open()));
    let grown = leader.memory_kib("VmRSS").saturating_sub(before);
    (grown as f64 / count as f64, all)
}

/// `HRAFTD_CONNECTIONS=10000` opens so many.
#[test]
fn an_idle_connection_under_tls_takes_little_more_than_a_plain_one() {
    let count = std::env::var("HRAFTD_CONNECTIONS").map_or(extent(500, 2_000), |text| text.parse().unwrap());
    allow_files();
    let plain = Cluster::start(1);
    let (of_plain, conns) = idle_kib(&plain.nodes[0], count);
    drop((conns, plain));
    let (cluster, _) = closed(Lab::busy(), 3, &[]);
    let leader = &cluster.nodes[cluster.leader()];
    let term = leader.stat("term").unwrap();
    let (of_tls, conns) = idle_kib(leader, count);
    goes_on(&cluster, 6);
    assert_eq!(leader.stat("term").unwrap(), term, "nobody took a node for gone");
    drop(conns);
    say(&format!("{count} connections: {of_plain:.1} KiB each in plain text, {of_tls:.1} KiB under TLS"));
    assert!(of_tls <= of_plain + 32.0, "{of_tls} KiB under TLS, {of_plain} in plain text");
}
