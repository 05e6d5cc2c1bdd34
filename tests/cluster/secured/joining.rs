//! A node that has not caught up with its first cluster serves nobody it does not know, over restarts too.

use super::secret;
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
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
