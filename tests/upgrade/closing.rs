//! From directories of the version before to a closed cluster, and the way back of each step, as docs/security.md has them: under
//! load, and no request fails. But where a leader of the version before leaves: that one may find no successor in time, and what
//! was under way then has no known outcome. Whoever sends it again with its `Idempotency-Key` is answered.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::load::{Load, StopOnDrop};
use crate::support::cluster::Cluster;
use crate::support::http::{Reply, call_with};
use crate::support::node::hraftd;
use crate::support::process::finish;
use crate::support::secure::{refused, secure, unsecure};
use crate::support::wait::{SETTLE, check, eventually};
use crate::{nothing_is_missing, old_binary, old_cluster, some_load};

const GRANTS: &str = "read:,write:,lock:,status";

fn tool(home: &Path, args: &[&str]) -> String {
    let end = finish(hraftd(home).args(args), Duration::from_secs(10));
    assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
    end.stdout
}

/// Starts the nodes anew as this version, one after the other, with these arguments.
fn roll(cluster: &mut Cluster, load: &Load, args: &[&str]) {
    for number in 0..cluster.nodes.len() {
        let was_old_leader = cluster.nodes[number].program.is_some() && cluster.leader() == number;
        let began = Instant::now();
        load.away[number].store(true, Ordering::SeqCst);
        cluster.nodes[number].stop();
        let first = cluster.nodes[0].haddr.clone();
        let node = &mut cluster.nodes[number];
        node.program = None;
        node.set_args(&[&["--rjoin", &first], args].concat());
        node.start();
        if args.is_empty() {
            // The operator says that a node is without the secret.
            let others =
                cluster.nodes.iter().enumerate().filter(|(other, node)| *other != number && node.program.is_none());
            others.for_each(|(_, other)| kill_process(other.pid(), Signal::HUP).unwrap());
        }
        cluster.nodes[number].wait_ready();
        load.away[number].store(false, Ordering::SeqCst);
        some_load(load);
        if was_old_leader {
            load.forgive_between(began, Instant::now());
        }
    }
}

#[test]
fn from_the_version_before_to_a_closed_cluster_and_back() {
    let Some(old) = old_binary("from the version before to a closed cluster") else { return };
    let mut cluster = old_cluster(3, &old);
    let dir = cluster.lab.path().to_owned();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (file, root_file) = (path("secret"), path("root"));
    tool(&dir, &["secret", &file]);
    tool(&dir, &["token", &root_file]);
    let (ca, root) =
        (tool(&dir, &["ca", "--cluster-secret-file", &file]), std::fs::read_to_string(&root_file).unwrap());
    let addrs: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
    let as_root = |at: usize, method: &str, path: &str, body: Option<&str>| -> Reply {
        let bearer = format!("Bearer {}", root.trim());
        call_with(&addrs[at], method, path, &[("Authorization", &bearer)], body.map(str::as_bytes)).unwrap()
    };
    let secret = ["--cluster-secret-file", &file];
    let optional = [&secret[..], &["--cluster-secret-optional"]].concat();
    let tls = [&secret[..], &["--tls-auto"]].concat();
    let tls_optional = [&tls[..], &["--tls-optional"]].concat();
    let tokens = [&tls[..], &["--root-token-file", &root_file, "--anonymous", GRANTS]].concat();

    let load = Load::new(&cluster);
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        load.begin(scope);
        some_load(&load);
        // All run this version first.
        roll(&mut cluster, &load, &[]);
        // (1), (2)
        roll(&mut cluster, &load, &optional);
        for node in &cluster.nodes {
            eventually(SETTLE, "no node is reached in plain text", || {
                let metrics = node.get("/metrics")?.ok()?.text();
                let none = metrics.contains("hraftd_plain_connections{port=\"raft\"} 0");
                check(none, || "some are".to_owned())
            });
        }
        roll(&mut cluster, &load, &secret);
        // (3): clients move to TLS.
        roll(&mut cluster, &load, &tls_optional);
        secure(&addrs, &ca, None);
        roll(&mut cluster, &load, &tls);
        // (4): clients get their token, and what all may is taken away.
        roll(&mut cluster, &load, &tokens);
        let grants: Vec<&str> = GRANTS.split(',').collect();
        let made = as_root(0, "PUT", "/hraftd/auth/token/load", Some(&format!(r#"{{"grants":{grants:?}}}"#)));
        assert_eq!(made.status, 201, "{}", made.brief());
        secure(&addrs, &ca, made.json()["token"].as_str());
        some_load(&load);
        assert_eq!(as_root(1, "DELETE", "/hraftd/auth/token/anonymous", None).status, 200);
        for addr in &addrs {
            eventually(SETTLE, "it asks who is there", || {
                let unknown = call_with(addr, "GET", "/hraftd/key/a", &[("Authorization", "Bearer x")], None)?;
                check(unknown.status == 401, || unknown.brief())
            });
        }
        some_load(&load);
        // Back: (4), (3), (2), (1).
        assert_eq!(as_root(2, "DELETE", "/hraftd/auth?yes", None).status, 200);
        roll(&mut cluster, &load, &tls);
        roll(&mut cluster, &load, &tls_optional);
        unsecure(&addrs);
        roll(&mut cluster, &load, &secret);
        roll(&mut cluster, &load, &optional);
        roll(&mut cluster, &load, &[]);
        drop(stop);
    });
    let failed = load.failures();
    assert!(failed.is_empty(), "{} requests failed: {:#?}", failed.len(), &failed[..failed.len().min(20)]);
    assert!(refused().is_empty(), "{:?}", refused());
    let acked: Vec<u64> = load.acked.iter().map(|acked| acked.load(Ordering::SeqCst)).collect();
    nothing_is_missing(&cluster, &acked);
}
