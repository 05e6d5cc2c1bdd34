//! Data directories that were put back from the past, or have lost files: no node votes with less memory than its Raft id
//! has promised.

use std::fs;
use std::path::Path;

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn remove(dir: &Path, goes: impl Fn(&str) -> bool) {
    names(dir).iter().filter(|name| goes(name)).for_each(|name| fs::remove_file(dir.join(name)).unwrap());
}

fn is_of_log(name: &str) -> bool {
    name.starts_with("log-")
}

/// The folder with what a node had that lost its memory.
fn aside(node: &Node) -> Option<String> {
    names(&node.rdir).into_iter().find(|name| name.starts_with("lost-"))
}

/// It came back by itself as a new member in its old place, has all data, and says what happened.
fn is_a_new_member(cluster: &Cluster, number: usize, has_set_aside: &[&str]) {
    let node = &cluster.nodes[number];
    eventually(SETTLE, "it has joined anew", || check(aside(node).is_some(), || node.log_text()));
    cluster.voters_are(&cluster.ids());
    cluster.settled();
    let kept = names(&node.rdir.join(aside(node).unwrap()));
    for prefix in has_set_aside {
        assert!(kept.iter().any(|name| name.starts_with(prefix)), "{prefix}: {kept:?}");
    }
    assert!(node.log_text().contains("lost its memory"), "{}", node.log_text());
    let warnings = node.get("/hraftd/raft/cluster").unwrap().json()["warnings"].to_string();
    assert!(warnings.contains("lost its memory and joined anew"), "{warnings}");
    cluster.nodes[number].set("after", "1").unwrap();
    cluster.all_have("after", "1");
}

fn abstains(node: &Node) {
    eventually(SETTLE, "it abstains", || {
        let ready = node.get("/hraftd/raft/ready")?;
        check(ready.status == 503 && ready.brief().contains("lost its memory"), || ready.brief())
    });
}

/// Issue 15, row 4, and a virtual machine that is rolled back.
#[test]
fn a_follower_put_back_to_an_older_copy_joins_anew_by_itself() {
    let mut cluster = Cluster::start(3);
    let number = cluster.follower();
    let old = cluster.lab.node("old").rdir.clone();
    cluster.nodes[0].set("early", "1").unwrap();
    cluster.nodes[number].stop();
    copy(&cluster.nodes[number].rdir, &old);
    cluster.nodes[number].start();
    cluster.nodes[number].wait_ready();
    cluster.nodes[number].set("late", "1").unwrap();
    cluster.all_have("late", "1");
    cluster.nodes[number].stop();
    cluster.nodes[number].wipe();
    copy(&old, &cluster.nodes[number].rdir);
    cluster.nodes[number].start();
    is_a_new_member(&cluster, number, &["identity", "log-"]);
    cluster.all_have("late", "1");
}

/// Issue 15, row 2. The third node is frozen, so nobody does without this one: it takes no part, and what was acknowledged
/// is nowhere answered as missing.
#[test]
fn without_its_log_a_node_takes_no_part_until_the_others_do_without_it() {
    let mut cluster = Cluster::start(3);
    // Its `--rjoin` names another.
    let leader = cluster.leader();
    let lost = if leader == 2 { 1 } else { 2 };
    let frozen = 3 - leader - lost;
    cluster.nodes[frozen].pause();
    cluster.nodes[leader].set("acknowledged", "1").unwrap();
    cluster.nodes[lost].stop();
    remove(&cluster.nodes[lost].rdir, is_of_log);
    cluster.nodes[lost].start();
    abstains(&cluster.nodes[lost]);
    cluster.nodes[leader].kill();
    cluster.nodes[frozen].resume();
    let read = cluster.nodes[frozen].get("/hraftd/key/acknowledged?timeout=3s").unwrap();
    assert_eq!(read.status, 503, "{}", read.brief());
    assert!(aside(&cluster.nodes[lost]).is_none(), "nothing is set aside yet");
    abstains(&cluster.nodes[lost]);
    cluster.nodes[leader].start();
    is_a_new_member(&cluster, lost, &["identity"]);
    cluster.all_have("acknowledged", "1");
}

/// Killed and started again, it still takes no part.
#[test]
fn a_node_without_memory_is_so_after_a_kill() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let lost = if leader == 2 { 1 } else { 2 };
    let frozen = 3 - leader - lost;
    cluster.nodes[lost].stop();
    remove(&cluster.nodes[lost].rdir, is_of_log);
    cluster.nodes[frozen].pause();
    for _ in 0..3 {
        cluster.nodes[lost].start();
        abstains(&cluster.nodes[lost]);
        cluster.nodes[lost].kill();
    }
    cluster.nodes[frozen].resume();
    cluster.nodes[lost].start();
    is_a_new_member(&cluster, lost, &["identity", "log-"]);
}

/// Each ends as before, as a new member, or with 78 and what is missing.
#[test]
fn every_subset_of_the_files_of_a_node() {
    let mut cluster = Cluster::start_with(Lab::new(), 3, &["--snapshot-threshold", "50"]);
    let whole = cluster.lab.node("whole").rdir.clone();
    for key in 0..120 {
        cluster.nodes[0].set(&format!("k{key}"), "1").unwrap();
    }
    let kinds: [&dyn Fn(&str) -> bool; 4] =
        [&|name| name == "identity", &is_of_log, &|name| name.starts_with("snapshot-"), &|name| name == "lock"];
    for missing in 1..16 {
        let number = if cluster.leader() == 2 { 1 } else { 2 };
        let before = cluster.nodes[number].stats().unwrap()["last_snapshot_index"].clone();
        cluster.nodes[number].stop();
        let dir = cluster.nodes[number].rdir.clone();
        if whole.exists() {
            fs::remove_dir_all(&whole).unwrap();
        }
        copy(&dir, &whole);
        let goes = |name: &str| kinds.iter().enumerate().any(|(bit, is)| missing & 1 << bit != 0 && is(name));
        remove(&dir, goes);
        let what = format!("{missing:04b} of lock, snapshot, log and identity, {before}");
        let log_was = cluster.nodes[number].log_text().len();
        cluster.nodes[number].start();
        let ended = eventually(SETTLE, &what, || match cluster.nodes[number].ended() {
            Some(code) => Ok(Some(code)),
            None => cluster.nodes[number].ready().map(|()| None),
        });
        if let Some(code) = ended {
            let said = cluster.nodes[number].log_text()[log_was..].to_owned();
            assert_eq!(code, Some(78), "{what}: {said}");
            let names = ["missing", "without its log", "the snapshot covers no entry"];
            assert!(names.iter().any(|name| said.contains(name)), "{what}: {said}");
            cluster.nodes[number].wipe();
            copy(&whole, &dir);
            cluster.nodes[number].start();
        }
        cluster.voters_are(&cluster.ids());
        cluster.settled();
        cluster.all_have("k119", "1");
    }
}
