//! State, membership, and what is not there.

use super::fake::{OTHER, Orders};
use super::*;
use crate::node::NodeError;

#[tokio::test]
async fn stats_as_in_the_sample() {
    let server = Server::start().await;
    let stats = concat!(
        r#"{"applied_index":"7","commit_index":"7","fsm_pending":"0","last_contact":"3.685538ms","#,
        r#""last_log_index":"7","last_log_term":"8","last_snapshot_index":"0","last_snapshot_term":"0","#,
        r#""latest_configuration":[{"id":"127.0.0.1:11000,127.0.0.1:12000","#,
        r#""address":"127.0.0.1:12000","suffrage":"Voter"}],"latest_configuration_index":"0","num_peers":"2","#,
        r#""protocol_version":"3","protocol_version_max":"3","protocol_version_min":"0","#,
        r#""snapshot_version_max":"1","snapshot_version_min":"0","state":"Follower","term":"8","#,
        r#""format":"1","format_max":"2","format_min":"1"}"#
    );
    server.get("/hraftd/raft/stats").await.is_ok(stats);
    server.get("/raft/stats").await.is_ok(stats);
    server.get("/raft/stats?x").await.is_error(400, "bad_request", "\\\"x\\\"");
    let head = server.ask("HEAD", "/raft/stats", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn what_a_node_says_of_itself() {
    let server = Server::start().await;
    let me = concat!(
        r#"{"address":"127.0.0.1:12000","id":"127.0.0.1:11000,127.0.0.1:12000","#,
        r#""state":"Leader","suffrage":"Voter","version":"0.1.0","formats":{"oldest":1,"newest":1}}"#
    );
    let lost = concat!(
        r#"{"address":"127.0.0.1:12001","id":"127.0.0.1:11001,127.0.0.1:12001","#,
        r#""state":"Lost","suffrage":"Nonvoter"}"#
    );
    let cluster = format!(r#"{{"format":1,"current":{me},"leader":{me},"servers":[{me},{lost}]}}"#);
    server.get("/hraftd/raft/cluster").await.is_ok(&cluster);
    server.get("/hraftd/raft/state").await.is_ok(r#"{"ok":true,"msg":"Leader"}"#);
    let node = format!(
        concat!(
            r#"{{"startTime":"2000-02-29T00:00:00Z","nodeID":"127.0.0.1:11000,127.0.0.1:12000","#,
            r#""hostname":"box \"1\"","IP":"127.0.0.1","version":"{}","formats":{{"oldest":1,"newest":2}},"#,
            r#""format":1,"applied_index":7,"#,
            r#""digest":"0000000000000abc"}}"#
        ),
        env!("CARGO_PKG_VERSION")
    );
    server.get("/hraftd/raft/node").await.is_ok(&node);
    server.get("/hraftd/raft/ready").await.is_ok(r#"{"ok":true,"msg":"OK"}"#);

    server.fake.order(Orders { fail: Some(NodeError::NotReady("joining".to_owned())), ..Orders::default() });
    server.get("/hraftd/raft/ready").await.is_error(503, "not_ready", "joining");
    let cluster = format!(r#"{{"format":1,"current":{me},"leader":null,"servers":[{me},{lost}]}}"#);
    server.get("/raft/cluster").await.is_ok(&cluster);
    let health = server.get("/raft/health").await;
    assert_eq!((health.status, health.body.as_str()), (200, "OK"));
    assert_eq!(health.header("content-type"), Some("text/plain"));
}

#[tokio::test]
async fn the_list_of_routes_and_what_is_not_on_it() {
    let server = Server::start().await;
    let index = server.get("/").await;
    let json: serde_json::Value = serde_json::from_str(&index.body).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["routes"].as_array().unwrap().len(), methods::ROUTES.len());
    for target in ["/hraftd", "/hraftd/", "/raft", "/raft/stats/", "/favicon.ico", "/keys"] {
        server.get(target).await.is_error(404, "not_found", "GET /");
    }
    for (method, target, allow) in [
        ("POST", "/", "get, head"),
        ("PUT", "/raft/stats", "get, head"),
        ("GET", "/raft/join", "post"),
        ("POST", "/hraftd/raft/remove", "delete"),
    ] {
        let answer = server.ask(method, target, "").await;
        answer.is_error(405, "method_not_allowed", method);
        assert_eq!(answer.header("allow"), Some(allow));
    }
}

#[tokio::test]
async fn join() {
    let server = Server::start().await;
    let ok = r#"{"ok":true,"msg":"OK"}"#;
    server.ask("POST", "/hraftd/raft/join", &format!(r#"{{"id":"{OTHER}"}}"#)).await.is_ok(ok);
    let with_addr = format!(r#"{{"id":"{OTHER}","addr":"127.0.0.1:12001"}}"#);
    server.ask("POST", "/raft/join", &with_addr).await.is_ok(ok);
    let request = |raft_id: &str| {
        let length = with_addr.len();
        format!(
            "POST /raft/join HTTP/1.0\r\nX-Hraftd-Raft-Id: {raft_id}\r\nContent-Length: {length}\r\n\r\n{with_addr}"
        )
    };
    server.raw(&request("18446744073709551615")).await.is_ok(ok);
    let calls =
        [format!("join {OTHER} None"), format!("join {OTHER} None"), format!("join {OTHER} Some({})", u64::MAX)];
    assert_eq!(server.fake.calls(), calls);

    server.raw(&request("0x1")).await.is_error(400, "bad_request", "X-Hraftd-Raft-Id");
    let other_addr = format!(r#"{{"id":"{OTHER}","addr":"127.0.0.1:1"}}"#);
    let bad = [
        ("", "ends too early"),
        ("{}", "`id`"),
        (r#"{"id":"127.0.0.1:1"}"#, "comma"),
        (r#"{"id":":1,:2"}"#, "host is empty"),
        (r#"{"id":7}"#, "it is a number, not a string"),
        (r#"{"id":"a:1,b:2","force":true}"#, "`force`"),
        (r#"{"id":"a:1,b:2","addr":"b"}"#, "addr"),
        (&other_addr, "127.0.0.1:12001"),
    ];
    for (body, part) in bad {
        server.ask("POST", "/raft/join", body).await.is_error(400, "bad_request", part);
    }
    assert!(server.fake.calls().is_empty());
}

#[tokio::test]
async fn leader() {
    let server = Server::start().await;
    let ok = r#"{"ok":true,"msg":"OK"}"#;
    server.ask("POST", "/hraftd/raft/leader", "").await.is_ok(ok);
    server.ask("POST", "/raft/leader", "{}").await.is_ok(ok);
    server.ask("POST", "/raft/leader", r#"{"id":":11001"}"#).await.is_ok(ok);
    server.ask("POST", "/raft/leader?id=:11002", "").await.is_ok(ok);
    let calls = ["lead None", "lead None", "lead Some(\":11001\")", "lead Some(\":11002\")"];
    assert_eq!(server.fake.calls(), calls);
    for (target, body) in [("/raft/leader", r#"{"id":""}"#), ("/raft/leader?force", ""), ("/raft/leader", "x")] {
        server.ask("POST", target, body).await.is_error(400, "bad_request", "");
    }
    server.ask("GET", "/raft/leader", "").await.is_error(405, "method_not_allowed", "POST");
}

#[tokio::test]
async fn remove() {
    let server = Server::start().await;
    let ok = r#"{"ok":true,"msg":"OK"}"#;
    server.ask("DELETE", "/hraftd/raft/remove", r#"{"id": "a:1,b:2"}"#).await.is_ok(ok);
    server.ask("DELETE", "/raft/remove?id=a%3A1%2Cb%3A2&force", "").await.is_ok(ok);
    server.ask("DELETE", "/raft/remove?force=true", r#"{"id":":11002"}"#).await.is_ok(ok);
    assert_eq!(server.fake.calls(), ["remove a:1,b:2 false", "remove a:1,b:2 true", "remove :11002 true"]);
    for (target, body) in [
        ("/raft/remove", ""),
        ("/raft/remove", "{}"),
        ("/raft/remove", r#"{"id":""}"#),
        ("/raft/remove", r#"{"id":"a:1","force":true}"#),
        ("/raft/remove?id", ""),
        ("/raft/remove?id=a:1", r#"{"id":"a:1"}"#),
        ("/raft/remove?force=0", r#"{"id":"a:1"}"#),
        ("/raft/remove?forse", r#"{"id":"a:1"}"#),
    ] {
        server.ask("DELETE", target, body).await.is_error(400, "bad_request", "");
    }
    assert!(server.fake.calls().is_empty());
    server.fake.order(Orders { fail: Some(NodeError::Conflict("two match".to_owned())), ..Orders::default() });
    server.ask("DELETE", "/raft/remove?id=:1", "").await.is_error(409, "conflict", "two match");
    server.fake.order(Orders { panic: true, ..Orders::default() });
    server.ask("DELETE", "/raft/remove?id=:1", "").await.is_error(500, "internal", "");
}

/// Issue 18, the second attack: an id of 7.8 MB gave an answer of 7.8 MB, and at a follower 504.
#[tokio::test]
async fn an_id_that_is_too_long_is_refused_here_and_quoted_short() {
    let server = Server::start().await;
    let long = "a".repeat(1_500);
    let bodies = [format!(r#"{{"id":"{long}"}}"#), format!(r#"{{"id":"127.0.0.1:1,{long}:2"}}"#)];
    for (method, target) in [("POST", "/raft/join"), ("DELETE", "/raft/remove"), ("POST", "/raft/leader")] {
        for body in &bodies {
            let answer = server.ask(method, target, body).await;
            answer.is_error(400, "bad_request", "too long");
            assert!(answer.body.len() < 500, "{} bytes", answer.body.len());
        }
        let addr = format!(r#"{{"id":"a:1,b:2","addr":"{long}"}}"#);
        let answer = server.ask(method, target, &addr).await;
        answer.is_error(400, "bad_request", "");
        assert!(answer.body.len() < 500, "{} bytes", answer.body.len());
    }
    assert!(server.fake.calls().is_empty());
}

/// DESIGN.md, trap 10.
#[tokio::test]
async fn a_change_goes_on_when_the_client_hangs_up() {
    let server = Server::start().await;
    server.fake.order(Orders { hang: true, ..Orders::default() });
    let mut client = server.connect().await;
    client.write_all(b"DELETE /raft/remove?id=a:1 HTTP/1.0\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    let mut wait_for = async |what: &str| {
        timeout(SOON, async {
            loop {
                seen.extend(server.fake.calls());
                if seen.iter().any(|call| call == what) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    };
    wait_for("remove a:1 false").await;
    drop(client);
    // Let the server notice; were the task tied to the connection, it would now be gone.
    server.get("/raft/health").await;
    server.fake.go();
    wait_for("done").await;
}
