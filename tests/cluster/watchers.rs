//! Many watchers that never read: what they cost is bounded, and writes go on.

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::watch::Watch;

const WATCHERS: usize = 2_000;
/// So many writes each time.
const SMALL: u32 = 300;
const MIB: u64 = 1 << 10;
/// Each for its connection: buffers of reading and writing, what it took ahead, and its watcher.
const KIB_A_WATCHER: u64 = 64;

/// So many connections need as many files; the node inherits it.
fn allow_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Writes so many times; how long the slowest took.
fn write(conn: &mut Conn, value: &str, times: u32) -> (Duration, Duration) {
    let body = format!(r#"{{"k":{value}}}"#);
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        let asked = Instant::now();
        conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    (began.elapsed(), slowest)
}

fn more(node: &Node, before: u64) -> u64 {
    node.memory_kib("VmRSS").saturating_sub(before)
}

#[test]
fn watchers_that_never_read() {
    allow_files();
    let lab = Lab::alone();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    let mut conn = Conn::open(&node.haddr).unwrap();
    let (alone, _) = write(&mut conn, "1", SMALL);
    let before = node.memory_kib("VmRSS");
    let watches: Vec<Watch> =
        (0..WATCHERS).map(|n| Watch::open(&node.haddr, if n % 2 == 0 { "key=k" } else { "prefix=" })).collect();
    let idle = more(&node, before);
    // Small ones first, then such as a connection takes no second of: in all far more than the kernel takes.
    let small = format!("\"{}\"", "s".repeat(1_000));
    let (watched, slowest) = write(&mut conn, &small, SMALL);
    let (_, large_slowest) = write(&mut conn, &format!("\"{}\"", "l".repeat(500_000)), 30);
    let (after, _) = write(&mut conn, "1", SMALL);
    let busy = more(&node, before);
    say(&format!(
        "watchers: {WATCHERS} that never read: {} MiB while idle, {} MiB once they are stuck",
        idle / MIB,
        busy / MIB
    ));
    say(&format!(
        "watchers: {SMALL} small writes took {alone:.0?} without them, {watched:.0?} while they fill up (slowest \
         {slowest:.0?}, of large ones {large_slowest:.0?}), {after:.0?} once they are stuck"
    ));
    // The history itself keeps up to 64 MiB, the log and the requests as much again.
    assert!(busy < KIB_A_WATCHER * WATCHERS as u64 + 256 * MIB, "{} MiB", busy / MIB);
    assert!(slowest.max(large_slowest) < Duration::from_secs(5), "writes waited for watchers");
    assert!(after < alone * 4 + Duration::from_secs(1), "{after:?} instead of {alone:?}");
    drop(watches);
    node.assert_alive();
    node.stop();
}
