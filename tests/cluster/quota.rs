//! The quota over a cluster: what grows the state is refused, the rest goes on, and every node has the same limit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Signal, kill_process};

use crate::support::cluster::Cluster;
use crate::support::http::Reply;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

fn metric(node: &Node, name: &str) -> Result<u64, String> {
    let page = node.get("/metrics")?.ok()?;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("hraftd_{name} "))?.parse::<f64>().ok());
    value.map(|value| value as u64).ok_or_else(|| format!("no {name}"))
}

fn quota_is(nodes: &[Node], bytes: u64) {
    eventually(SETTLE, &format!("the quota is {bytes} everywhere"), || {
        for node in nodes {
            let has = metric(node, "quota_bytes")?;
            check(has == bytes, || format!("{} has {has}", node.name))?;
        }
        Ok(())
    });
}

fn put(node: &Node, key: &str, bytes: usize) -> Result<Reply, String> {
    node.post("/hraftd/key", &format!("{{\"{key}\": \"{}\"}}", "x".repeat(bytes)))
}

fn warnings(node: &Node) -> Result<String, String> {
    Ok(node.get("/hraftd/raft/cluster")?.ok()?.json()["warnings"].to_string().replace("null", ""))
}

#[test]
fn what_grows_is_refused_and_what_frees_goes_on() {
    let lab = Lab::new();
    let mut node = lab.node("n").args(&["--quota", "64K"]);
    node.start();
    node.wait_ready();
    quota_is(std::slice::from_ref(&node), 64 << 10);
    put(&node, "a", 30_000).unwrap().ok().unwrap();
    put(&node, "b", 30_000).unwrap().ok().unwrap();
    let told = warnings(&node).unwrap();
    assert!(told.contains("% of the quota of 65536 bytes"), "{told}");
    let refused = put(&node, "c", 10_000).unwrap();
    assert_eq!((refused.status, refused.json()["code"].as_str()), (507, Some("quota")), "{}", refused.brief());
    let says = refused.json()["msg"].as_str().unwrap().to_owned();
    assert!(says.contains("the cluster's quota is 65536") && says.contains("Delete keys"), "{says}");
    let doctor = node.get("/hraftd/raft/doctor").unwrap().ok().unwrap().json().to_string();
    assert!(doctor.contains("% of the quota of 65536 bytes"), "{doctor}");
    // Whatever does not grow it.
    node.post("/hraftd/lock/l?ttl=10s", "").unwrap().ok().unwrap();
    put(&node, "a", 20_000).unwrap().ok().unwrap();
    let txn = format!("{{\"then\": [{{\"set\": {{\"c\": \"{}\"}}}}, {{\"delete\": \"b\"}}]}}", "x".repeat(40_000));
    node.post("/hraftd/txn", &txn).unwrap().ok().unwrap();
    // It goes on over a restart, from the log and from a snapshot.
    node.stop();
    node.start();
    node.wait_ready();
    assert_eq!(put(&node, "d", 10_000).unwrap().status, 507);
    node.delete("/hraftd/key/c", None).unwrap().ok().unwrap();
    put(&node, "d", 10_000).unwrap().ok().unwrap();
    assert_eq!(warnings(&node).unwrap(), "", "it clears itself");
    node.stop();
}

#[test]
fn it_changes_up_and_down_under_load() {
    let lab = Lab::new();
    let file = lab.path().join("hraftd.toml");
    let set = |quota: &str| std::fs::write(&file, format!("quota = \"{quota}\"\n")).unwrap();
    set("1M");
    let mut cluster = Cluster::start_with(lab, 3, &["--config", file.to_str().unwrap()]);
    quota_is(&cluster.nodes, 1 << 20);
    let (stop, full, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (writer, node) in cluster.nodes.iter().enumerate() {
            let (stop, full, done) = (&stop, &full, &done);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // New keys, of which the older ones are deleted once it is full.
                    match put(node, &format!("w{writer}/{n}"), 2_000).map(|reply| reply.status) {
                        Ok(507) => {
                            full.fetch_add(1, Ordering::Relaxed);
                            let path = format!("/hraftd/key?prefix=w{writer}/");
                            node.delete(&path, None).unwrap().ok().unwrap();
                        }
                        Ok(200) => {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        for quota in ["40K", "20K", "100K", "10K", "60K"] {
            set(quota);
            cluster.nodes.iter().for_each(|node| kill_process(node.pid(), Signal::HUP).unwrap());
            let bytes = quota.trim_end_matches('K').parse::<u64>().unwrap() << 10;
            quota_is(&cluster.nodes, bytes);
            let (was, wrote) = (full.load(Ordering::Relaxed), done.load(Ordering::Relaxed));
            eventually(SETTLE, "writes are refused, and go on", || {
                let (full, done) = (full.load(Ordering::Relaxed), done.load(Ordering::Relaxed));
                check(full > was && done > wrote, || format!("{full} refused, {done} done"))
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    for node in &cluster.nodes {
        eventually(SETTLE, "there is no more than the quota", || {
            let bytes = metric(node, "state_bytes")?;
            check(bytes <= 60 << 10, || format!("{bytes}"))
        });
    }
    cluster.stop_all();
}

#[test]
fn a_leader_with_another_makes_it_its_own_and_warns() {
    let mut cluster = Cluster::with_one_list(3);
    let own = |node: &Node| (node.name.trim_start_matches('n').parse::<u64>().unwrap() + 1) << 20;
    let nodes = std::mem::take(&mut cluster.nodes).into_iter();
    cluster.nodes = nodes
        .map(|node| {
            let quota = own(&node).to_string();
            node.args(&["--quota", &quota])
        })
        .collect();
    cluster.start_all();
    cluster.settled();
    for _ in 0..2 {
        let leader = cluster.leader();
        let quota = own(&cluster.nodes[leader]);
        quota_is(&cluster.nodes, quota);
        cluster.nodes[leader].stop();
        let next = cluster.leader();
        let quota = own(&cluster.nodes[next]);
        let rest: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        eventually(SETTLE, "the next leader's counts", || {
            rest.iter().try_for_each(|at| {
                let has = metric(&cluster.nodes[*at], "quota_bytes")?;
                check(has == quota, || format!("{has}"))
            })
        });
        let says = "as this leader's --quota says; give all nodes the same";
        eventually(SETTLE, "it warns", || {
            let text = cluster.nodes[next].log_text();
            check(text.contains(says), || text.clone())
        });
        cluster.nodes[leader].start();
        cluster.nodes[leader].wait_ready();
    }
    cluster.stop_all();
}
