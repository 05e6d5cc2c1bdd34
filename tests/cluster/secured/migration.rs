//! From a plain cluster to one with a secret and with TLS, and back, while it serves.

use rustix::process::Signal;

use super::{Writers, curl, has_programs, secret, tool};
use crate::support::cluster::Cluster;
use crate::support::http::call_with;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

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
        let others_are_plain = !cluster.nodes[1].log_text().contains("nodes speak TLS");
        if number == 0 && args.contains(&"--cluster-secret-optional") && others_are_plain {
            let first = &cluster.nodes[0];
            eventually(SETTLE, "the others come in plain text", || check(plain(first)? > 0, || "none".to_owned()));
            eventually(SETTLE, "and any node says so", || {
                let told = warnings(&cluster.nodes[1]);
                check(told.contains("in plain text (--cluster-secret-optional)"), || told)
            });
        }
    }
}

/// How many connections at the Raft port are in plain text.
fn plain(node: &Node) -> Result<u64, String> {
    let metrics = node.get("/metrics")?.ok()?.text();
    let found = metrics.lines().find_map(|line| line.strip_prefix("hraftd_plain_connections{port=\"raft\"} "));
    found.and_then(|count| count.parse().ok()).ok_or(metrics)
}

fn warnings(node: &Node) -> String {
    node.get("/hraftd/raft/cluster").unwrap().json()["warnings"].to_string()
}

/// Step 4 of the way from a plain cluster to a closed one, and back, while clients write.
#[test]
fn clients_get_their_tokens_while_it_serves_and_lose_them_again() {
    let lab = Lab::busy();
    let (file, root_file) = (secret(lab.path(), "secret"), lab.path().join("root"));
    tool(lab.path(), &["token", root_file.to_str().unwrap()]);
    let root = std::fs::read_to_string(&root_file).unwrap().trim().to_owned();
    let with_secret = ["--cluster-secret-file", file.to_str().unwrap()];
    let mut cluster = Cluster::start_with(lab, 3, &with_secret);
    let as_root = |node: &Node, method: &str, path: &str, body: Option<&str>| {
        let bearer = format!("Bearer {root}");
        call_with(&node.haddr, method, path, &[("Authorization", bearer.as_str())], body.map(str::as_bytes)).unwrap()
    };
    // They know nothing of tokens yet.
    let plain = Writers::start(&cluster.nodes, true);
    plain.go_on(30);
    let all = ["--root-token-file", root_file.to_str().unwrap(), "--anonymous", "read:,write:,lock:,status"];
    roll(&mut cluster, &[&with_secret[..], &all].concat(), &plain);
    let body = r#"{"grants":["read:","write:"]}"#;
    let made = as_root(&cluster.nodes[1], "PUT", "/hraftd/auth/token/writers", Some(body));
    assert_eq!(made.status, 201, "{}", made.brief());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let known = Writers::start_as(&cluster.nodes, true, Some(&token));
    known.go_on(30);
    plain.go_on(30);
    // All clients have moved: the rest is closed.
    plain.end();
    let gone = as_root(&cluster.nodes[2], "DELETE", "/hraftd/auth/token/anonymous", None);
    assert_eq!(gone.status, 200, "{}", gone.brief());
    for node in &cluster.nodes {
        eventually(SETTLE, "it asks who is there", || {
            let status = node.post("/hraftd/key", r#"{"a":1}"#)?.status;
            check(status == 401, || status.to_string())
        });
    }
    known.go_on(30);
    // The way back: off first, then the flags; tokens that are still shown harm nobody.
    assert_eq!(as_root(&cluster.nodes[0], "DELETE", "/hraftd/auth?yes", None).status, 200);
    for node in &cluster.nodes {
        eventually(SETTLE, "it asks nobody", || node.set("a", "2").map(drop));
    }
    let plain = Writers::start(&cluster.nodes, true);
    roll(&mut cluster, &with_secret, &plain);
    known.go_on(30);
    plain.end();
    known.end();
    cluster.settled();
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
    for (step, args) in [optional, closed, optional, &[]].into_iter().enumerate() {
        roll(&mut cluster, args, &writers);
        // A connection that was made just before its peer had the secret is made anew soon.
        if step < 3 {
            for node in &cluster.nodes {
                eventually(SETTLE, "no plain connections", || {
                    let count = plain(node)?;
                    check(count == 0, || count.to_string())
                });
                eventually(SETTLE, "nor a word of them", || {
                    let told = warnings(node);
                    check(!told.contains("in plain text"), || told)
                });
            }
        }
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
