//! From a plain cluster to one with a secret and with TLS, and back, while it serves.

use rustix::process::Signal;

use super::{Writers, curl, has_programs, secret, tool};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;

/// Starts the nodes anew, one after the other, with these arguments, while writes go on.
fn roll(cluster: &mut Cluster, args: &[&str], writers: &Writers) {
    for number in 0..cluster.nodes.len() {
        cluster.nodes[number].stop();
        let first = cluster.nodes[0].haddr.clone();
        cluster.nodes[number].set_args(&[&["--rjoin", &first], args].concat());
        cluster.nodes[number].start();
        if args.is_empty() {
            // On the way back the operator says that a node is without the secret again.
            let others = (0..cluster.nodes.len()).filter(|other| *other != number);
            others.for_each(|other| rustix::process::kill_process(cluster.nodes[other].pid(), Signal::HUP).unwrap());
        }
        cluster.nodes[number].wait_ready();
        writers.go_on(10);
    }
}

#[test]
fn nodes_get_their_secret_one_after_the_other_and_lose_it_again() {
    let mut cluster = Cluster::start_with(Lab::busy(), 3, &[]);
    let file = secret(cluster.lab.path(), "secret");
    let file = file.to_str().unwrap();
    // A write that finds its node away goes to another one.
    let writers = Writers::start(&cluster.nodes, true);
    writers.go_on(30);
    let optional: &[&str] = &["--cluster-secret-file", file, "--cluster-secret-optional"];
    let closed: &[&str] = &["--cluster-secret-file", file];
    for args in [optional, closed, optional, &[]] {
        roll(&mut cluster, args, &writers);
    }
    writers.end();
    cluster.settled();
}

#[test]
fn clients_move_to_tls_one_after_the_other() {
    if !has_programs("secured::migration::clients_move_to_tls_one_after_the_other") {
        return;
    }
    let lab = Lab::new();
    let file = secret(lab.path(), "secret");
    let ca = lab.path().join("ca.pem");
    std::fs::write(&ca, tool(lab.path(), &["ca", "--cluster-secret-file", file.to_str().unwrap()])).unwrap();
    let secret = ["--cluster-secret-file", file.to_str().unwrap()];
    let mut cluster = Cluster::start_with(lab, 1, &secret);
    let haddr = cluster.nodes[0].haddr.clone();
    let over_tls = || curl(&["--cacert", ca.to_str().unwrap(), &format!("https://{haddr}/hraftd/raft/health")]);
    let over_plain = || curl(&[&format!("http://{haddr}/hraftd/raft/health")]);
    assert!(over_tls().0 != 0 && over_plain().1.ends_with(" 200"));
    for (tls, plain, args) in
        [(true, true, &["--tls-auto", "--tls-optional"][..]), (true, false, &["--tls-auto"]), (false, true, &[])]
    {
        cluster.nodes[0].stop();
        cluster.nodes[0].set_args(&[&secret, args].concat());
        cluster.nodes[0].start();
        crate::support::wait::eventually(crate::support::wait::SETTLE, "it serves", || {
            let said = if tls { over_tls() } else { over_plain() };
            crate::support::wait::check(said.1.ends_with(" 200"), || format!("{said:?}"))
        });
        assert_eq!((over_tls().0 == 0, over_plain().1.ends_with(" 200")), (tls, plain), "{args:?}");
    }
}
