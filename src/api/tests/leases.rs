//! Leases as docs/api.md has them.

use super::*;

const BODY: &str = r#"{"host": "a"}"#;

/// With a lease, which has id 11.
async fn with_lease() -> Server {
    let server = Server::start().await;
    let made = server.ask("POST", "/hraftd/lease?ttl=15s", BODY).await;
    assert_eq!(
        (made.status, made.body.as_str()),
        (201, r#"{"ok":true,"msg":"OK","index":11,"lease":11,"ttl_ms":15000}"#)
    );
    server
}

#[tokio::test]
async fn a_lease_and_its_keys() {
    let server = with_lease().await;
    assert_eq!(server.ask("PUT", "/hraftd/key/svc/a?lease=11", "1").await.status, 201);
    server.ask("POST", "/key?lease=11", r#"{"svc/b":1,"svc/c":2}"#).await.is_ok(r#"{"ok":true,"msg":"OK","index":13}"#);
    server.ask("POST", "/key/svc/d?incr=1&lease=11", "").await.is_ok(r#"{"svc/d":1}"#);
    let txn = r#"{"if":[{"lease":11}],"then":[{"set":{"svc/e":1},"lease":11},{"incr":{"svc/d":1},"lease":11}]}"#;
    server
        .ask("POST", "/hraftd/txn", txn)
        .await
        .is_ok(r#"{"ok":true,"succeeded":true,"index":15,"results":[{"set":1},{"svc/d":2}]}"#);
    let lock = server.ask("POST", "/hraftd/lock/l?lease=11", "").await;
    lock.is_ok(r#"{"ok":true,"name":"l","token":16,"ttl_ms":15000}"#);
    server
        .get("/hraftd/lease/11")
        .await
        .is_ok(r#"{"lease":11,"ttl_ms":15000,"body":{"host": "a"},"keys":5,"locks":1}"#);
    server.get("/hraftd/lease/11?keys").await.is_ok(
        r#"{"lease":11,"ttl_ms":15000,"body":{"host": "a"},"keys":["svc/a","svc/b","svc/c","svc/d","svc/e"],"locks":1}"#,
    );
    server.get("/hraftd/lease").await.is_ok(r#"[{"lease":11,"ttl_ms":15000,"body":{"host": "a"},"keys":5,"locks":1}]"#);
    assert!(server.get("/key/svc/a?meta").await.body.ends_with(r#""ttl_ms":null,"lease":11}"#));
    assert!(server.get("/key?prefix=svc/e&meta").await.body.ends_with(r#""ttl_ms":null,"lease":11}]"#));
    let held = r#"{"name":"l","token":16,"ttl_ms":15000,"body":null,"waiting":0,"lease":11}"#;
    server.get("/hraftd/lock/l").await.is_ok(held);
    server.get("/hraftd/lock?prefix=").await.is_ok(&format!("[{held}]"));
    let alive = server.ask("PUT", "/hraftd/lease/11?ttl=1m", "").await;
    alive.is_ok(r#"{"ok":true,"msg":"OK","index":17,"lease":11,"ttl_ms":60000}"#);
    assert_eq!(alive.header("etag"), None);
    server.ask("PUT", "/key/svc/a", "2").await.is_ok(r#"{"ok":true,"msg":"OK","index":18}"#);
    server.ask("DELETE", "/hraftd/lease/11", "").await.is_ok(r#"{"ok":true,"msg":"OK","index":19,"deleted":4}"#);
    server.get("/key?prefix=&keys").await.is_ok(r#"["svc/a"]"#);
    for method in ["GET", "PUT", "DELETE"] {
        server.ask(method, "/hraftd/lease/11", "").await.is_error(404, "not_found", "no lease 11");
    }
    server.get("/hraftd/lock/l").await.is_error(404, "not_found", "nobody holds");
    server.get("/hraftd/lease").await.is_ok("[]");
}

/// Made in one piece it held up a thread of the clients', and took the memory of all of it.
#[tokio::test]
async fn a_long_list_of_keys_is_sent_in_pieces() {
    let server = with_lease().await;
    for count in [255, 256, 257, 9_000] {
        let names: Vec<String> = (0..count).map(|number| format!("\"svc/{number:05}\"")).collect();
        for names in names.chunks(200) {
            let pairs: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
            assert_eq!(server.ask("POST", "/key?lease=11", &format!("{{{}}}", pairs.join(","))).await.status, 200);
        }
        // HTTP/1.0 has no chunks around its pieces.
        let request = format!("GET /hraftd/lease/11?keys HTTP/1.0\r\nHost: {}\r\n\r\n", server.addr);
        let shown = server.raw(&request).await;
        let wanted =
            format!(r#"{{"lease":11,"ttl_ms":15000,"body":{{"host": "a"}},"keys":[{}],"locks":0}}"#, names.join(","));
        assert_eq!((shown.status, shown.body == wanted), (200, true), "{count}");
        assert_eq!(shown.header("content-length").is_some(), count < 5_000, "{count}");
    }
}

#[tokio::test]
async fn what_a_lease_that_is_none_gets() {
    let server = with_lease().await;
    for id in ["12", "0", "18446744073709551615"] {
        for (method, target, body) in [
            ("PUT", "/hraftd/key/k?lease=", "1"),
            ("POST", "/hraftd/key?lease=", "{\"k\":1}"),
            ("POST", "/hraftd/key/k?incr=1&lease=", ""),
            ("POST", "/hraftd/lock/l?lease=", ""),
        ] {
            server.ask(method, &format!("{target}{id}"), body).await.is_error(409, "lease_lost", "no lease");
        }
        server.get(&format!("/hraftd/lease/{id}")).await.is_error(404, "not_found", "no lease");
        let txn = format!(r#"{{"then":[{{"set":{{"k":1}}}},{{"incr":{{"n":1}},"lease":{id}}}]}}"#);
        server.ask("POST", "/hraftd/txn", &txn).await.is_error(409, "lease_lost", "then[1].lease: there is no lease");
    }
    assert!(server.fake.keys().is_empty() && server.fake.lock_view("l").is_none());
    server.fake.calls();
    for id in ["-1", "x", "1.0", "18446744073709551616", "%2B1", "11/keys"] {
        let answer = server.get(&format!("/hraftd/lease/{id}")).await;
        assert!(matches!(answer.status, 400 | 404), "{id}: {answer:?}");
        assert!(answer.body.contains("not the id of a lease") || id == "11/keys", "{id}: {answer:?}");
    }
    for (method, target, body, part) in [
        ("PUT", "/key/k?lease=-1", "1", "lease=-1 is not the id"),
        ("PUT", "/key/k?lease=", "1", "lease needs a value"),
        ("PUT", "/key/k?lease=18446744073709551616", "1", "is not the id"),
        ("PUT", "/key/k?lease=11&ttl=5s", "1", "ttl and lease"),
        ("POST", "/key?lease=11&ttl=5s", "{\"k\":1}", "ttl and lease"),
        ("POST", "/key/k?incr=1&lease=11&ttl=5s", "", "ttl and lease"),
        ("POST", "/key/k?touch&lease=11", "", "touch sets"),
        ("POST", "/hraftd/lock/l?lease=11&ttl=5s", "", "ttl and lease"),
        ("POST", "/hraftd/lock/l", "", "ttl=15s, or lease="),
        ("POST", "/hraftd/lease", "", "ttl=15s"),
        ("POST", "/hraftd/lease?ttl=999ms", "", "ttl=999ms is not between"),
        ("POST", "/hraftd/lease?ttl=25h", "", "ttl=25h is not between"),
        ("POST", "/hraftd/lease?ttl=5s", "{", "one JSON value"),
        ("PUT", "/hraftd/lease/11?ttl=0s", "", "ttl=0s is not between"),
        ("PUT", "/hraftd/lease/11", "1", "takes no body"),
        ("DELETE", "/hraftd/lease/11?ttl=5s", "", "ttl"),
        ("GET", "/hraftd/lease?limit=0", "", "limit=0"),
        ("GET", "/hraftd/lease?after=x", "", "after=x is not the id"),
        ("POST", "/hraftd/txn", r#"{"then":[{"set":{"a":1},"ttl":"5s","lease":11}]}"#, "ttl and lease"),
        ("POST", "/hraftd/txn", r#"{"then":[{"delete":"a","lease":11}]}"#, "delete takes no lease"),
        ("POST", "/hraftd/txn", r#"{"then":[{"set":{"a":1},"lease":-1}]}"#, "then[0].lease: it must be the id"),
        ("POST", "/hraftd/txn", r#"{"then":[{"set":{"a":1},"lease":"11"}]}"#, "then[0].lease: it must be the id"),
        ("POST", "/hraftd/txn", r#"{"then":[{"touch":["a"]}]}"#, "needs \\\"ttl\\\""),
        ("POST", "/hraftd/txn", r#"{"then":[{"touch":[],"ttl":"5s"}]}"#, "then[0].touch: the array is empty"),
        ("POST", "/hraftd/txn", r#"{"then":[{"touch":[""],"ttl":"5s"}]}"#, "then[0].touch[0]: the key is empty"),
        ("POST", "/hraftd/txn", r#"{"then":[{"touch":"a","ttl":"5s"}]}"#, "then[0].touch: it must be an array"),
        ("POST", "/hraftd/txn", r#"{"if":[{"lock":"l"}],"then":[]}"#, "needs the \\\"token\\\""),
        ("POST", "/hraftd/txn", r#"{"if":[{"lock":"l","token":1,"key":"a"}],"then":[]}"#, "no member \\\"key\\\""),
        ("POST", "/hraftd/txn", r#"{"if":[{"lock":"l","token":"1"}],"then":[]}"#, "if[0].token: it must be a whole"),
        ("POST", "/hraftd/txn", r#"{"if":[{"lease":1,"key":"a"}],"then":[]}"#, "no member \\\"key\\\""),
        ("POST", "/hraftd/txn", r#"{"if":[{"key":"a","lt":"5"}],"then":[]}"#, "if[0].lt: it must be a number"),
        ("POST", "/hraftd/txn", r#"{"if":[{"key":"a","ge":null}],"then":[]}"#, "if[0].ge: it must be a number"),
    ] {
        server.ask(method, &format!("/hraftd{}", target.trim_start_matches("/hraftd")), body).await.is_error(
            400,
            "bad_request",
            part,
        );
    }
    assert!(server.fake.calls().iter().all(|call| call.starts_with("settle")), "nothing was done");
}

#[tokio::test]
async fn leases_are_listed_in_pages() {
    let server = with_lease().await;
    for _ in 0..2 {
        server.ask("POST", "/hraftd/lease?ttl=5s", "").await;
    }
    let shown = |id: u64| format!(r#"{{"lease":{id},"ttl_ms":5000,"body":null,"keys":0,"locks":0}}"#);
    let page = server.get("/hraftd/lease?limit=1&after=11").await;
    page.is_ok(&format!("[{}]", shown(12)));
    assert_eq!(page.header("link"), Some(r#"</hraftd/lease?limit=1&after=12>; rel="next""#));
    let last = server.get("/hraftd/lease?limit=1&after=12").await;
    last.is_ok(&format!("[{}]", shown(13)));
    assert_eq!(last.header("link"), None);
}

#[tokio::test]
async fn conditions_of_transactions() {
    let server = Server::start().await;
    server.ask("POST", "/key", r#"{"n":5,"s":"5","long":1e400}"#).await;
    server.ask("POST", "/hraftd/lock/l?ttl=15s", "").await;
    for (condition, holds) in [
        (r#"{"key":"n","lt":6}"#, true),
        (r#"{"key":"n","lt":5.0}"#, false),
        (r#"{"key":"n","ge":5.0,"le":5}"#, true),
        (r#"{"key":"n","gt":4,"version":1}"#, true),
        (r#"{"key":"s","lt":6}"#, false),
        (r#"{"key":"nobody","lt":6}"#, false),
        (r#"{"key":"long","gt":1e399}"#, true),
        (r#"{"lock":"l","token":12}"#, true),
        (r#"{"lock":"l","token":11}"#, false),
        (r#"{"lock":"nobody","token":12}"#, false),
        (r#"{"lease":12}"#, false),
    ] {
        let answer = server.ask("POST", "/hraftd/txn", &format!(r#"{{"if":[{condition}],"then":[]}}"#)).await;
        assert!(answer.body.contains(&format!("\"succeeded\":{holds}")), "{condition}: {answer:?}");
    }
    let touch = r#"{"then":[{"touch":["n","nobody","s"],"ttl":"30s"}]}"#;
    let answer = server.ask("POST", "/hraftd/txn", touch).await;
    assert!(answer.body.ends_with(r#""results":[{"touched":2}]}"#), "{answer:?}");
}

#[tokio::test]
async fn repetitions() {
    let server = Server::start().await;
    let ask = async |method: &str, target: &str, key: &str| {
        server.ask_with(method, target, &[&format!("Idempotency-Key: {key}")], b"").await
    };
    ask("POST", "/hraftd/lease?ttl=15s", "g").await;
    let again = ask("POST", "/hraftd/lease?ttl=15s", "g").await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(again.body, r#"{"ok":true,"msg":"OK","index":11,"lease":11,"ttl_ms":15000}"#);
    ask("PUT", "/hraftd/lease/11", "k").await.is_ok(r#"{"ok":true,"msg":"OK","index":13,"lease":11,"ttl_ms":15000}"#);
    ask("PUT", "/hraftd/lease/11", "k").await.is_ok(r#"{"ok":true,"msg":"OK","index":13,"lease":11,"ttl_ms":15000}"#);
    server.fake.tick(20_000);
    ask("PUT", "/hraftd/lease/11", "k").await.is_error(404, "not_found", "no lease 11");
    ask("POST", "/hraftd/lease?ttl=15s", "g").await.is_error(409, "lease_lost", "no lease 11");
}

#[tokio::test]
async fn watchers_are_told_whose_end_it_was() {
    let server = with_lease().await;
    server.ask("POST", "/key?lease=11", r#"{"b":1,"a":2}"#).await;
    server.ask("POST", "/hraftd/lock/l?lease=11", "").await;
    server.ask("DELETE", "/hraftd/lease/11", "").await;
    for (what, told) in [
        ("prefix=", r#"{"event":"expire","id":"14.1","key":"a","index":14,"lease":11}"#),
        ("prefix=", r#"{"event":"expire","id":"14.2","key":"b","index":14,"lease":11}"#),
        ("lock=l", r#"{"event":"expired","id":"14.3","lock":"l","token":13,"index":14,"lease":11}"#),
    ] {
        let mut client = server.connect().await;
        let request = format!(
            "GET /hraftd/watch?{what}&after=13 HTTP/1.1\r\nHost: {}\r\nAccept: application/x-ndjson\r\n\r\n",
            server.addr
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut seen = String::new();
        while !seen.contains(told) {
            let mut some = [0; 1000];
            let read =
                timeout(SOON, client.read(&mut some)).await.unwrap_or_else(|_| panic!("{told}: {seen}")).unwrap();
            assert!(read > 0, "{told}: {seen}");
            seen.push_str(std::str::from_utf8(&some[..read]).unwrap());
        }
    }
}

#[tokio::test]
async fn an_old_member_knows_nothing_of_it() {
    let server = with_lease().await;
    server.fake.calls();
    let why = "leases need format 2: n2 runs hraftd 0.1.0".to_owned();
    server.fake.order(fake::Orders { fail: Some(NodeError::NotYet(why)), ..fake::Orders::default() });
    for (method, target, body, feature) in [
        ("POST", "/hraftd/lease?ttl=5s", "", "leases"),
        ("PUT", "/hraftd/lease/11", "", "leases"),
        ("DELETE", "/hraftd/lease/11", "", "leases"),
        ("PUT", "/hraftd/key/k?lease=11", "1", "leases"),
        ("POST", "/hraftd/lock/l?lease=11", "", "leases"),
        ("POST", "/hraftd/txn", r#"{"then":[{"set":{"k":1},"lease":11}]}"#, "leases"),
        ("POST", "/hraftd/txn", r#"{"if":[{"lease":11}],"then":[]}"#, "these conditions and operations"),
        ("POST", "/hraftd/txn", r#"{"if":[{"key":"k","lt":1}],"then":[]}"#, "these conditions and operations"),
        (
            "POST",
            "/hraftd/txn",
            r#"{"then":[],"else":[{"touch":["k"],"ttl":"5s"}]}"#,
            "these conditions and operations",
        ),
    ] {
        server.ask(method, target, body).await.is_error(501, "not_yet", "n2 runs hraftd 0.1.0");
        assert_eq!(server.fake.calls(), [format!("require {feature}")], "{target}");
    }
}
