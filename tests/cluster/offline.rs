//! `hraftd inspect` and `hraftd recover`, on the directories of real nodes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::{Node, hraftd};
use crate::support::process::{Finished, finish};
use crate::support::wait::{SETTLE, check, eventually};

fn tool(lab: &Lab, args: &[&str], dir: &Path) -> Finished {
    let mut command = hraftd(lab.path());
    command.args(&args[..1]);
    match args[0] {
        "recover" => command.arg("--rdir").arg(dir),
        _ => command.arg(dir),
    };
    finish(command.args(&args[1..]), Duration::from_secs(20))
}

fn done(end: Finished) -> String {
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{}", end.stdout);
    end.stdout
}

fn refused(end: &Finished, code: i32, named: &[&str]) {
    assert_eq!((end.code, end.stderr.trim_end().lines().count()), (Some(code), 1), "{end:?}");
    for name in named {
        assert!(end.stderr.contains(name), "{name} is not named: {end:?}");
    }
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (path, bytes) in files(from) {
        fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
}

/// The worst day: two of three are gone for good, the third goes on alone, with all its data, and gets a new cluster.
#[test]
fn a_lost_majority_is_recovered_from() {
    let mut cluster = Cluster::start(3);
    for number in 0..20 {
        cluster.nodes[number % 3].set(&format!("k{number}"), &number.to_string()).unwrap();
    }
    cluster.nodes[0].delete("/hraftd/key/k7", None).unwrap().ok().unwrap();
    let last = cluster.nodes[0].set("last", "true").unwrap();
    cluster.all_have("last", "true");
    let survivor = cluster.follower();
    let old = (survivor + 1) % 3;
    let before = cluster.nodes[survivor].stat("term").unwrap();
    cluster.nodes.iter_mut().for_each(Node::kill);
    let (lab, rdir) = (&cluster.lab, cluster.nodes[survivor].rdir.clone());

    let untouched = files(&rdir);
    let shown = done(tool(lab, &["recover"], &rdir));
    for part in ["Nothing was changed", "Compare the last entry", &format!("last entry   index {last}")] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    // How far it knows entries to be committed reaches its disk a little later than the entries.
    let knows_all = shown.contains(&format!("committed    index {last},"));
    let kept = if knows_all { "This node knew all of them to be committed" } else { "504" };
    assert!(shown.contains(kept), "{kept} is not in\n{shown}");
    assert!(cluster.ids().iter().all(|id| shown.contains(id)), "{shown}");
    assert_eq!(files(&rdir), untouched);
    let said = done(tool(lab, &["recover", "--yes"], &rdir));
    assert!(said.contains("is a cluster of its own"), "{said}");

    cluster.nodes[survivor].forget_args();
    cluster.nodes[survivor].start();
    let alone = &cluster.nodes[survivor];
    alone.wait_ready();
    assert_eq!(alone.voters().unwrap(), [alone.id()].into());
    assert_eq!(alone.state().unwrap(), "Leader");
    for number in (0..20).filter(|number| *number != 7) {
        assert_eq!(alone.value(&format!("k{number}")).unwrap(), number);
    }
    assert_eq!(alone.get("/hraftd/key/k7").unwrap().status, 404);
    let next = alone.set("after", "1").unwrap();
    assert!(next > last + (1 << 20), "index {next} after {last}");
    assert!(alone.stat("term").unwrap() > before);

    // A fresh node joins what is there, and gets all of it.
    let fresh = cluster.lab.node("fresh").rjoin(&[&cluster.nodes[survivor].haddr.clone()]);
    cluster.nodes.push(fresh);
    cluster.nodes[3].start();
    let both = [cluster.nodes[survivor].id(), cluster.nodes[3].id()].into();
    cluster.voters_are(&both);
    cluster.all_have("k3", "3");
    cluster.all_have("after", "1");

    // An old node with its old data is a stranger, whatever it is told to join.
    let haddr = cluster.nodes[survivor].haddr.clone();
    cluster.nodes[old].forget_args();
    let node = std::mem::replace(&mut cluster.nodes[old], cluster.lab.node("nobody"));
    cluster.nodes[old] = node.rjoin(&[&haddr]);
    cluster.nodes[old].start();
    let stranger = &cluster.nodes[old];
    eventually(SETTLE, "the old node answers, and is not ready", || {
        let ready = stranger.get("/hraftd/raft/ready")?;
        check(ready.status == 503 && !ready.text().contains("loading"), || ready.brief())
    });
    for to in [survivor, 3] {
        let join = format!(r#"{{"id":"{}"}}"#, stranger.id());
        let reply = cluster.nodes[to].post("/hraftd/raft/join", &join).unwrap();
        assert!(reply.status == 409 && reply.text().contains("another cluster"), "{}", reply.brief());
    }
    assert_ne!(stranger.state().unwrap(), "Leader");
    for number in [survivor, 3] {
        assert_eq!(cluster.nodes[number].voters().unwrap(), both);
        cluster.nodes[number].set("still", &number.to_string()).unwrap();
    }
    assert!(stranger.local("still").is_err(), "the old node was given a write of the new cluster");
    assert!(stranger.ready().is_err());

    // Wiped, it is welcome.
    cluster.nodes[old].kill();
    cluster.nodes[old].wipe();
    cluster.nodes[old].start();
    let mut three = both;
    three.insert(cluster.nodes[old].id());
    cluster.voters_are(&three);
    cluster.all_have("k19", "19");
}

/// Killed after it was decided: the next start of the node finds the new directory, not half of each.
#[test]
fn a_start_completes_an_interrupted_recovery() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    let last = node.set("k", "1").unwrap();
    node.stop();
    let recovered = lab.path().join("recovered");
    copy(&node.rdir, &recovered);
    done(tool(&lab, &["recover", "--yes"], &recovered));
    for (path, bytes) in files(&recovered) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "lock" {
            fs::write(node.rdir.join(format!("recover-{name}")), bytes).unwrap();
        }
    }
    refused(&tool(&lab, &["inspect"], &node.rdir), 78, &["interrupted", node.rdir.to_str().unwrap()]);
    node.start();
    node.wait_ready();
    assert_eq!(node.value("k").unwrap(), 1);
    assert!(node.set("k", "2").unwrap() > last + (1 << 20));
    let left = files(&node.rdir).into_keys().any(|path| path.display().to_string().contains("recover-"));
    assert!(!left, "something was left over");
}

