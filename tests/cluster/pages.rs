//! Issue 23: a hundred pages open on one node, each of which follows all events and asks what a page asks, as often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, interval};

use crate::overload::{MIB, runtime, serves_as_ever, under};
use crate::support::cluster::Cluster;
use crate::support::crowd::{Client, allow_files, request};
use crate::support::extent::extent;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const PAGES: usize = 100;
/// What a page asks for, and how often, in seconds.
const ASKED: [(&str, u64); 5] = [
    ("/hraftd/raft/members", 1),
    ("/hraftd/raft/ready", 2),
    ("/hraftd/raft/doctor", 5),
    ("/hraftd/raft/cluster", 5),
    ("/ui/live.js", 10),
];

/// What all pages saw.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    followers: AtomicUsize,
    slowest_ms: AtomicUsize,
}

/// Follows the events of all members; counts once it is told of a commit.
async fn follow(addr: String, seen: Arc<Seen>) {
    let mut client = Client::open(&addr).await.unwrap();
    client.stream.write_all(&request(&addr, "GET", "/hraftd/raft/events?all", "")).await.unwrap();
    let (mut text, mut buffer, mut is_told) = (Vec::new(), [0; 4096], false);
    while let Ok(length @ 1..) = client.stream.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..length]);
        if !is_told && text.windows(7).any(|part| part == b"commit\"") {
            is_told = true;
            seen.followers.fetch_add(1, Ordering::Relaxed);
        }
        text.drain(..text.len().saturating_sub(7));
    }
}

/// Asks as a page does: one request at a time on each of its connections. Nothing is refused.
async fn ask(addr: String, path: &'static str, every: u64, seen: Arc<Seen>) {
    let (mut client, mut ticks) = (Client::open(&addr).await.unwrap(), interval(Duration::from_secs(every)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let asked = request(&addr, "GET", path, "");
    loop {
        ticks.tick().await;
        let began = Instant::now();
        let (head, _) = client.ask(&asked).await.unwrap();
        assert_eq!(head.status, 200, "{path}: {}", head.text);
        seen.slowest_ms.fetch_max(began.elapsed().as_millis() as usize, Ordering::Relaxed);
        seen.answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_hundred_pages_open_on_one_node() {
    allow_files();
    let cluster = Cluster::start_with(Lab::alone(), 3, &[]);
    let node = &cluster.nodes[cluster.follower()];
    let (runtime, seen) = (runtime(), Arc::new(Seen::default()));
    under("a hundred pages", &cluster.nodes, 128 * MIB, || {
        let mut tasks = Vec::new();
        for _ in 0..PAGES {
            tasks.push(runtime.spawn(follow(node.haddr.clone(), seen.clone())));
            for (path, every) in ASKED {
                tasks.push(runtime.spawn(ask(node.haddr.clone(), path, every, seen.clone())));
            }
        }
        let mut conn = Conn::open(&node.haddr).unwrap();
        let rounds = extent(4, 30);
        eventually(SETTLE * 3, "each page has asked some times, and is told of a write", || {
            conn.request("POST", "/hraftd/key", &[], Some(br#"{"small":1}"#))?.ok()?;
            if let Some(ended) = tasks.iter().find(|task| task.is_finished()) {
                panic!("a page is refused something: {ended:?}");
            }
            let (answers, followers) = (seen.answers.load(Ordering::Relaxed), seen.followers.load(Ordering::Relaxed));
            let wanted = PAGES * rounds;
            check(followers == PAGES && answers >= wanted, || format!("{answers} of {wanted}, {followers} followers"))
        });
        let doctor: Value = node.get("/hraftd/raft/doctor").unwrap().ok().unwrap().json();
        say(&format!(
            "{} answers to {PAGES} pages, the slowest after {} ms; findings: {}",
            seen.answers.load(Ordering::Relaxed),
            seen.slowest_ms.load(Ordering::Relaxed),
            doctor["findings"]
        ));
    });
    drop(runtime);
    serves_as_ever(&cluster, "after the pages");
}
