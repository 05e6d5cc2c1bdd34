//! Key requests as API.md has them.

use super::fake::{ID, OTHER, Orders};
use super::*;
use crate::node::NodeError;

#[tokio::test]
async fn set_get_delete() {
    let server = Server::start().await;
    let set = server.ask("POST", "/hraftd/key", r#" {"k1": "v1", "k2":{"a": 1.00}} "#).await;
    set.is_ok(r#"{"ok":true,"msg":"OK","index":11}"#);
    assert_eq!(set.header("x-hraftd-index"), Some("11"));
    assert_eq!(set.header("x-hraftd-served-by"), Some(ID));

    let get = server.get("/hraftd/key/k2").await;
    get.is_ok(r#"{"k2":{"a": 1.00}}"#);
    assert_eq!(get.header("x-hraftd-index"), Some("11"));
    assert_eq!(get.header("x-hraftd-served-by"), Some(ID));
    server.get("/key/k1").await.is_ok(r#"{"k1":"v1"}"#);

    server.ask("DELETE", "/key/k1", "").await.is_ok(r#"{"ok":true,"msg":"OK","index":12,"deleted":1}"#);
    server.ask("DELETE", "/hraftd/key/k1", "").await.is_ok(r#"{"ok":true,"msg":"OK","index":13,"deleted":0}"#);
    let gone = server.get("/hraftd/key/k1").await;
    gone.is_error(404, "not_found", r#"\"k1\""#);
    assert_eq!(gone.header("x-hraftd-index"), Some("13"));
    server.ask("POST", "/key", r#"{"n":null}"#).await.is_ok(r#"{"ok":true,"msg":"OK","index":14}"#);
    server.get("/key/n").await.is_ok(r#"{"n":null}"#);
}

#[tokio::test]
async fn keys_of_raw_paths() {
    let server = Server::start().await;
    let cases = [
        ("/hraftd/key/a%2fb", "a/b"),
        ("/key/a/b", "a/b"),
        ("/key//", "/"),
        ("/key/a//b/", "a//b/"),
        ("/key/../raft/stats", "../raft/stats"),
        ("/key/./a", "./a"),
        ("/key/a+b", "a+b"),
        ("/key/a%20b%3Fc", "a b?c"),
        ("/key/%252F", "%2F"),
        ("/key/%C3%A9", "é"),
        ("/key/é", "é"),
        ("/key/%22%5C%0A", "\"\\\n"),
        ("/key/k?level=none", "k"),
    ];
    for (target, key) in cases {
        let json = serde_json::to_string(key).unwrap();
        server.ask("POST", "/key", &format!("{{{json}:1}}")).await;
        server.get(target).await.is_ok(&format!("{{{json}:1}}"));
    }
    // An absolute target, as a proxy is asked.
    let target = format!("http://{}/key/a//b/", server.addr);
    server.get(&target).await.is_ok(r#"{"a//b/":1}"#);
    server.fake.calls();
    let long = format!("/key/{}", "k".repeat(4097));
    let bad = [
        ("/hraftd/key/", "empty"),
        ("/key/%", "hexadecimal"),
        ("/key/%4", "hexadecimal"),
        ("/key/%FF", "UTF-8"),
        (&long, "4096"),
    ];
    for (target, part) in bad {
        let answer = server.get(target).await;
        answer.is_error(400, "bad_request", part);
        assert_eq!(answer.header("x-hraftd-served-by"), Some(ID));
        assert!(answer.header("x-hraftd-index").is_some());
    }
    server.ask("DELETE", "/key/", "").await.is_error(400, "bad_request", "empty");
    assert!(server.fake.calls().is_empty());
}

#[tokio::test]
async fn query_parameters() {
    let server = Server::start().await;
    server.ask("POST", "/key?timeout=1m", r#"{"k":1}"#).await;
    server.get("/key/k?level=none&timeout=30s").await;
    server.get("/key/k?level=linearizable").await;
    server.get("/key/k?level=strong&min_index=17").await;
    server.get("/key/k?level=auto&freshness=1500ms").await;
    let calls = [
        "set 1 keys in 60",
        "get k None in 30",
        "get k Linearizable in 10",
        "get k Linearizable None 17 in 10",
        "get k Auto Some(1.5s) 0 in 10",
    ];
    assert_eq!(server.fake.calls(), calls);
    let cases = [
        ("GET", "/key/k?levl=none", "levl"),
        ("GET", "/key/k?level=none&level=none", "level is repeated"),
        ("GET", "/key/k?level=wake", "wake"),
        ("GET", "/key/k?level=NONE", "NONE"),
        ("GET", "/key/k?level", "level"),
        ("GET", "/key/k?freshness=1s", "level=linearizable"),
        ("GET", "/key/k?level=none&freshness=1", "unit"),
        ("GET", "/key/k?min_index=-1", "min_index"),
        ("GET", "/key/k?min_index=+1", "min_index"),
        ("GET", "/key/k?timeout=61s", "at most 1m\""),
        ("GET", "/key/k?timeout=10", "unit"),
        ("DELETE", "/key/k?level=none", "level"),
        ("DELETE", "/key/k?cas=x", "cas=x"),
        ("DELETE", "/key/k?ttl=3s", "ttl"),
        ("POST", "/key?ttl=3", "ttl=3"),
        ("POST", "/key?force", "force"),
    ];
    for (method, target, part) in cases {
        server.ask(method, target, r#"{"k":2}"#).await.is_error(400, "bad_request", part);
    }
    assert!(server.fake.calls().is_empty(), "none of these may reach the node");
    let settings = ApiSettings { read_level: ReadLevel::None, ..settings() };
    let server = Server::with(Fake::default(), settings).await;
    server.get("/key/k").await;
    assert_eq!(server.fake.calls(), ["get k None in 10"]);
}

#[tokio::test]
async fn methods() {
    let server = Server::start().await;
    for (target, methods, allow) in [
        ("/hraftd/key/k", "PATCH TRACE", "GET, HEAD, PUT, POST, DELETE"),
        ("/key", "PUT PATCH", "GET, HEAD, POST, DELETE"),
    ] {
        for method in methods.split(' ') {
            let answer = server.ask(method, target, "").await;
            assert_eq!(answer.status, 405);
            assert_eq!(answer.header("allow"), Some(allow.to_ascii_lowercase().as_str()));
            answer.is_error(405, "method_not_allowed", method);
        }
    }
}

#[tokio::test]
async fn errors_of_the_node() {
    let server = Server::start().await;
    let failed = |fail| Orders { fail: Some(fail), ..Orders::default() };
    server.fake.order(failed(NodeError::NoLeader("n2 and n3 do not answer".to_owned())));
    let answer = server.ask("POST", "/key", r#"{"k":1}"#).await;
    answer.is_error(503, "no_leader", "n2 and n3");
    assert_eq!((answer.header("x-hraftd-index"), answer.header("x-hraftd-served-by")), (Some("10"), Some(ID)));
    server.fake.order(failed(NodeError::Removed("gone".to_owned())));
    server.get("/key/k").await.is_error(503, "removed", "gone");
    server.fake.order(failed(NodeError::Timeout("no quorum in 10s".to_owned())));
    server.ask("DELETE", "/key/k", "").await.is_error(504, "timeout", "outcome of this write is unknown");
    server.fake.order(Orders { hang: true, ..Orders::default() });
    server.ask("DELETE", "/key/k?timeout=300ms", "").await.is_error(504, "timeout", "outcome of this write is unknown");
    server.get("/key/k?timeout=1ms").await.is_error(504, "timeout", "?level=none");
    server.fake.order(Orders { panic: true, ..Orders::default() });
    server.get("/key/k").await.is_error(500, "internal", "log");
    server.fake.order(Orders { served_by: Some(OTHER.parse().unwrap()), ..Orders::default() });
    let forwarded = server.ask("POST", "/key", r#"{"k":1}"#).await;
    assert_eq!(forwarded.header("x-hraftd-served-by"), Some(OTHER));
}

#[tokio::test]
async fn browsers_and_other_hosts() {
    let server = Server::start().await;
    let addr = server.addr;
    let post = |host: &str, more: &str| {
        let body = r#"{"k":1}"#;
        format!("POST /key HTTP/1.1\r\n{host}{more}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let host = format!("Host: {addr}\r\n");
    let foreign = server.raw(&post(&host, "Origin: http://evil.example\r\n")).await;
    foreign.is_error(403, "forbidden", "evil.example");
    assert_eq!(foreign.header("x-hraftd-index"), Some("10"));
    server.raw(&post(&host, "Origin: null\r\n")).await.is_error(403, "forbidden", "null");
    server.raw(&post("Host: evil.example\r\n", "")).await.is_error(403, "forbidden", "loopback");
    // Issue 18, D12: two Host headers, or none with HTTP/1.1, were taken.
    server.raw(&post(&host, "Host: evil.example\r\n")).await.is_error(400, "bad_request", "several Host");
    server.raw(&post(&host, &host)).await.is_error(400, "bad_request", "several Host");
    server.raw(&post("", "")).await.is_error(400, "bad_request", "no Host");
    server.raw("GET /nope HTTP/1.1\r\nConnection: close\r\n\r\n").await.is_error(400, "bad_request", "no Host");
    server.raw("GET /raft/stats HTTP/1.0\r\nHost: evil.example\r\n\r\n").await.is_error(403, "forbidden", "loopback");
    server.raw("GET /nope HTTP/1.0\r\nOrigin: http://x\r\n\r\n").await.is_error(403, "forbidden", "http://x");
    for path in ["/raft/stats", "/hraftd/txn", "/hraftd/watch?prefix="] {
        let refused = server.ask_with("DELETE", path, &["Origin: null"], b"").await;
        refused.is_error(403, "forbidden", "null");
    }
    assert!(server.fake.keys().is_empty());
    assert_eq!(server.raw(&post(&host, &format!("Origin: http://{addr}\r\n"))).await.status, 200);
    assert_eq!(server.raw("GET /key/k HTTP/1.0\r\n\r\n").await.status, 200);
    let open = Server::with(Fake::default(), ApiSettings { hosts: Hosts::default(), ..settings() }).await;
    assert_eq!(open.raw(&post("Host: n1:80\r\n", "Origin: http://n1\r\n")).await.status, 200);
    // Issue 18, B2: a name that leads here by DNS rebinding.
    let rebound = post("Host: evil.example\r\n", "Origin: http://evil.example\r\n");
    open.raw(&rebound).await.is_error(403, "forbidden", "--allow-host");
    let answer = open.raw(&post("Host: n1\r\n", "Sec-Fetch-Site: cross-site\r\n")).await;
    answer.is_error(403, "forbidden", "another site");
    assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
    // Issue 18, D5: nginx's `upstream kv { … }` in front of a port on loopback.
    let proxied = ApiSettings { hosts: Hosts::new(true, &["kv".to_owned()], []), ..settings() };
    let proxied = Server::with(Fake::default(), proxied).await;
    assert_eq!(proxied.raw(&post("Host: kv\r\n", "")).await.status, 200);
    proxied.raw(&post("Host: db\r\n", "")).await.is_error(403, "forbidden", "--allow-host");
}

/// Issue 18, D5: HAProxy's `option httpchk` got 405.
#[tokio::test]
async fn options_tell_what_a_path_takes() {
    let server = Server::start().await;
    for (target, allow) in [
        ("/", "get, head, options"),
        ("*", "get, head, put, post, delete, options"),
        ("/key", "get, head, post, delete, options"),
        ("/hraftd/key/k", "get, head, put, post, delete, options"),
        ("/hraftd/lock/l", "get, head, post, put, delete, options"),
        ("/hraftd/txn", "post, options"),
        ("/hraftd/watch", "get, options"),
        ("/raft/join", "post, options"),
    ] {
        let answer = server.ask("OPTIONS", target, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{target}: {answer:?}");
        assert_eq!(answer.header("allow"), Some(allow), "{target}");
    }
    server.ask("OPTIONS", "/nope", "").await.is_error(404, "not_found", "nope");
    let page = server.ask_with("OPTIONS", "/key", &["Origin: http://evil.example"], b"").await;
    page.is_error(403, "forbidden", "evil.example");
}
