//! Backups of many keys under full write load, and of many bytes: what they cost, and how soon a restored node serves.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench_support::system;
use crate::parts::{fill, leader_of, window};
use crate::support::cluster::Cluster;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::{Node, hraftd};

const KEYS: usize = 1_000_000;
const WINDOW: Duration = Duration::from_secs(5);
const LARGE: usize = 100 << 10;

/// Runs `hraftd` with these arguments; gives what it printed.
fn tool(lab: &Lab, args: &[&str]) -> String {
    let began = Instant::now();
    let mut command: Command = hraftd(lab.path());
    let end = command.args(args).output().unwrap();
    assert!(end.status.success(), "{args:?}: {}", String::from_utf8_lossy(&end.stderr));
    println!(
        "  {:<40} {:.2} s",
        args[..2].join(" ").chars().take(40).collect::<String>(),
        began.elapsed().as_secs_f64()
    );
    String::from_utf8(end.stdout).unwrap()
}

fn digest(node: &Node) -> String {
    node.get("/hraftd/raft/node").unwrap().ok().unwrap().json()["digest"].as_str().unwrap().to_owned()
}

fn forget_peak(node: &Node) {
    std::fs::write(format!("/proc/{}/clear_refs", node.pid().as_raw_nonzero()), "5").unwrap();
}

/// Restores a file into a new node, and shows how soon that serves, with which digest.
fn restore(lab: &Lab, file: &str) {
    let mut node = lab.node("restored");
    let rdir = node.rdir.display().to_string();
    let began = Instant::now();
    let said = tool(lab, &["restore", file, "--rdir", &rdir]);
    node.start();
    node.wait_ready();
    println!("  serves {:.2} s after `restore` began", began.elapsed().as_secs_f64());
    assert!(said.contains(&digest(&node)), "{said}");
}

/// Shows what a backup of a million keys costs beside writers, and the restore of it.
pub fn backup() {
    let mut cluster = Cluster::start(1);
    let leader = leader_of(&cluster);
    fill(&leader, 0, KEYS);
    println!("  without       {}", window(&cluster, vec![leader.clone()], KEYS, 100, WINDOW).line());
    let node = &cluster.nodes[0];
    forget_peak(node);
    let before = node.memory_kib("VmRSS") >> 10;
    let file = cluster.lab.path().join("f.backup").display().to_string();
    thread::scope(|scope| {
        // One after the other: the whole window has one beside it.
        let backing = scope.spawn(|| {
            let began = Instant::now();
            while began.elapsed() < WINDOW {
                tool(&cluster.lab, &["backup", &file, "--endpoints", &leader]);
            }
        });
        println!("  with          {}", window(&cluster, vec![leader.clone()], KEYS, 100, WINDOW).line());
        backing.join().unwrap();
    });
    let bytes = std::fs::metadata(&file).unwrap().len();
    println!("  {} MiB; the node had {before} MiB, at its peak {}", bytes >> 20, node.memory_kib("VmHWM") >> 10);
    cluster.nodes[0].kill();
    restore(&cluster.lab, &file);
    drop(cluster);

    println!("  1 GiB in values of {} KiB, {} cores", LARGE >> 10, system::cores());
    let mut cluster = Cluster::start(1);
    let mut conn = Conn::open(&leader_of(&cluster)).unwrap();
    let value = vec![b'v'; LARGE];
    for key in 0..(1 << 30) / LARGE {
        let headers = [("Content-Type", "application/octet-stream")];
        conn.request("PUT", &format!("/hraftd/key/large-{key:08}"), &headers, Some(&value)).unwrap().ok().unwrap();
    }
    let node = &cluster.nodes[0];
    forget_peak(node);
    let before = node.memory_kib("VmRSS") >> 10;
    let file = cluster.lab.path().join("g.backup").display().to_string();
    tool(&cluster.lab, &["backup", &file, "--endpoints", &node.haddr]);
    println!("  the node had {before} MiB, at its peak {}", node.memory_kib("VmHWM") >> 10);
    tool(&cluster.lab, &["backup", "verify", &file]);
    cluster.nodes[0].kill();
    cluster.nodes[0].wipe();
    restore(&cluster.lab, &file);
}
