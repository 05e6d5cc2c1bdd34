//! Increments with an `Idempotency-Key`, repeated until they are answered while leaders are killed: each counts once.
//!
//! `HRAFTD_INCREMENTS=1000000 cargo test --test history increments` for more of the same.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::nemesis::from_env;
use crate::support::cluster::Cluster;
use crate::support::extent::extent;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const CLIENTS: u64 = 16;
/// Shorter than an election now and then, so that a client asks elsewhere while the first is still at it.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// So that the kills fall among the increments.
const PACE: Duration = Duration::from_millis(10);

/// What became of one increment.
#[derive(Debug)]
struct Counted {
    number: u64,
    replayed: bool,
    attempts: u32,
}

/// Asks any node, until one answers.
fn count_once(haddrs: &[String], conns: &mut [Option<Conn>], rng: &mut StdRng, key: &str) -> Counted {
    for attempts in 1.. {
        let at = rng.random_range(0..haddrs.len());
        let opened = conns[at].take().map_or_else(|| Conn::open_within(&haddrs[at], PATIENCE), Ok);
        let asked = opened.and_then(|mut conn| {
            // The same to the letter, however often.
            let headers = [("Idempotency-Key", key)];
            let reply = conn.request("POST", "/hraftd/key/n?incr=1&timeout=2s", &headers, None)?;
            Ok((conn, reply))
        });
        match asked {
            Ok((conn, reply)) => match reply.status {
                200 => {
                    conns[at] = Some(conn);
                    let replayed = reply.header("Idempotency-Replayed").is_some();
                    return Counted { number: reply.json()["n"].as_u64().unwrap(), replayed, attempts };
                }
                // Nobody knows, or nothing was done.
                503 | 504 => {}
                _ => panic!("{key}: {}", reply.brief()),
            },
            Err(_) => std::thread::sleep(Duration::from_millis(rng.random_range(0..50))),
        }
    }
    unreachable!()
}

#[test]
fn increments_through_leader_kills_end_exact() {
    let total = from_env("HRAFTD_INCREMENTS", extent(4_000, 10_000)).next_multiple_of(CLIENTS);
    let mut cluster = Cluster::with_one_list_in(Lab::busy(), 3);
    cluster.start_all();
    cluster.settled();
    let haddrs: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
    let counted = Mutex::new(Vec::new());
    let mut kills = 0;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (haddrs, counted) = (&haddrs, &counted);
                scope.spawn(move || {
                    let mut rng = StdRng::seed_from_u64(client);
                    let mut conns: Vec<Option<Conn>> = haddrs.iter().map(|_| None).collect();
                    for number in 0..total / CLIENTS {
                        let key = format!("{client}-{number}");
                        let one = count_once(haddrs, &mut conns, &mut rng, &key);
                        counted.lock().unwrap().push(one);
                        std::thread::park_timeout(PACE);
                    }
                })
            })
            .collect();
        let mut rng = StdRng::seed_from_u64(CLIENTS);
        while !clients.iter().all(|client| client.is_finished()) {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..800)));
            let leader = cluster.leader();
            cluster.nodes[leader].kill();
            std::thread::sleep(Duration::from_millis(rng.random_range(0..600)));
            cluster.nodes[leader].start();
            kills += 1;
            cluster.settled();
        }
    });
    let counted = counted.into_inner().unwrap();
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    counted.iter().for_each(|one| *times.entry(one.number).or_default() += 1);
    let repeated = counted.iter().filter(|one| one.attempts > 1).count();
    let replayed = counted.iter().filter(|one| one.replayed).count();
    say(&format!(
        "history: {total} increments, {kills} leaders killed, {repeated} repeated, {replayed} of them done before"
    ));
    assert!(times.values().all(|times| *times == 1), "numbers that two were told");
    assert_eq!((times.len() as u64, times.keys().next_back()), (total, Some(&total)));
    assert!(kills >= 3 && repeated > 0, "{kills} kills, {repeated} repeated: no test");
    for node in &mut cluster.nodes {
        node.assert_alive();
        eventually(SETTLE, &format!("{} has counted to {total}", node.name), || {
            let found = node.local("n")?;
            check(found == total, || found.to_string())
        });
    }
}