#[test]
fn a_stopped_node_is_inspected_and_not_changed() {
    let lab = Lab::new();
    let mut node = lab.node("n").args(&["--snapshot-threshold", "20"]);
    node.start();
    node.wait_ready();
    for number in 0..50 {
        node.set(&format!("k{number}"), r#"{"a": [1.50, "x"]}"#).unwrap();
    }
    let last = node.delete("/hraftd/key/k1", None).unwrap().ok().unwrap().json()["index"].as_u64().unwrap();
    for args in [&["inspect"][..], &["inspect", "--entries"], &["recover"], &["recover", "--yes"]] {
        refused(&tool(&lab, args, &node.rdir), 78, &["is in use", node.rdir.to_str().unwrap()]);
    }
    for clean in [false, true] {
        if clean {
            node.start();
            node.wait_ready();
            node.stop();
        } else {
            node.kill();
        }
        let before = files(&node.rdir);
        let shown = done(tool(&lab, &["inspect"], &node.rdir));
        for part in [
            node.id().as_str(),
            "this node",
            "snapshot-",
            " keys, ",
            if clean { "stopped cleanly" } else { "not stopped" },
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        let entries = done(tool(&lab, &["inspect", "--entries"], &node.rdir));
        let entries: Vec<serde_json::Value> =
            entries.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
        assert!(entries.windows(2).all(|two| two[1]["index"] == two[0]["index"].as_u64().unwrap() + 1));
        let deleted = entries.iter().find(|entry| entry["index"] == last).unwrap();
        assert_eq!((&deleted["kind"], &deleted["key"]), (&"delete".into(), &"k1".into()));
        let set = entries.iter().find(|entry| entry["index"] == last - 1).unwrap();
        assert_eq!(set["keys"], serde_json::json!({"k49": {"a": [1.5, "x"]}}));
        assert_eq!(files(&node.rdir), before);
    }

    // Nobody reads on: that is no error. A full disk is one.
    let mut command = hraftd(lab.path());
    command.args(["inspect", "--entries"]).arg(&node.rdir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let end = child.wait_with_output().unwrap();
    assert_eq!((end.status.code(), end.stderr.as_slice()), (Some(0), &b""[..]));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = hraftd(lab.path());
    command.args(["inspect", "--entries"]).arg(&node.rdir).stdout(full).stderr(Stdio::piped());
    assert_eq!(command.output().unwrap().status.code(), Some(1));
}

#[test]
fn bad_command_lines_and_directories() {
    let lab = Lab::new();
    let run = |args: &[&str]| finish(hraftd(lab.path()).args(args), Duration::from_secs(10));
    refused(&run(&["inspect"]), 64, &["inspect DIR"]);
    refused(&run(&["inspect", "--nope", "x"]), 64, &["--nope"]);
    refused(&run(&["recover", "-yes"]), 64, &["--rdir"]);
    let none = lab.path().join("none");
    refused(&tool(&lab, &["inspect"], &none), 78, &[none.to_str().unwrap()]);
    refused(&tool(&lab, &["recover", "-yes"], &none), 78, &[none.to_str().unwrap()]);
    assert!(!none.exists());
    assert!(done(run(&["inspect", "-help"])).contains("--entries"));
    assert!(done(run(&["recover", "--help"])).contains("--yes"));
    let help = done(run(&["--help"]));
    assert!(help.contains("hraftd inspect DIR") && help.contains("hraftd recover --rdir DIR"), "{help}");
}

/// A file of a later version: neither the node nor the tools touch it.
#[test]
fn a_later_format_is_refused() {
    let lab = Lab::new();
    let mut node = lab.node("n");
    node.start();
    node.wait_ready();
    node.stop();
    let path = node.rdir.join("identity");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let named = ["format version 3", "newer hraftd", path.to_str().unwrap()];
    refused(&node.start_refused(), 78, &named);
    refused(&tool(&lab, &["inspect"], &node.rdir), 78, &named);
    refused(&tool(&lab, &["recover", "--yes"], &node.rdir), 78, &named);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
