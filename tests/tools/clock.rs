//! A wall clock that jumps: what lives for a while lives that long, whoever leads, and whatever day it is said to be.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::faketime::library;
use crate::support::lab::Lab;
use crate::support::namespace::{is_there, skip};
use crate::support::node::{Node, hraftd};
use crate::support::process::{Reaped, finish};
use crate::support::wait::{SETTLE, check, eventually};

const TTL: Duration = Duration::from_secs(6);

/// A node whose wall clock is what a file says.
struct Skewed {
    node: Node,
    clock: PathBuf,
    process: Option<Reaped>,
}

impl Skewed {
    fn new(lab: &Lab, name: &str) -> Self {
        let clock = lab.path().join(format!("{name}.clock"));
        Self { node: lab.node(name), clock, process: None }
    }

    fn start(&mut self, library: &Path, rjoin: &str) {
        let mut command = self.node.command();
        command.args(["--rjoin", rjoin]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &self.clock).env("FAKETIME_NO_CACHE", "1");
        // Both names, of older and newer versions: a wall clock jumps, a monotonic one does not.
        command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        self.process = Some(Reaped::spawn(&mut command));
    }

    /// Sets the wall clock, at once.
    fn set_clock(&self, days: i32) {
        let renamed = self.clock.with_extension("new");
        std::fs::write(&renamed, format!("{days:+}d\n")).unwrap();
        std::fs::rename(&renamed, &self.clock).unwrap();
    }

    /// The day of the month that the node's answers have.
    fn day(&self) -> Result<String, String> {
        let reply = self.node.get("/hraftd/raft/state")?;
        let date = reply.header("Date").ok_or("no Date")?;
        date.split(' ').nth(1).map(str::to_owned).ok_or_else(|| date.to_owned())
    }

    fn leads(&self) -> bool {
        self.node.state().is_ok_and(|state| state == "Leader")
    }
}

