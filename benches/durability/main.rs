//! Figures of durability, measured on the built binary from outside: `cargo bench --bench durability`.
//!
//! Its parts, each an argument that runs it alone:
//!
//! - `start`: how long a start takes (1,000,000 keys of 100 bytes in a snapshot, 100,000 log entries after it), beside
//!   reading the files once.
//! - `resident`: memory of a leader that was loaded with these keys.
//! - `memory`: the same, and peak memory of a node that sends a snapshot and of one that receives it.
//! - `disk`: size of the directory while the same keys are overwritten.
//!
//! All take some five minutes, and 2 GB of disk in the directory for temporary files. `KEYS` in the environment sets
//! another number of keys.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod load;
#[path = "../../tests/support/mod.rs"]
mod support;
mod system;

use std::time::{Duration, Instant};

use load::{fill, fill_by, overwrite, wait_snapshot};
use support::cluster::Cluster;
use support::lab::Lab;
use support::node::Node;
use support::wait::{check, eventually};
use system::{Memory, dir_bytes, drop_cache, mib, read_all, while_sampling};

const LOG_ENTRIES: usize = 100_000;
const SNAPSHOTS_NEVER: &str = "1000000000";
const READY_TIMEOUT: Duration = Duration::from_secs(120);

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let keys = std::env::var("KEYS").map_or(1_000_000, |keys| keys.parse().unwrap());
    if wanted("start") {
        start_up(keys);
    }
    if wanted("resident") || wanted("memory") {
        resident(keys);
    }
    if wanted("memory") {
        memory(keys);
    }
    if wanted("disk") {
        disk();
    }
}

fn wait_ready(node: &Node) {
    eventually(READY_TIMEOUT, "ready", || node.ready());
}

fn restart(node: &mut Node, args: &[&str]) {
    node.stop();
    node.set_args(args);
    node.start();
    wait_ready(node);
}

/// A node with `keys` keys in a snapshot, and no log entries after it.
fn with_keys(lab: &Lab, keys: usize) -> Node {
    let mut node = lab.node("n0").args(&["--snapshot-threshold", "500"]);
    node.start();
    wait_ready(&node);
    let began = Instant::now();
    let last = fill(&node, keys, 'a');
    wait_snapshot(&node, last);
    println!("{keys} keys of 100 bytes were written and are in a snapshot after {:.1?}", began.elapsed());
    node
}

fn start_up(keys: usize) {
    let lab = Lab::new();
    let mut node = with_keys(&lab, keys);
    restart(&mut node, &["--snapshot-threshold", SNAPSHOTS_NEVER]);
    let began = Instant::now();
    overwrite(&node, LOG_ENTRIES, 100, keys);
    println!("{LOG_ENTRIES} entries more after {:.1?}", began.elapsed());
    let applied = node.stat("applied_index").unwrap();
    for round in 0..3 {
        node.kill();
        let bytes = dir_bytes(&node.rdir);
        let cold = round < 2;
        let forget = || {
            if cold {
                drop_cache(&node.rdir)
            }
        };
        forget();
        let began = Instant::now();
        read_all(&node.rdir);
        let read = began.elapsed();
        forget();
        let began = Instant::now();
        node.start();
        wait_ready(&node);
        let served = began.elapsed();
        let memory = Memory::of(&node);
        println!(
            "start-up with {keys} keys and {LOG_ENTRIES} log entries, {} cache: serving after {:.2} s; reading the {} \
             MiB of files once takes {:.2} s; memory {memory}",
            if cold { "cold" } else { "warm" },
            served.as_secs_f64(),
            mib(bytes),
            read.as_secs_f64(),
        );
        assert!(node.stat("applied_index").unwrap() >= applied);
    }
}

/// The memory that a leader may take once a million keys were loaded and a snapshot was made, in MB.
const RESIDENT_MB: f64 = 260.0;

