//! Tokens: made at one node, used at another, revoked for all.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{secret, tool};
use crate::support::cluster::Cluster;
use crate::support::http::{Reply, call_with};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::watch::Watch;

/// Three nodes with a secret; the first two have a root token.
fn closed(anonymous: &str) -> (Cluster, String) {
    let lab = Lab::new();
    let secret = secret(lab.path(), "secret");
    let root: PathBuf = lab.path().join("root");
    tool(lab.path(), &["token", root.to_str().unwrap()]);
    let token = std::fs::read_to_string(&root).unwrap().trim().to_owned();
    let args = [
        "--cluster-secret-file",
        secret.to_str().unwrap(),
        "--root-token-file",
        root.to_str().unwrap(),
        "--anonymous",
        anonymous,
        "--log-level",
        "debug",
    ];
    (Cluster::start_with(lab, 3, &args), token)
}

fn ask(node: &Node, token: &str, method: &str, path: &str, body: Option<&str>) -> Result<Reply, String> {
    let bearer = format!("Bearer {token}");
    call_with(&node.haddr, method, path, &[("Authorization", bearer.as_str())], body.map(str::as_bytes))
}

fn make(node: &Node, root: &str, name: &str, grants: &str) -> String {
    let body = format!("{{\"grants\":{grants}}}");
    let reply = ask(node, root, "PUT", &format!("/hraftd/auth/token/{name}"), Some(&body)).unwrap();
    assert_eq!(reply.status, 201, "{}", reply.brief());
    let json: Value = reply.json();
    json["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_works_everywhere_at_once_and_after_its_end_nowhere() {
    let (cluster, root) = closed("status");
    let nodes = &cluster.nodes;
    // From the first answer on who is unknown may do what all may, and no more.
    for node in nodes {
        let refused = node.post("/hraftd/key", r#"{"a":1}"#).unwrap();
        assert_eq!(refused.status, 403, "{}", refused.brief());
        assert_eq!(ask(node, "hrt_x", "GET", "/hraftd/raft/stats", None).unwrap().status, 401);
    }
    // Made at one node and used at another in the same moment, again and again.
    for round in 0..20 {
        let token = make(&nodes[round % 3], &root, &format!("t{round}"), r#"["read:","write:"]"#);
        let used = ask(&nodes[(round + 1) % 3], &token, "PUT", "/hraftd/key/a", Some("1")).unwrap();
        assert!(used.status < 300, "{}", used.brief());
        let read = ask(&nodes[(round + 2) % 3], &token, "GET", "/hraftd/key/a?level=weak", None).unwrap();
        assert_eq!(read.status, 200, "{}", read.brief());
    }
    let token = make(&nodes[0], &root, "web", r#"["read:w/","write:w/"]"#);
    let forbidden = ask(&nodes[1], &token, "PUT", "/hraftd/key/other", Some("1")).unwrap();
    assert_eq!(forbidden.status, 403, "{}", forbidden.brief());

    // Revoked while it writes at all nodes, and watches.
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let mut watch = Watch::open_with(&nodes[1].haddr, "prefix=w/", &headers, SETTLE).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| {
            let (stop, token, haddr) = (stop.clone(), token.clone(), node.haddr.clone());
            std::thread::spawn(move || {
                let bearer = format!("Bearer {token}");
                let mut statuses = Vec::new();
                for number in 0_u64.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let path = format!("/hraftd/key/w/{at}-{number}");
                    let headers = [("Authorization", bearer.as_str())];
                    statuses.push(call_with(&haddr, "PUT", &path, &headers, Some(b"1")).unwrap().status);
                }
                statuses
            })
        })
        .collect();
    let count = || {
        let reply = ask(&nodes[2], &root, "GET", "/hraftd/key?prefix=w/&count", None)?.ok()?;
        reply.json()["count"].as_u64().ok_or_else(|| reply.brief())
    };
    eventually(SETTLE, "it writes", || check(count()? > 30, || "few writes".to_owned()));
    assert!(watch.event().name == "set");
    let revoked = ask(&nodes[0], &root, "DELETE", "/hraftd/auth/token/web", None).unwrap();
    let (at, there) = (Instant::now(), count().unwrap());
    assert_eq!(revoked.status, 200, "{}", revoked.brief());
    while watch.event().name != "unauthorized" {}
    // A second, where the machine has nothing else to do.
    let took = at.elapsed();
    assert!(took < SETTLE, "{took:?}");
    say(&format!("a watch ended {took:.1?} after its token"));
    std::thread::sleep(Duration::from_millis(300).saturating_sub(at.elapsed()));
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        let statuses = writer.join().unwrap();
        assert!(statuses.first() < Some(&300) && statuses.last() == Some(&401), "{statuses:?}");
        let ended = statuses.iter().position(|status| *status == 401).unwrap();
        assert!(statuses[ended..].iter().all(|status| *status == 401), "{statuses:?}");
    }
    assert_eq!(count().unwrap(), there, "no write took effect after the answer");
    let told = nodes[0].get(&format!("/hraftd/key/a?token={root}")).unwrap();
    assert_eq!(told.status, 400, "{}", told.brief());
    for node in nodes {
        assert!(!node.log_text().contains(&token) && !node.log_text().contains(&root), "{}", node.name);
        assert_eq!(ask(node, &token, "GET", "/hraftd/key/w/x", None).unwrap().status, 401);
    }
}

#[test]
fn a_closed_cluster_stays_closed_through_a_restart_and_a_join() {
    let (mut cluster, root) = closed("status");
    let token = make(&cluster.nodes[0], &root, "web", r#"["read:","write:"]"#);
    cluster.stop_all();
    cluster.nodes[2].wipe();
    cluster.start_all();
    cluster.settled();
    for node in &cluster.nodes {
        eventually(SETTLE, "it serves who is known", || {
            ask(node, &token, "PUT", "/hraftd/key/a", Some("1"))?.ok().map(drop)
        });
        assert_eq!(node.get("/hraftd/key/a?level=none").unwrap().status, 403, "{}", node.name);
        assert_eq!(node.post("/hraftd/raft/leader", "").unwrap().status, 403, "{}", node.name);
    }
    // Who looks at a stopped node is told of the tokens, and nothing of their secrets.
    cluster.stop_all();
    let dir = cluster.nodes[0].rdir.to_str().unwrap();
    for args in [&["inspect", dir][..], &["recover", "--rdir", dir]] {
        let shown = tool(cluster.lab.path(), args);
        assert!(shown.contains("authentication is on, by root; without a token: status"), "{args:?}: {shown}");
        assert!(shown.contains("web  read: write:  (secret 1, by root)"), "{args:?}: {shown}");
        assert!(!shown.contains(&token[12..]) && !shown.contains(&root[12..]), "{args:?}: {shown}");
    }
}

/// Its tokens are what they were; who the operator is, its own file says, as ever.
#[test]
fn a_restored_cluster_is_closed_and_its_tokens_are_valid() {
    let (mut cluster, root) = closed("status");
    let token = make(&cluster.nodes[0], &root, "web", r#"["read:w/","write:w/"]"#);
    let backs_up = make(&cluster.nodes[0], &root, "cron", r#"["backup"]"#);
    assert!(ask(&cluster.nodes[1], &token, "PUT", "/hraftd/key/w/a", Some("1")).unwrap().status < 300);
    assert_eq!(ask(&cluster.nodes[1], &token, "GET", "/hraftd/backup", None).unwrap().status, 403);
    let backup = ask(&cluster.nodes[1], &backs_up, "GET", "/hraftd/backup", None).unwrap();
    assert_eq!(backup.status, 200, "{}", backup.brief());
    let file = cluster.lab.path().join("f.backup");
    std::fs::write(&file, &backup.body).unwrap();
    cluster.nodes.iter_mut().for_each(Node::kill);

    let mut alone = cluster.lab.node("restored");
    let (file, rdir) = (file.display().to_string(), alone.rdir.display().to_string());
    let said = tool(cluster.lab.path(), &["restore", &file, "--rdir", &rdir]);
    assert!(said.contains("are valid again") && said.contains("web"), "{said}");
    assert!(said.contains("Authentication is on in it."), "{said}");
    // Without a root token: those of the backup count, and nobody else gets in.
    let secret = cluster.lab.path().join("secret").display().to_string();
    alone = alone.args(&["--cluster-secret-file", &secret]);
    alone.start();
    let read = |alone: &Node, token: &str, wanted: u16| {
        eventually(SETTLE, &format!("{wanted} is answered"), || {
            let reply = ask(alone, token, "GET", "/hraftd/key/w/a", None)?;
            check(reply.status == wanted, || reply.brief())
        });
    };
    read(&alone, &token, 200);
    read(&alone, "hrt_x", 401);
    read(&alone, &root, 401);
    assert_eq!(alone.get("/hraftd/key/w/a").unwrap().status, 403, "as anonymous as before: status alone");
    assert!(ask(&alone, &token, "PUT", "/hraftd/key/w/b", Some("2")).unwrap().status < 300);
    assert_eq!(ask(&alone, &token, "PUT", "/hraftd/key/other", Some("2")).unwrap().status, 403);
    // With one it can be operated.
    alone.stop();
    let file = cluster.lab.path().join("root").display().to_string();
    let mut alone = alone.args(&["--root-token-file", &file]);
    alone.start();
    read(&alone, &root, 200);
    let gone = ask(&alone, &root, "DELETE", "/hraftd/auth/token/web", None).unwrap();
    assert_eq!(gone.status, 200, "{}", gone.brief());
    read(&alone, &token, 401);
}
