//! A node that has not caught up with its first cluster serves nobody it does not know, over restarts too. A closed node
//! alone that comes back elsewhere tells so itself, without a token.

use super::{secret, tool};
use crate::support::cluster::Cluster;
use crate::support::http::call_with;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::ports;
use crate::support::wait::{SETTLE, check, eventually};

#[test]
fn a_node_that_has_not_caught_up_is_closed_over_restarts() {
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let args = ["--cluster-secret-file", file.to_str().unwrap()];
    // Before it is let in it has noted that.
    let nowhere = format!("127.0.0.1:{}", ports::free_pair());
    let mut alone = lab.node("alone").args(&args).rjoin(&[&nowhere]);
    alone.start();
    eventually(SETTLE, "a note", || check(alone.rdir.join("joining").exists(), || "none".to_owned()));
    alone.kill();

    let mut cluster = Cluster::start_with(lab, 2, &args);
    cluster.nodes[0].set("a", "1").unwrap();
    cluster.all_have("a", "1");
    let note = cluster.nodes[1].rdir.join("joining");
    eventually(SETTLE, "the note is gone", || check(!note.exists(), || "it is there".to_owned()));
    cluster.stop_all();
    // One that has caught up once serves what it has, without the others.
    cluster.nodes[1].start();
    eventually(SETTLE, "it serves", || check(cluster.nodes[1].local("a")? == 1, || "another value".to_owned()));
    cluster.nodes[1].stop();
    // As it was killed amid its first join.
    std::fs::write(&note, b"").unwrap();
    cluster.nodes[1].start();
    eventually(SETTLE, "it is closed", || {
        let reply = cluster.nodes[1].get("/hraftd/key/a?level=none")?;
        assert_ne!(reply.status, 200, "{}", reply.brief());
        check(reply.status == 503 && reply.text().contains("whom it may serve"), || reply.brief())
    });
    cluster.nodes[0].start();
    cluster.settled();
    cluster.all_have("a", "1");
    eventually(SETTLE, "the note is gone", || check(!note.exists(), || "it is there".to_owned()));
}

/// It has its own addresses in the membership; another joins it, and both serve.
fn another_joins(alone: &Node, mut second: Node) {
    alone.wait_ready();
    eventually(SETTLE, "it has its own addresses, and nobody else's", || {
        let voters = alone.voters()?;
        check(voters == [alone.id()].into(), || format!("{voters:?}"))
    });
    second.start();
    second.wait_ready();
    for node in [alone, &second] {
        eventually(SETTLE, &format!("{} has both as voters", node.name), || {
            let voters = node.voters()?;
            check(voters == [alone.id(), second.id()].into(), || format!("{voters:?}"))
        });
        assert_eq!(node.value("k").unwrap(), 1);
    }
    second.stop();
}

/// Found by simulation (seed 9): it asked itself as nobody, was refused, and kept its old address for good. Whoever joined
/// then looked for it there.
#[test]
fn a_closed_node_alone_that_moved_or_was_restored_has_its_new_address() {
    let lab = Lab::new();
    let (secret, root) = (secret(lab.path(), "secret"), lab.path().join("root"));
    let [secret, root_file] = [&secret, &root].map(|path| path.to_str().unwrap());
    tool(lab.path(), &["token", root_file]);
    let args = ["--cluster-secret-file", secret, "--root-token-file", root_file, "--anonymous", "status,read:"];
    let node = |name: &str| lab.node(name).args(&args);
    let bearer = format!("Bearer {}", std::fs::read_to_string(&root).unwrap().trim());
    let header = [("Authorization", bearer.as_str())];

    let mut first = node("first");
    first.start();
    first.wait_ready();
    let set = call_with(&first.haddr, "PUT", "/hraftd/key/k?json", &header, Some(b"1")).unwrap();
    assert_eq!(set.status, 201, "{}", set.brief());
    let backup = lab.path().join("f.backup");
    let backup = backup.to_str().unwrap();
    tool(lab.path(), &["backup", backup, "--endpoints", &first.haddr, "--token-file", root_file]);
    first.stop();
    let mut moved = node("moved");
    moved.rdir = first.rdir.clone();
    moved.start();
    another_joins(&moved, node("second").rjoin(&[&moved.haddr]));
    moved.kill();

    let mut restored = node("restored");
    tool(lab.path(), &["restore", backup, "--rdir", restored.rdir.to_str().unwrap()]);
    restored.start();
    another_joins(&restored, node("third").rjoin(&[&restored.haddr]));
}
