//! Endpoints of two clusters: what began with one does not go over to the other.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use super::{client, ok, text};
use crate::support::cluster::Cluster;
use crate::support::gate::Gate;
use crate::support::node::Node;
use crate::support::process::{Reaped, finish};
use crate::support::wait::{SETTLE, check, eventually};

/// Two clusters of a node each. The client of the first has both as its endpoints.
struct Two {
    other: Node,
    own: Cluster,
    index: u64,
}

impl Two {
    fn start() -> Self {
        let own = Cluster::start(1);
        let mut other = own.lab.node("other");
        other.start();
        other.wait_ready();
        other.set("of", "\"the other\"").unwrap();
        let index = other.stat("applied_index").unwrap();
        Self { own, other, index }
    }

    fn endpoints(&self) -> String {
        format!("{},{}", self.own.nodes[0].haddr, self.other.haddr)
    }

    fn client(&self, args: &[&str]) -> Command {
        let mut command = client(&self.own, args);
        command.env("HRAFTD_ENDPOINTS", self.endpoints());
        command
    }

    fn started(&self, name: &str, args: &[&str]) -> (Reaped, std::path::PathBuf) {
        let path = self.own.lab.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        let mut command = self.client(args);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        (Reaped::spawn(&mut command), path)
    }

    /// The address of the own cluster's node is that of a node of a new one.
    fn replace_own(&mut self) {
        let node = &mut self.own.nodes[0];
        node.kill();
        node.wipe();
        node.start();
        node.wait_ready();
    }

    /// Nothing was done in the other cluster.
    #[track_caller]
    fn other_is_untouched(&self) {
        assert_eq!(self.other.stat("applied_index"), Ok(self.index), "an entry of the wrong client");
    }
}

/// It names the address and both clusters.
#[track_caller]
fn says_both(said: &str, address: &str) {
    let ids = said.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 32).count();
    assert!(said.contains(address) && ids == 2, "{said}");
}

/// The answer to a write is lost: it is repeated, and not in the other cluster.
#[test]
fn a_write_is_repeated_in_its_own_cluster_alone() {
    let two = Two::start();
    // Whose it is is asked and told; the write goes through, and its answer does not.
    let gate = Gate::new(&two.own.nodes[0].haddr, 3);
    let endpoints = format!("{},{}", gate.addr, two.other.haddr);
    let mut command = two.client(&["put", "k", "v", "--timeout", "6s", "--endpoints", &endpoints]);
    let end = finish(&mut command, SETTLE);
    assert!(end.code == Some(75) && end.stderr.contains("outcome of this write is unknown"), "{end:?}");
    assert_eq!(two.own.nodes[0].value("k").unwrap(), "v");
    two.other_is_untouched();
}

/// It goes on once its cluster is back, and ends where there is none of it any more.
#[test]
fn a_watch_waits_for_its_own_cluster() {
    let mut two = Two::start();
    two.own.nodes[0].set("of", "1").unwrap();
    let (mut watch, out) = two.started("watch", &["watch", "", "--initial", "--timeout", "1s"]);
    eventually(SETTLE, "it watches", || check(text(&out).contains("set of 1"), || text(&out)));
    two.own.nodes[0].kill();
    two.own.nodes[0].start();
    two.own.nodes[0].wait_ready();
    two.own.nodes[0].set("of", "2").unwrap();
    eventually(SETTLE, "it goes on", || check(text(&out).contains("set of 2"), || text(&out)));
    two.replace_own();
    assert_eq!(watch.wait(SETTLE, "the watch ends").code(), Some(69), "{}", text(&out));
    let said = text(&out);
    assert!(!said.contains("the other"), "{said}");
    let last = if said.contains(&two.other.haddr) { &two.other } else { &two.own.nodes[0] };
    says_both(&said, &last.haddr);
}

#[test]
fn a_lock_is_renewed_in_its_own_cluster_alone() {
    let mut two = Two::start();
    let script = "echo held; exec sleep 300";
    let (mut lock, out) = two.started("lock", &["lock", "l", "--ttl", "3s", "--", "sh", "-c", script]);
    let (mut elect, led) = two.started("elect", &["elect", "e", "--ttl", "3s", "--", "sh", "-c", script]);
    for out in [&out, &led] {
        eventually(SETTLE, "it holds the lock", || check(text(out).contains("held"), || text(out)));
    }
    two.replace_own();
    assert_eq!(lock.wait(SETTLE, "the lock ends").code(), Some(75), "{}", text(&out));
    // Its command is ended, and then it would lead elsewhere.
    assert_eq!(elect.wait(SETTLE, "the election ends").code(), Some(69), "{}", text(&led));
    assert_eq!(text(&led).matches("held").count(), 1, "{}", text(&led));
    two.other_is_untouched();
    let locks = two.own.nodes[0].get("/hraftd/lock?prefix=").unwrap().ok().unwrap();
    assert_eq!(locks.text(), "[]", "the one at its address is of another cluster, too");
}