fn resident(keys: usize) {
    for nodes in [1, 3] {
        // One entry a request: many requests make snapshots with the default threshold, few need a lower one.
        for (keys_a_request, threshold) in [(1_000, "500"), (1, "100000")] {
            let cluster = Cluster::start_with(Lab::new(), nodes, &["--snapshot-threshold", threshold]);
            let leader = &cluster.nodes[cluster.leader()];
            let last = fill_by(leader, keys, keys_a_request, 'a');
            let loaded = Memory::of(leader).now;
            wait_snapshot(leader, last);
            let settled = Memory::of(leader).now;
            let (loaded, settled) = (loaded as f64 / 1e6, settled as f64 / 1e6);
            println!(
                "{keys} keys of 100 bytes, {keys_a_request} a request, in the leader of {nodes}: {loaded:.0} MB resident \
                 after the load, {settled:.0} MB after a snapshot; {RESIDENT_MB} MB are allowed for a million"
            );
        }
    }
}

fn memory(keys: usize) {
    let lab = Lab::new();
    let mut node = with_keys(&lab, keys);
    restart(&mut node, &["--snapshot-threshold", "20000"]);
    let state = Memory::of(&node).now;
    println!("a node that loaded these keys from its snapshot has {} MiB", mib(state));
    let first = node.haddr.clone();
    let mut cluster = Cluster { nodes: vec![node], lab };
    for number in 1..3 {
        let node = cluster.lab.node(&format!("n{number}")).rjoin(&[&first]).args(&["--snapshot-threshold", "20000"]);
        Memory::forget_peak(&cluster.nodes[0]);
        cluster.nodes.push(node);
        cluster.nodes[number].start();
        wait_ready(&cluster.nodes[number]);
        println!(
            "a new node was sent a snapshot: the sender's peak is {}, the receiver's {}",
            Memory::of(&cluster.nodes[0]).against(state),
            Memory::of(&cluster.nodes[number]).against(state)
        );
    }
    cluster.settled();
    // Making one under writes, streaming it, and receiving it beside an old state of the same size.
    let behind = 2;
    cluster.nodes[behind].stop();
    Memory::forget_peak(&cluster.nodes[0]);
    let last = fill(&cluster.nodes[0], keys, 'b');
    println!("all keys were overwritten at full speed: {}", Memory::of(&cluster.nodes[0]));
    Memory::forget_peak(&cluster.nodes[0]);
    overwrite(&cluster.nodes[0], 25_000, 100, keys);
    wait_snapshot(&cluster.nodes[0], last);
    println!("making a snapshot under writes: {}", Memory::of(&cluster.nodes[0]));
    Memory::forget_peak(&cluster.nodes[0]);
    cluster.nodes[behind].start();
    let applied = cluster.nodes[0].stat("applied_index").unwrap();
    eventually(READY_TIMEOUT, "it has caught up", || {
        let found = cluster.nodes[behind].stat("applied_index")?;
        check(found >= applied, || format!("{found} of {applied}"))
    });
    println!(
        "a node with {keys} old keys was sent {keys} new ones: the sender's peak is {}, the receiver's {} (old + new is \
         {} MiB)",
        Memory::of(&cluster.nodes[0]).against(state),
        Memory::of(&cluster.nodes[behind]).against(2 * state),
        mib(2 * state)
    );
}

fn disk() {
    const VALUE: usize = 10_000;
    const WRITES: usize = 150_000;
    let lab = Lab::new();
    let mut node = lab.node("n0");
    node.start();
    wait_ready(&node);
    let rdir = node.rdir.clone();
    let largest = while_sampling(move || dir_bytes(&rdir), || overwrite(&node, WRITES, VALUE, 1_000));
    println!(
        "overwriting 1000 keys of {VALUE} bytes {WRITES} times ({} MiB, defaults): the directory had at most {} MiB",
        mib((WRITES * VALUE) as u64),
        mib(largest)
    );
}
