//! While a node loads its data, both ports answer, and nothing older than what it has is told.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const REQUESTS: usize = 100;
const KEYS_A_REQUEST: usize = 3_000;

fn load(node: &Node) {
    let mut conn = Conn::open(&node.haddr).unwrap();
    for request in 0..REQUESTS {
        let mut body = String::from("{");
        for number in 0..KEYS_A_REQUEST {
            let _ = write!(body, r#""k{request}-{number}":{number},"#);
        }
        let _ = write!(body, r#""last":{request}}}"#);
        conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
    }
}

#[test]
fn a_node_that_loads_answers_and_tells_nothing_old() {
    let lab = Lab::new();
    let mut node = lab.node("only").args(&["--snapshot-threshold", "50"]);
    node.start();
    node.wait_ready();
    load(&node);
    eventually(SETTLE, "a snapshot", || check(node.stat("last_snapshot_index")? > 0, || "none".to_owned()));
    let last = Value::from(REQUESTS - 1);
    for clean in [true, false] {
        if clean {
            node.stop();
        } else {
            node.kill();
        }
        node.start();
        let mut refused = 0;
        eventually(SETTLE, "it is ready", || {
            // In this order: each may be the last one that comes before the node is there.
            let key = node.get("/hraftd/key/last?level=none&timeout=1ms")?;
            for path in ["stats", "state", "cluster", "node", "health"] {
                node.get(&format!("/hraftd/raft/{path}"))?.ok().unwrap();
            }
            match key.status {
                200 => assert_eq!(key.json()["last"], last, "{}", key.brief()),
                503 => {
                    assert_eq!(key.json()["code"], "not_ready", "{}", key.brief());
                    assert!(key.header("retry-after").is_some());
                    refused += 1;
                }
                _ => panic!("{}", key.brief()),
            }
            let ready = node.get("/hraftd/raft/ready")?;
            assert!(ready.status == 200 || ready.json()["code"] != "no_route", "{}", ready.brief());
            check(ready.status == 200, || ready.brief())
        });
        say(&format!("{refused} key requests were answered with 503 while the node was loading"));
        assert!(refused > 0, "there is enough to load that it is seen");
        assert_eq!(node.value("last").unwrap(), last);
    }
    // A request that is patient enough is served when the node is there.
    node.kill();
    node.start();
    let patient = eventually(SETTLE, "the port is open", || node.get("/hraftd/key/last?level=none"));
    assert!(patient.status == 200 || patient.json()["code"] == "not_ready", "{}", patient.brief());
    // Told to stop while it loads, it does.
    node.kill();
    node.start();
    eventually(SETTLE, "the port is open", || node.get("/hraftd/raft/health")?.ok());
    node.stop();
}
