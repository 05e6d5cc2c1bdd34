//! Many keys as API-KV.md has them.

use super::*;

async fn with_keys(keys: &[&str]) -> Server {
    let server = Server::with(Fake::default(), ApiSettings { max_request_bytes: 4 << 20, ..settings() }).await;
    for (number, key) in keys.iter().enumerate() {
        server.ask("POST", "/key", &format!("{{{}:{number}}}", serde_json::Value::from(*key))).await;
    }
    server
}

/// The target of the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
}

#[tokio::test]
async fn values_names_and_metadata() {
    let server = with_keys(&["app/b", "b", "app/a", "app"]).await;
    let all = server.get("/hraftd/key?prefix=app/").await;
    all.is_ok(r#"{"app/a":2,"app/b":0}"#);
    assert_eq!(all.header("content-length"), Some("21"));
    assert_eq!((all.header("x-hraftd-index"), all.header("x-hraftd-level")), (Some("14"), Some("linearizable")));
    assert_eq!(all.header("link"), None);
    server.get("/key?prefix=").await.is_ok(r#"{"app":3,"app/a":2,"app/b":0,"b":1}"#);
    server.get("/key?prefix=x").await.is_ok("{}");
    server.get("/key?prefix=app&keys").await.is_ok(r#"["app","app/a","app/b"]"#);
    server.get("/key?prefix=x&keys").await.is_ok("[]");
    server.get("/key?prefix=&keys=1&separator=/").await.is_ok(r#"["app","app/","b"]"#);
    // It would be looked for in each key.
    let long = format!("/key?prefix=&keys&separator={}", "/".repeat(65));
    server.get(&long).await.is_error(400, "bad_request", "longer than 64 bytes");
    server.ask_with("PUT", "/key/b%22?ttl=30s", &["Content-Type: image/png"], b"\xff").await;
    server.get("/key?prefix=b%22").await.is_ok(r#"{"b\"":{"base64":"/w=="}}"#);
    server.get("/key?prefix=b&meta").await.is_ok(concat!(
        r#"[{"key":"b","value":1,"version":1,"create_index":12,"modify_index":12,"content_type":"application/json","ttl_ms":null},"#,
        r#"{"key":"b\"","value":{"base64":"/w=="},"version":1,"create_index":15,"modify_index":15,"content_type":"image/png","ttl_ms":30000}]"#
    ));
    let head = server.ask("HEAD", "/hraftd/key?prefix=app/", "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, Some("21"), ""));
    server.fake.calls();
    server.get("/key?prefix=&level=none&freshness=2s&min_index=3").await;
    assert_eq!(server.fake.calls(), ["settle None Some(2s) 3"]);
    assert!(server.get("/key?prefix=&level=none").await.header("x-hraftd-staleness-ms").is_some());
}

#[tokio::test]
async fn some_keys() {
    let server = with_keys(&["a", "b", "c d"]).await;
    let some = server.get("/key?key=c+d&key=x&key=a&key=a").await;
    some.is_ok(r#"{"a":0,"c d":2}"#);
    assert_eq!(some.header("x-hraftd-index"), Some("13"));
    server.get("/key?key=x").await.is_ok("{}");
    server.get("/key?key=b&key=a&keys").await.is_ok(r#"["a","b"]"#);
    assert!(server.get("/key?key=b&meta").await.body.starts_with(r#"[{"key":"b","value":1,"#));
}

#[tokio::test]
async fn what_contradicts_itself() {
    let server = with_keys(&["a"]).await;
    server.fake.calls();
    let long = "p".repeat(4097);
    for (target, part) in [
        ("", "give"),
        ("?level=none", "prefix=app/"),
        ("?keys", "key=a&key=b"),
        ("?prefix", "prefix="),
        ("?prefix=&keys&meta", "three forms"),
        ("?prefix=&keys_only&meta", "three forms"),
        ("?prefix=&count&keys", "three forms"),
        ("?prefix=a&count&limit=1", "count counts all"),
        ("?prefix=a&count&after=a", "count counts all"),
        ("?prefix=a&count&separator=/", "count counts all"),
        ("?count", "say which keys"),
        ("?prefix=a&key=b", "two requests"),
        ("?prefix=a&separator=/", "keys"),
        ("?prefix=a&separator=/&meta", "keys"),
        ("?prefix=a&keys&separator=", "separator"),
        ("?prefix=a&limit=0", "limit=0"),
        ("?prefix=a&limit=-1", "limit"),
        ("?prefix=a&limit=1.0", "limit"),
        ("?prefix=a&limit=18446744073709551616", "limit"),
        ("?prefix=a&limit=", "limit"),
        ("?prefix=a&prefix=b", "prefix is repeated"),
        ("?key=", "empty"),
        ("?key", "empty"),
        ("?key=a&limit=1", "for prefix="),
        ("?key=a&after=a", "for prefix="),
        ("?key=a&keys&separator=/", "for prefix="),
        ("?after=a", "say which keys"),
        ("?prefix=a&freshness=1s", "freshness"),
        ("?prefix=a&prefx=b", "prefx"),
        ("?prefix=a&all", "all"),
        ("?prefix=%ff", "UTF-8"),
        (&format!("?key={long}"), "4096"),
    ] {
        let answer = server.get(&format!("/hraftd/key{target}")).await;
        answer.is_error(400, "bad_request", if part == "give" { "say which keys" } else { part });
    }
    for (target, part) in [
        ("", "prefix=app/"),
        ("?all", "prefix=app/"),
        ("?prefix=", "add all"),
        ("?prefix=&all=0", "all"),
        ("?prefix=a&all", "empty prefix="),
        ("?prefix=a&key=b", "key"),
        ("?key=a", "key"),
        (&format!("?prefix={long}"), "4096"),
    ] {
        let answer = server.ask("DELETE", &format!("/hraftd/key{target}"), "").await;
        answer.is_error(400, "bad_request", part);
    }
    server.ask("DELETE", "/key?prefix=a", "x").await.is_error(400, "bad_request", "no body");
    let conditional = server.ask_with("DELETE", "/key?prefix=a", &["If-Match: \"11\""], b"").await;
    conditional.is_error(400, "bad_request", "one key");
    assert!(server.fake.calls().is_empty());
    server.get("/key?prefix=").await.is_ok(r#"{"a":0}"#);
}

#[tokio::test]
async fn deleting_many() {
    let server = with_keys(&["app/a", "app/b", "b"]).await;
    let deleted = server.ask_with("DELETE", "/hraftd/key?prefix=app/", &["Idempotency-Key: d"], b"").await;
    deleted.is_ok(r#"{"ok":true,"msg":"OK","deleted":2,"index":14}"#);
    let again = server.ask_with("DELETE", "/hraftd/key?prefix=app/", &["Idempotency-Key: d"], b"").await;
    again.is_ok(r#"{"ok":true,"msg":"OK","deleted":2,"index":14}"#);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    server.ask("DELETE", "/key?prefix=app/", "").await.is_ok(r#"{"ok":true,"msg":"OK","deleted":0,"index":16}"#);
    server.ask("DELETE", "/key?prefix=&all", "").await.is_ok(r#"{"ok":true,"msg":"OK","deleted":1,"index":17}"#);
    server.get("/key?prefix=").await.is_ok("{}");
}

#[tokio::test]
async fn pages() {
    let keys = ["a", "a b&c=%/x", "a\"<>/é", "b/1", "b/2", "b\u{10ffff}", "c"];
    let server = with_keys(&keys).await;
    for limit in 1..=8 {
        for form in ["keys", "meta", "timeout=20s"] {
            let mut target = format!("/key?after=&limit={limit}&{form}&min_index=1&level=weak&prefix=");
            let mut seen = Vec::new();
            loop {
                server.fake.calls();
                let page = server.get(&target).await;
                assert_eq!(page.status, 200, "{target}: {page:?}");
                assert_eq!(server.fake.calls(), ["settle Weak None 1"], "{target}");
                let json: serde_json::Value = serde_json::from_str(&page.body).unwrap();
                let names: Vec<String> = match &json {
                    serde_json::Value::Object(values) => values.keys().cloned().collect(),
                    array => {
                        let name =
                            |item: &serde_json::Value| item.as_str().or(item["key"].as_str()).unwrap().to_owned();
                        array.as_array().unwrap().iter().map(name).collect()
                    }
                };
                assert!(!names.is_empty() && names.len() <= limit, "{page:?}");
                seen.extend(names);
                match next(&page) {
                    Some(next) => target = next,
                    None => break,
                }
            }
            seen.sort();
            let mut wanted = keys.to_vec();
            wanted.sort();
            assert_eq!(seen, wanted, "{limit} {form}");
        }
    }
    server.get("/key?prefix=b&limit=9&after=b/1").await.is_ok("{\"b/2\":4,\"b\u{10ffff}\":5}");
    let page = server.get("/hraftd/key?prefix=b&limit=1&after=a").await;
    assert_eq!(
        next(&page).unwrap(),
        "/hraftd/key?prefix=b&limit=1&after=b%2f1",
        "header names come in lower case here"
    );
}

#[tokio::test]
async fn pages_of_folders() {
    let keys = ["app/a", "app/x/1", "app/x/2", "app/x0", "app/y/1", "app/z"];
    let server = with_keys(&keys).await;
    let mut target = "/key?prefix=app/&keys&separator=/&limit=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = server.get(&target).await;
        pages.push(page.body.clone());
        match next(&page) {
            Some(next) => target = next,
            None => break,
        }
    }
    assert_eq!(pages, [r#"["app/a","app/x/"]"#, r#"["app/x0","app/y/"]"#, r#"["app/z"]"#]);
    server.get("/key?prefix=app/&keys&separator=/&after=app/x/").await.is_ok(r#"["app/x0","app/y/","app/z"]"#);
    server.get("/key?prefix=app/&keys&after=app/x/").await.is_ok(r#"["app/x/1","app/x/2","app/x0","app/y/1","app/z"]"#);
}

#[tokio::test]
async fn a_long_listing_is_sent_in_chunks_and_read_at_one_index() {
    let server = with_keys(&[]).await;
    let value = format!("\"{}\"", "v".repeat(900));
    let pairs: Vec<String> = (0..2000).map(|number| format!("\"k{number:04}\":{value}")).collect();
    let body = format!("{{{}}}", pairs.join(","));
    server.ask("POST", "/key", &body).await.is_ok(r#"{"ok":true,"msg":"OK","index":11}"#);
    let mut client = server.connect().await;
    let request = format!("GET /key?prefix= HTTP/1.0\r\nHost: {}\r\n\r\n", server.addr);
    client.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1000];
    timeout(SOON, client.read_exact(&mut first)).await.unwrap().unwrap();
    server.ask("DELETE", "/key?prefix=&all", "").await.is_ok(r#"{"ok":true,"msg":"OK","deleted":2000,"index":12}"#);
    let mut rest = Vec::new();
    timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    let text = String::from_utf8([&first[..], &rest].concat()).unwrap();
    let (head, listed) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("x-hraftd-index: 11") && !head.contains("content-length"), "{head}");
    assert!(listed == body, "{} bytes of {}", listed.len(), body.len());

    // One cluster's answer is another's request.
    let other = with_keys(&[]).await;
    other.ask("POST", "/key", listed).await.is_ok(r#"{"ok":true,"msg":"OK","index":11}"#);
    let head = other.ask("HEAD", "/key?prefix=", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let page = other.get("/key?prefix=&limit=1000").await;
    assert!(next(&page).unwrap().ends_with("after=k0999"), "{:?}", page.head);
}

#[tokio::test]
async fn a_listing_that_is_not_settled_in_time() {
    let server = with_keys(&["a"]).await;
    server.fake.order(fake::Orders { hang: true, ..fake::Orders::default() });
    server.get("/key?prefix=&timeout=1ms").await.is_error(504, "timeout", "?level=none");
    let answer = server.ask("DELETE", "/key?prefix=a&timeout=300ms", "").await;
    answer.is_error(504, "timeout", "outcome of this write is unknown");
}

#[tokio::test]
async fn counts_and_names_under_their_clear_name() {
    let server = with_keys(&["app/b", "b", "app/a", "app"]).await;
    for (query, count) in
        [("prefix=", 4), ("prefix=app/", 2), ("prefix=app", 3), ("prefix=c", 0), ("key=a&key=b&key=app&key=b", 2)]
    {
        server.get(&format!("/key?{query}&count")).await.is_ok(&format!("{{\"count\":{count}}}"));
    }
    server.get("/key?prefix=app&keys_only").await.is_ok(r#"["app","app/a","app/b"]"#);
    server.get("/key?prefix=app&keys_only&keys&separator=/").await.is_ok(r#"["app","app/"]"#);
}
