//! Keys through every node: write, read, delete, forwarded or not.

use crate::support::cluster::Cluster;
use crate::support::http::{self, Reply};
use crate::support::lab::Lab;

fn index_header(reply: &Reply) -> u64 {
    reply.header("X-Hraftd-Index").unwrap_or_else(|| panic!("no X-Hraftd-Index: {reply:?}")).parse().unwrap()
}

fn assert_json(reply: &Reply) {
    assert!(reply.header("Content-Type").unwrap_or_default().starts_with("application/json"), "{:?}", reply.headers);
    assert!(!reply.body.ends_with(b"\n"), "{}", reply.brief());
}

#[test]
fn any_node_takes_any_request() {
    let cluster = Cluster::start(3);
    let mut last = 0;
    for (number, node) in cluster.nodes.iter().enumerate() {
        let key = format!("k{number}");
        let wrote = node.post("/hraftd/key", &format!(r#"{{"{key}":{number}}}"#)).unwrap().ok().unwrap();
        assert_json(&wrote);
        let answer = wrote.json();
        let index = answer["index"].as_u64().unwrap();
        assert_eq!(answer, serde_json::json!({"ok": true, "msg": "OK", "index": index}));
        assert!(index > last, "{answer}");
        assert!(index_header(&wrote) >= index, "{:?}", wrote.headers);
        // Acknowledged there, seen everywhere.
        for reader in &cluster.nodes {
            let read = reader.get(&format!("/hraftd/key/{key}")).unwrap();
            assert_eq!((read.status, read.text()), (200, format!(r#"{{"{key}":{number}}}"#)));
            assert_json(&read);
            assert!(index_header(&read) >= index, "{:?}", read.headers);
        }
        last = index;
    }
    for (number, node) in cluster.nodes.iter().enumerate() {
        let path = format!("/hraftd/key/k{}", (number + 1) % 3);
        let deleted = node.delete(&path, None).unwrap().ok().unwrap();
        let index = deleted.json()["index"].as_u64().unwrap();
        assert!(index > last, "{}", deleted.brief());
        assert_eq!(deleted.json(), serde_json::json!({"ok": true, "msg": "OK", "index": index, "deleted": 1}));
        for reader in &cluster.nodes {
            let gone = reader.get(&path).unwrap();
            assert_eq!((gone.status, &gone.json()["code"]), (404, &"not_found".into()), "{}", gone.brief());
            assert!(index_header(&gone) >= index, "{:?}", gone.headers);
        }
        let again = node.delete(&path, None).unwrap().ok().unwrap();
        assert_eq!(again.json()["deleted"], 0);
        last = index;
    }
}

#[test]
fn a_forwarded_write_tells_who_served_it() {
    let cluster = Cluster::start(3);
    let follower = &cluster.nodes[cluster.follower()];
    let wrote = follower.post("/hraftd/key", r#"{"k":1}"#).unwrap().ok().unwrap();
    let served_by = wrote.header("X-Hraftd-Served-By").unwrap_or_else(|| panic!("{:?}", wrote.headers));
    let leader = &cluster.nodes[cluster.leader()];
    assert!(served_by.contains(&leader.haddr), "{served_by} is not {}", leader.id());
}

#[test]
fn the_seeds_paths_answer_without_the_prefix() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    assert_eq!(node.post("/key", r#"{"k":1}"#).unwrap().status, 200);
    assert_eq!(node.get("/key/k").unwrap().text(), r#"{"k":1}"#);
    assert_eq!(node.get("/hraftd/key/k").unwrap().text(), r#"{"k":1}"#);
    for path in ["stats", "cluster", "state", "node", "health", "ready"] {
        assert_eq!(node.get(&format!("/raft/{path}")).unwrap().status, 200, "{path}");
    }
    assert_eq!(node.delete("/key/k", None).unwrap().json()["deleted"], 1);
}

#[test]
fn many_keys_are_one_entry() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    let before = node.stat("last_log_index").unwrap();
    let body: Vec<String> = (0..500).map(|number| format!(r#""many{number}":{number}"#)).collect();
    let wrote = node.post("/hraftd/key", &format!("{{{}}}", body.join(","))).unwrap().ok().unwrap();
    assert_eq!(wrote.json()["index"], before + 1);
    for number in [0, 1, 250, 499] {
        assert_eq!(node.value(&format!("many{number}")).unwrap(), number);
    }
    // One bad key and none of them is written.
    let refused = node.post("/hraftd/key", r#"{"good1":1,"":2,"good2":3}"#).unwrap();
    assert_eq!(refused.status, 400, "{}", refused.brief());
    for key in ["good1", "good2"] {
        assert_eq!(node.get(&format!("/hraftd/key/{key}")).unwrap().status, 404);
    }
    assert_eq!(node.stat("last_log_index").unwrap(), before + 1);
}

#[test]
fn the_content_type_does_not_matter() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    let types = ["application/json", "application/x-www-form-urlencoded", "text/plain; charset=utf-8", "nonsense"];
    for (number, content_type) in types.into_iter().enumerate() {
        let body = format!(r#"{{"k{number}":1}}"#);
        let headers = [("Content-Type", content_type)];
        let wrote = http::call_with(&node.haddr, "POST", "/hraftd/key", &headers, Some(body.as_bytes())).unwrap();
        assert_eq!(wrote.status, 200, "{content_type}: {}", wrote.brief());
    }
}

#[test]
fn this_nodes_own_copy() {
    let cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.all_have("k", "1");
    for node in &cluster.nodes {
        let read = node.get("/hraftd/key/k?level=none").unwrap();
        assert_eq!((read.status, read.text().as_str()), (200, r#"{"k":1}"#));
        index_header(&read);
        assert_eq!(node.get("/hraftd/key/k?level=linearizable").unwrap().status, 200);
        assert_eq!(node.get("/hraftd/key/k?timeout=5s").unwrap().status, 200);
        assert_eq!(node.get("/hraftd/key/other?level=none").unwrap().status, 404);
    }
}

/// A read that began after an acknowledged write sees it, whichever nodes were asked.
#[test]
fn reads_see_what_was_acknowledged() {
    let cluster = Cluster::start(3);
    for round in 0..100_u32 {
        let writer = &cluster.nodes[round as usize % 3];
        let reader = &cluster.nodes[round as usize / 3 % 3];
        writer.set("round", &round.to_string()).unwrap();
        assert_eq!(reader.value("round").unwrap(), round);
    }
}
