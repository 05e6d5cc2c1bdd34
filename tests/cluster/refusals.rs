//! Bad requests: each gets the answer that "Errors" promises, and nothing of it is stored.

use std::time::{Duration, Instant};

use crate::support::http::{self, Conn, Reply};
use crate::support::lab::Lab;
use crate::support::node::Node;

fn started(lab: &Lab) -> Node {
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    node
}

fn assert_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.brief());
    let content_type = reply.header("Content-Type").unwrap_or_default();
    assert!(content_type.starts_with("application/json"), "{content_type}: {}", reply.brief());
    assert!(!reply.body.ends_with(b"\n"), "{}", reply.brief());
    let body = reply.json();
    assert_eq!((&body["ok"], &body["code"]), (&false.into(), &code.into()), "{body}");
    assert!(body["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{body}");
}

fn assert_nothing_stored(node: &Node, log_index_before: u64) {
    assert_eq!(node.stat("last_log_index").unwrap(), log_index_before);
    for key in ["k", "a", "b", "refused"] {
        assert_eq!(node.get(&format!("/hraftd/key/{key}?level=none")).unwrap().status, 404, "{key} was stored");
    }
}

#[test]
fn bodies_that_are_no_object_of_keys() {
    let lab = Lab::new();
    let node = started(&lab);
    let before = node.stat("last_log_index").unwrap();
    let too_deep = format!("{{\"k\":{}{}}}", "[".repeat(130), "]".repeat(130));
    let far_too_deep = format!("{{\"k\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let open_ended = format!("{{\"k\":{}", "[".repeat(200_000));
    let objects = format!("{}1{}", "{\"k\":".repeat(50_000), "}".repeat(50_000));
    let bodies: &[&[u8]] = &[
        b"",
        b" ",
        b"nonsense",
        b"1",
        b"null",
        b"\"k\"",
        b"[1,2]",
        b"{}",
        br#"{"k":1"#,
        br#"{"k":1}{"a":2}"#,
        br#"{"k":1}x"#,
        br#"{"k":1,}"#,
        br#"{"k":}"#,
        br#"{"k":01}"#,
        br#"{"k":NaN}"#,
        br#"{k:1}"#,
        br#"{'k':1}"#,
        br#"{"":1}"#,
        br#"{"a":1,"":2}"#,
        br#"{"a":1,"a":2}"#,
        br#"{"a":1,"b":2,"\u0061":3}"#,
        b"{\"k\":\"\xff\"}",
        b"{\"\xc3\x28\":1,\"k\":1}",
        b"{\"k\":\"line\nbreak\"}",
        too_deep.as_bytes(),
        far_too_deep.as_bytes(),
        open_ended.as_bytes(),
        objects.as_bytes(),
        "[".repeat(200_000).leak().as_bytes(),
    ];
    for body in bodies {
        let reply = http::call(&node.haddr, "POST", "/hraftd/key", Some(body)).unwrap();
        assert_error(&reply, 400, "bad_request");
    }
    assert_nothing_stored(&node, before);
}

#[test]
fn keys_that_cannot_be() {
    let lab = Lab::new();
    let node = started(&lab);
    let before = node.stat("last_log_index").unwrap();
    for method in ["GET", "DELETE"] {
        for path in ["/hraftd/key/", "/hraftd/key/%FF", "/hraftd/key/a%C3%28"] {
            assert_error(&http::call(&node.haddr, method, path, None).unwrap(), 400, "bad_request");
        }
    }
    // A limit without a flag: 400 or 413, the contract leaves it open.
    let long = "k".repeat(4097);
    for reply in [
        node.get(&format!("/hraftd/key/{long}")).unwrap(),
        node.delete(&format!("/hraftd/key/{long}"), None).unwrap(),
        node.post("/hraftd/key", &format!(r#"{{"a":1,"{long}":1}}"#)).unwrap(),
    ] {
        let code = if reply.status == 413 { "too_large" } else { "bad_request" };
        assert_error(&reply, if reply.status == 413 { 413 } else { 400 }, code);
        assert!(reply.text().contains("4096") || reply.text().contains("4 KiB"), "{}", reply.brief());
    }
    assert_nothing_stored(&node, before);
}

#[test]
fn too_big_a_value() {
    let lab = Lab::new();
    let node = started(&lab);
    let before = node.stat("last_log_index").unwrap();
    let value = "v".repeat(1 << 20);
    let reply = node.post("/hraftd/key", &format!(r#"{{"a":1,"k":"{value}"}}"#)).unwrap();
    assert_error(&reply, 413, "too_large");
    assert!(reply.text().contains("--max-value"), "{}", reply.brief());
    assert_nothing_stored(&node, before);
}

/// Announced, or streamed in chunks without an end: refused before it is all there.
#[test]
fn too_big_a_body_is_refused_as_it_comes() {
    let lab = Lab::new();
    let node = started(&lab);
    let before = node.stat("last_log_index").unwrap();
    for path in ["/hraftd/key", "/hraftd/raft/join"] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let began = Instant::now();
            let mut conn = Conn::open(&node.haddr).unwrap();
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000000000\r\n{expect}\r\n", node.haddr);
            conn.send(head.as_bytes()).unwrap();
            if expect.is_empty() {
                conn.send(br#"{"k":"vvvvvvvvvvvvvvvvvvvvvvvvvvv"#).unwrap();
            }
            let reply = conn.reply(false).unwrap();
            assert_error(&reply, 413, "too_large");
            assert!(path != "/hraftd/key" || reply.text().contains("--max-request"), "{}", reply.brief());
            assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        }
    }

    let mut conn = Conn::open(&node.haddr).unwrap();
    let head = format!("POST /hraftd/key HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", node.haddr);
    conn.send(head.as_bytes()).unwrap();
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend([b' '; 0x10000]);
    chunk.extend(b"\r\n");
    // Four times the limit; a server that has closed meanwhile is what is wanted.
    let refused = (0..512).find(|_| conn.send(&chunk).is_err());
    match conn.reply(false) {
        Ok(reply) => assert_error(&reply, 413, "too_large"),
        Err(error) => assert!(refused.is_some(), "it took all of it, and then: {error}"),
    }
    assert_nothing_stored(&node, before);
}

#[test]
fn limits_have_flags() {
    let lab = Lab::new();
    let mut node = lab.node("only").args(&["--max-value", "100", "--max-request", "1000"]);
    node.start();
    node.wait_ready();
    node.set("ok", &format!("\"{}\"", "v".repeat(98))).unwrap();
    let value = node.post("/hraftd/key", &format!(r#"{{"k":"{}"}}"#, "v".repeat(99))).unwrap();
    assert_error(&value, 413, "too_large");
    assert!(value.text().contains("--max-value"), "{}", value.brief());
    let body = node.post("/hraftd/key", &format!(r#"{{"k":1{}}}"#, " ".repeat(1000))).unwrap();
    assert_error(&body, 413, "too_large");
    assert!(body.text().contains("--max-request"), "{}", body.brief());
}

#[test]
fn unknown_routes_and_methods() {
    let lab = Lab::new();
    let node = started(&lab);
    for path in
        ["/nothing", "/hraftd", "/hraftd/nothing", "/hraftd/raft", "/hraftd/raft/nothing", "/hraftd/hraftd/key/k"]
    {
        assert_error(&node.get(path).unwrap(), 404, "not_found");
    }
    let cases: &[(&str, &str, &[&str])] = &[
        ("PUT", "/hraftd/key", &["GET", "POST", "DELETE"]),
        ("PATCH", "/hraftd/key/k", &["GET", "HEAD", "PUT", "POST", "DELETE"]),
        ("BREW", "/hraftd/key/k", &["GET", "DELETE"]),
        ("GET", "/hraftd/txn", &["POST"]),
        ("POST", "/hraftd/watch", &["GET"]),
        ("PATCH", "/hraftd/lock/l", &["GET", "POST", "PUT", "DELETE"]),
        ("POST", "/openapi.json", &["GET"]),
        ("POST", "/hraftd/raft/stats", &["GET"]),
        ("DELETE", "/hraftd/raft/cluster", &["GET"]),
        ("GET", "/hraftd/raft/join", &["POST"]),
        ("POST", "/hraftd/raft/remove", &["DELETE"]),
        ("POST", "/", &["GET"]),
    ];
    for (method, path, allowed) in cases {
        let reply = http::call(&node.haddr, method, path, Some(b"{}")).unwrap();
        assert_error(&reply, 405, "method_not_allowed");
        let allow = reply.header("Allow").unwrap_or_else(|| panic!("{method} {path}: no Allow"));
        for wanted in *allowed {
            assert!(allow.contains(wanted), "{method} {path}: Allow: {allow}");
        }
    }
}

#[test]
fn query_parameters_that_are_unknown_or_wrong() {
    let lab = Lab::new();
    let node = started(&lab);
    let before = node.stat("last_log_index").unwrap();
    let cases = [
        ("GET", "/hraftd/key/k?levle=none", "levle"),
        ("GET", "/hraftd/key/k?level=none&level=none", "level"),
        ("GET", "/hraftd/key/k?level=bogus", "bogus"),
        ("GET", "/hraftd/key/k?level=", "level"),
        ("GET", "/hraftd/key/k?level=wake", "wake"),
        ("GET", "/hraftd/key/k?timeout=soon", "timeout"),
        ("GET", "/hraftd/key/k?timeout=5", "timeout"),
        ("GET", "/hraftd/key/k?timeout=1s&timeout=2s", "timeout"),
        ("POST", "/hraftd/key?create=1", "create"),
        ("POST", "/hraftd/key?level=none", "level"),
        ("DELETE", "/hraftd/key/k?if_match=3", "if_match"),
        ("DELETE", "/hraftd/raft/remove?id=a:1,b:2&forse", "forse"),
    ];
    for (method, path, named) in cases {
        let body = (method == "POST").then_some(&br#"{"k":1}"#[..]);
        let reply = http::call(&node.haddr, method, path, body).unwrap();
        assert_error(&reply, 400, "bad_request");
        assert!(reply.text().contains(named), "{path}: {} does not name {named}", reply.brief());
    }
    assert_nothing_stored(&node, before);
}

#[test]
fn requests_to_join_that_make_no_sense() {
    let lab = Lab::new();
    let node = started(&lab);
    for body in ["", "{}", "[]", r#"{"id":1}"#, r#"{"id":"nonsense"}"#, r#"{"id":"a:1"}"#, r#"{"id":"a:1,b:0"}"#] {
        assert_error(&node.post("/hraftd/raft/join", body).unwrap(), 400, "bad_request");
    }
    assert_eq!(node.voters().unwrap(), [node.id()].into());
}

/// A page in a browser is no client (cross-site requests, DNS rebinding).
#[test]
fn browsers() {
    let lab = Lab::new();
    let node = started(&lab);
    let before = node.stat("last_log_index").unwrap();
    let body = Some(&br#"{"k":1}"#[..]);
    let foreign = [("Origin", "http://evil.example")];
    assert_error(&http::call_with(&node.haddr, "POST", "/hraftd/key", &foreign, body).unwrap(), 403, "forbidden");
    let mut conn = Conn::open(&node.haddr).unwrap();
    conn.send(b"GET /hraftd/key/k HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").unwrap();
    assert_error(&conn.reply(false).unwrap(), 403, "forbidden");
    assert_nothing_stored(&node, before);
    let own = format!("http://{}", node.haddr);
    let reply = http::call_with(&node.haddr, "POST", "/hraftd/key", &[("Origin", &own)], body).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.brief());
}
