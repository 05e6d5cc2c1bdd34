//! The secret is replaced while the cluster serves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Writers, id_of, logs, put_secrets, secret};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

/// Has each node's file hold these, one node after the other, while writes go on.
fn step(nodes: &[Node], files: &[PathBuf], of: &[&Path], writers: &Writers) {
    let ids: Vec<String> = of.iter().map(|one| id_of(one)).collect();
    for (node, file) in nodes.iter().zip(files) {
        put_secrets(file, of);
        logs(node, &format!("the cluster secrets are now {}; the first issues", ids.join(" and ")));
        writers.go_on(10);
    }
}

#[test]
fn the_secret_is_replaced_under_load_and_no_request_fails() {
    let lab = Lab::busy();
    let (old, new) = (secret(lab.path(), "old"), secret(lab.path(), "new"));
    let mut cluster = Cluster { nodes: Vec::new(), lab };
    let mut files = Vec::new();
    for number in 0..3 {
        let file = cluster.lab.path().join(format!("of-n{number}"));
        put_secrets(&file, &[&old]);
        let node = cluster.lab.node(&format!("n{number}")).args(&["--cluster-secret-file", file.to_str().unwrap()]);
        let first = cluster.nodes.first().map_or(node.haddr.clone(), |first: &Node| first.haddr.clone());
        cluster.nodes.push(node.rjoin(&[&first]));
        cluster.nodes[number].start();
        cluster.nodes[number].wait_ready();
        files.push(file);
    }
    cluster.settled();
    let term = cluster.nodes[0].stat("term").unwrap();
    let writers = Writers::start(&cluster.nodes, false);
    writers.go_on(30);
    step(&cluster.nodes, &files, &[&old, &new], &writers);
    step(&cluster.nodes, &files, &[&new, &old], &writers);
    step(&cluster.nodes, &files, &[&new], &writers);
    // What followed from the old one is closed by now, and all goes on.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        writers.go_on(10);
    }
    writers.end();
    assert_eq!(cluster.nodes[0].stat("term").unwrap(), term, "nobody took a node for gone");
    // The secret is replaced once more while a node is down that has the first one: it comes back, and both sides say what
    // to do.
    cluster.nodes[2].stop();
    put_secrets(&files[2], &[&old]);
    let newer = secret(cluster.lab.path(), "newer");
    for of in [[&*new, &*newer].as_slice(), &[&newer, &new], &[&newer]] {
        for file in &files[..2] {
            put_secrets(file, of);
        }
        let ids: Vec<String> = of.iter().map(|one| id_of(one)).collect();
        for node in &cluster.nodes[..2] {
            logs(node, &format!("the cluster secrets are now {}; the first issues", ids.join(" and ")));
        }
    }
    cluster.nodes[2].start();
    logs(&cluster.nodes[2], &format!("it has a certificate of the cluster secret {}", id_of(&newer)));
    eventually(SETTLE, "the others say so", || {
        let says =
            |node: &Node| node.log_text().contains("was refused as a node") && node.log_text().contains(&id_of(&newer));
        check(cluster.nodes[..2].iter().any(says), || "nobody".to_owned())
    });
    assert!(cluster.nodes[2].ready().is_err());
    put_secrets(&files[2], &[&newer]);
    cluster.settled();
}