/// Starts it with pipes.
fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_import_goes_on_in_its_own_cluster_alone() {
    let mut two = Two::start();
    let lines = |from: usize| -> String {
        (from..from + 2_000).map(|at| format!("{{\"key\":\"i/{at:05}\",\"value\":1}}\n")).collect()
    };
    let mut import = piped(two.client(&["import"]));
    let mut input = import.stdin.take().unwrap();
    input.write_all(lines(0).as_bytes()).unwrap();
    eventually(SETTLE, "the first lines are there", || {
        let count = two.own.nodes[0].get("/hraftd/key?prefix=i/&count")?.ok()?.json();
        check(count["count"] == 2_000, || count.to_string())
    });
    // It reads on once it has the answers to all that it wrote.
    let more = lines(2_000);
    input.write_all(&more.as_bytes()[..1]).unwrap();
    eventually(SETTLE, "it reads on", || {
        let left = rustix::io::ioctl_fionread(&input).unwrap();
        check(left == 0, || format!("{left} bytes wait"))
    });
    two.own.nodes[0].kill();
    input.write_all(&more.as_bytes()[1..]).unwrap();
    drop(input);
    let end = import.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&end.stderr);
    assert!(end.status.code() == Some(69) && said.contains("--skip 2000 goes on"), "{said}");
    says_both(&said, &two.other.haddr);
    two.other_is_untouched();
}

#[test]
fn an_export_goes_on_in_its_own_cluster_alone() {
    let mut two = Two::start();
    let value = format!("\"{}\"", "x".repeat(2_000));
    let many: String = (0..400).map(|at| format!("{{\"key\":\"e/{at:03}\",\"value\":{value}}}\n")).collect();
    assert_eq!(super::fed(client(&two.own, &["import"]), many.as_bytes()).0, Some(0));
    let export = piped(two.client(&["export", "e/"]));
    // A page is larger than a pipe: it waits for whoever reads it.
    eventually(SETTLE, "it has written", || {
        let there = rustix::io::ioctl_fionread(export.stdout.as_ref().unwrap()).unwrap();
        check(there > 0, || "nothing".to_owned())
    });
    two.own.nodes[0].kill();
    let end = export.wait_with_output().unwrap();
    let (lines, said) = (String::from_utf8_lossy(&end.stdout), String::from_utf8_lossy(&end.stderr));
    assert!(end.status.code() == Some(69) && said.contains("--after \"e/099\" goes on"), "{said}");
    assert_eq!(lines, many.lines().take(100).map(|line| format!("{line}\n")).collect::<String>());
    says_both(&said, &two.other.haddr);
}

/// A drill and a bench leave out what is not of the cluster that answered first.
#[test]
fn a_drill_and_a_bench_are_of_one_cluster() {
    let two = Two::start();
    for args in [
        &["drill", "--seconds", "2", "--rate", "40", "-o", "json"][..],
        &["bench", "--seconds", "1", "--rate", "40", "--keys", "5", "-o", "json"],
    ] {
        let end = finish(&mut two.client(args), SETTLE);
        assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
        assert!(end.stderr.contains(&two.other.haddr), "{args:?}: {end:?}");
        let said: serde_json::Value = serde_json::from_str(&end.stdout).unwrap();
        let nodes = said["nodes"].as_array().map_or(said["nodes"].as_u64(), |nodes| Some(nodes.len() as u64));
        assert_eq!((&said["ok"], nodes), (&serde_json::Value::from(true), Some(1)), "{said}");
        two.other_is_untouched();
    }
}

/// Before anything is known of a cluster, whoever answers first is it; the manual says so.
#[test]
fn the_first_that_answers_is_the_one_that_is_meant() {
    let mut two = Two::start();
    two.own.nodes[0].kill();
    let end = finish(&mut two.client(&["get", "of"]), SETTLE);
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "the other"), "{end:?}");
    let other = two.other.haddr.clone();
    assert_eq!(ok(&two.own, &["get", "of", "--endpoints", &other]), "the other");
}