/// A clock that runs too fast, and one that is set wrong: whoever is asked names the node.
#[test]
fn the_doctor_finds_clocks_that_are_fast_or_set_wrong() {
    const TEST: &str = "clock::the_doctor_finds_clocks_that_are_fast_or_set_wrong";
    let library = match library() {
        Some(library) if is_there("faketime") => library,
        _ => return skip(TEST, "missing Debian packages: faketime"),
    };
    let lab = Lab::new();
    let nodes: Vec<Node> = (0..3).map(|number| lab.node(&format!("n{number}"))).collect();
    let list: Vec<String> = nodes.iter().map(|node| node.haddr.clone()).collect();
    let list = list.join(",");
    let start = |node: &Node, clock: Option<&str>| {
        let mut command = node.command();
        command.args(["--rjoin", &list]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(clock) = clock {
            command.env("LD_PRELOAD", &library).env("FAKETIME", clock);
        }
        Reaped::spawn(&mut command)
    };
    // The clock of the second gains a tenth, all of them: also those that nobody sets.
    let _processes = [start(&nodes[0], None), start(&nodes[1], Some("+1h x1.1")), start(&nodes[2], None)];
    nodes.iter().for_each(Node::wait_ready);
    for asked in &nodes {
        eventually(SETTLE * 2, "the fast clock is found", || {
            let found = asked.get("/hraftd/raft/doctor")?.ok()?.json();
            let of_clocks = |part: &str| {
                let mut all = found["findings"].as_array().into_iter().flatten();
                all.find(|one| one["what"].as_str().is_some_and(|what| what.contains(part)))
                    .and_then(|one| one["node"].as_str())
                    .map(str::to_owned)
            };
            let wrong = if asked.haddr == nodes[1].haddr { &nodes[0] } else { &nodes[1] };
            let named = [of_clocks("too fast"), of_clocks("its clock is not that of")];
            check(named == [Some(nodes[1].id()), Some(wrong.id())], || found.to_string())
        });
    }
    let metrics = nodes[0].get("/metrics").unwrap().ok().unwrap().text();
    let skew = |node: &Node| {
        let name = format!("hraftd_clock_skew_seconds{{peer=\"{}\"}} ", node.id());
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
    };
    assert!(skew(&nodes[1]).is_some_and(|seconds| seconds >= 3_600.0), "{metrics}");
    assert!(skew(&nodes[2]).is_some_and(|seconds| seconds.abs() < 1.0), "{metrics}");
}

/// Certificates between nodes have no time: one node is in 1972, one in 2051.
#[test]
fn nodes_with_a_secret_know_each_other_on_whatever_day() {
    const TEST: &str = "clock::nodes_with_a_secret_know_each_other_on_whatever_day";
    let library = match library() {
        Some(library) if is_there("faketime") => library,
        _ => return skip(TEST, "missing Debian packages: faketime"),
    };
    let lab = Lab::new();
    let secret = lab.path().join("secret");
    let made = finish(hraftd(lab.path()).arg("secret").arg(&secret), Duration::from_secs(10));
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut nodes: Vec<Skewed> = (0..3).map(|number| Skewed::new(&lab, &format!("n{number}"))).collect();
    let list: Vec<String> = nodes.iter().map(|skewed| skewed.node.haddr.clone()).collect();
    let list = list.join(",");
    for (skewed, days) in nodes.iter_mut().zip([0, -20_000, 9_000]) {
        skewed.node.set_args(&["--cluster-secret-file", secret.to_str().unwrap()]);
        skewed.set_clock(days);
        skewed.start(&library, &list);
    }
    for skewed in &nodes {
        skewed.node.wait_ready();
    }
    eventually(SETTLE, "all are voters, and each takes a write", || {
        check(nodes[0].node.voters()?.len() == 3, || "not yet".to_owned())?;
        nodes.iter().try_for_each(|skewed| skewed.node.set("a", "1").map(drop))
    });
}

#[test]
fn a_wall_clock_that_jumps_moves_no_deadline() {
    const TEST: &str = "clock::a_wall_clock_that_jumps_moves_no_deadline";
    let library = match library() {
        Some(library) if is_there("faketime") => library,
        _ => return skip(TEST, "missing Debian packages: faketime"),
    };
    let lab = Lab::new();
    let mut nodes: Vec<Skewed> = (0..3).map(|number| Skewed::new(&lab, &format!("n{number}"))).collect();
    let list: Vec<String> = nodes.iter().map(|skewed| skewed.node.haddr.clone()).collect();
    let list = list.join(",");
    for (skewed, days) in nodes.iter_mut().zip([0, -1, 1]) {
        skewed.set_clock(days);
        skewed.start(&library, &list);
    }
    for skewed in &nodes {
        skewed.node.wait_ready();
        eventually(SETTLE, "three voters", || {
            let voters = skewed.node.voters()?;
            check(voters.len() == 3, || format!("{voters:?}"))
        });
    }
    let days: Vec<String> = nodes.iter().map(|skewed| skewed.day().unwrap()).collect();
    assert!(days[0] != days[1] && days[1] != days[2] && days[0] != days[2], "no clock was moved: {days:?}");

    let leader =
        eventually(SETTLE, "a leader", || nodes.iter().position(Skewed::leads).ok_or_else(|| "none yet".to_owned()));
    let sent = Instant::now();
    let set = nodes[(leader + 1) % 3].node.post(&format!("/hraftd/key?ttl={}s", TTL.as_secs()), r#"{"k":1}"#);
    set.and_then(|reply| reply.ok()).unwrap();
    for skewed in &nodes {
        eventually(SETTLE, "every node has it", || skewed.node.local("k").map(drop));
    }
    // Every node's clock goes to and fro by a day; the leader is killed, and started again, meanwhile.
    let mut gone = [None; 3];
    let (mut jumps, mut killed) = (0, false);
    while gone.iter().any(Option::is_none) {
        assert!(sent.elapsed() < TTL + SETTLE, "gone after {gone:?}");
        if sent.elapsed() > Duration::from_millis(300) * jumps {
            jumps += 1;
            for (number, skewed) in (0..).zip(&nodes) {
                skewed.set_clock([-1, 1, 0, 1, -1][(jumps as usize + number) % 5]);
            }
        }
        if !killed && sent.elapsed() > TTL / 3 {
            killed = true;
            nodes[leader].process = None;
            nodes[leader].start(&library, &list);
        }
        for (number, skewed) in nodes.iter().enumerate() {
            let Ok(reply) = skewed.node.get("/hraftd/key/k?level=none") else { continue };
            match reply.status {
                200 => assert!(gone[number].is_none(), "n{number} has it again"),
                // One that was started just now may not have it yet.
                404 if number != leader || skewed.node.ready().is_ok() => {
                    let after = *gone[number].get_or_insert_with(|| sent.elapsed());
                    assert!(after >= TTL, "n{number}: gone after {after:?}");
                }
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(killed && jumps > 10, "{jumps} jumps");
    let latest = gone.iter().flatten().max().unwrap();
    assert!(*latest < TTL + Duration::from_secs(6), "{latest:?}: late by more than a second and an election");
}
