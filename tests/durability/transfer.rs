//! A snapshot on its way to a follower whose connection breaks: it is sent again, from the start, and the follower
//! serves its own copy meanwhile.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::support::cluster::Cluster;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::ports;
use crate::support::wait::{SETTLE, check, eventually};

const SNAPSHOT: &[u8] = b"POST /raft/v1/snapshot";
/// So many bytes of a snapshot are let through.
const CUT_AFTER: usize = 3 << 20;
const VALUE: usize = 500_000;
const KEYS: usize = 40;

/// What the proxy does with snapshots.
#[derive(Default)]
struct Plan {
    /// Transfers yet to be held in their midst, and then cut.
    cuts: AtomicUsize,
    /// Those that were, so far.
    held: AtomicUsize,
    /// Those that may be let go.
    released: Mutex<usize>,
    changed: Condvar,
}

impl Plan {
    fn release_one(&self) {
        *self.released.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// Passes on what comes; `false` where the connection is to be cut.
    fn pass(&self, from: &mut TcpStream, to: &mut TcpStream) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let mut of_snapshot = None;
        loop {
            let Ok(n @ 1..) = from.read(&mut buffer) else { return true };
            if buffer[..n].windows(SNAPSHOT.len()).any(|window| window == SNAPSHOT) {
                of_snapshot = Some(0);
            }
            if let Some(passed) = &mut of_snapshot {
                *passed += n;
                if *passed > CUT_AFTER
                    && self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
                {
                    let turn = self.held.fetch_add(1, Ordering::SeqCst) + 1;
                    let released = self.released.lock().unwrap();
                    drop(self.changed.wait_while(released, |released| *released < turn).unwrap());
                    return false;
                }
            }
            if to.write_all(&buffer[..n]).is_err() {
                return true;
            }
        }
    }
}

/// Stands before a Raft port.
fn proxy(port: u16, target: String, plan: Arc<Plan>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { continue };
            let pairs = [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server.try_clone().unwrap(), client.try_clone().unwrap()),
            ];
            for (mut from, mut to) in pairs {
                let plan = plan.clone();
                std::thread::spawn(move || {
                    let how = if plan.pass(&mut from, &mut to) { Shutdown::Write } else { Shutdown::Both };
                    let _ = (to.shutdown(how), from.shutdown(Shutdown::Read));
                    if matches!(how, Shutdown::Both) {
                        let _ = from.shutdown(Shutdown::Both);
                    }
                });
            }
        }
    });
}

fn write_large(node: &Node, mark: &str) {
    let mut conn = Conn::open(&node.haddr).unwrap();
    for number in 0..KEYS {
        let body = format!(r#"{{"large{number}":"{mark}{}","mark":"{mark}"}}"#, "v".repeat(VALUE));
        conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
    }
}

const ARGS: [&str; 2] = ["--snapshot-threshold", "20"];

/// A cluster whose third node is reached through the proxy, and is behind by a snapshot.
fn behind_a_proxy() -> (Cluster, Arc<Plan>) {
    let plan = Arc::<Plan>::default();
    let mut cluster = Cluster::start_with(Lab::new(), 2, &ARGS);
    let port = ports::free_pair();
    let advertised = format!("127.0.0.1:{port}");
    let first = cluster.nodes[0].haddr.clone();
    let mut node = cluster.lab.node("n2").args(&ARGS).rjoin(&[&first]).args(&["--radv", &advertised]);
    let bound = std::mem::replace(&mut node.raddr, advertised);
    node.bind.extend(["--raddr".to_owned(), bound.clone()]);
    proxy(port, bound, plan.clone());
    node.start();
    cluster.nodes.push(node);
    cluster.settled();
    cluster.nodes[0].set("mark", "\"old\"").unwrap();
    cluster.all_have("mark", "\"old\"");
    // Not killed: it would not know for sure, at its next start, that the mark was committed.
    cluster.nodes[2].stop();
    write_large(&cluster.nodes[0], "new");
    let applied = cluster.nodes[0].stat("applied_index").unwrap();
    for node in cluster.running() {
        eventually(SETTLE, "what it lacks is in a snapshot", || {
            let found = node.stat("last_snapshot_index")?;
            check(found + 25 > applied, || format!("{found} of {applied}"))
        });
    }
    (cluster, plan)
}

fn unfinished(node: &Node) -> usize {
    let names = std::fs::read_dir(&node.rdir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".tmp")).count()
}

fn wait_unfinished(node: &Node) {
    eventually(SETTLE, "half of a snapshot", || {
        let found = unfinished(node);
        check(found == 1, || format!("{found} files"))
    });
}

fn wait_held(plan: &Plan, turn: usize) {
    eventually(SETTLE, "a transfer is in its midst", || {
        let held = plan.held.load(Ordering::SeqCst);
        check(held >= turn, || format!("{held} of {turn}"))
    });
}

#[test]
fn a_broken_transfer_is_begun_again() {
    let (mut cluster, plan) = behind_a_proxy();
    plan.cuts.store(2, Ordering::SeqCst);
    cluster.nodes[2].start();
    for turn in 1..=2 {
        wait_held(&plan, turn);
        let node = &cluster.nodes[2];
        assert_eq!(node.local("mark").unwrap(), "old", "its own copy is served while the other arrives");
        wait_unfinished(node);
        plan.release_one();
    }
    cluster.settled();
    cluster.all_have("mark", "\"new\"");
    cluster.all_have("large39", &format!("\"new{}\"", "v".repeat(VALUE)));
    assert_eq!(unfinished(&cluster.nodes[2]), 0, "nothing is left of the broken ones");
}

#[test]
fn a_receiver_that_is_killed_starts_over() {
    let (mut cluster, plan) = behind_a_proxy();
    plan.cuts.store(1, Ordering::SeqCst);
    cluster.nodes[2].start();
    wait_held(&plan, 1);
    wait_unfinished(&cluster.nodes[2]);
    cluster.nodes[2].kill();
    assert_eq!(unfinished(&cluster.nodes[2]), 1);
    plan.release_one();
    cluster.nodes[2].start();
    cluster.settled();
    cluster.all_have("mark", "\"new\"");
    assert_eq!(unfinished(&cluster.nodes[2]), 0);
}

#[test]
fn a_sender_that_is_killed_is_replaced() {
    let (mut cluster, plan) = behind_a_proxy();
    plan.cuts.store(1, Ordering::SeqCst);
    cluster.nodes[2].start();
    wait_held(&plan, 1);
    let leader = cluster.nodes.iter().position(|node| node.state().as_deref() == Ok("Leader")).unwrap();
    cluster.nodes[leader].kill();
    plan.release_one();
    // The follower votes with what it has; the other one, which has all, leads and sends its own.
    cluster.all_have("mark", "\"new\"");
    cluster.nodes[leader].start();
    cluster.settled();
    cluster.all_have("mark", "\"new\"");
}
