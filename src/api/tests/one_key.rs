//! One key as API-KV.md has it.

use super::*;

const JSON: &str = "Content-Type: application/json";

impl Answer {
    #[track_caller]
    fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body), "{self:?}");
    }

    fn etag(&self) -> &str {
        self.header("etag").unwrap_or_default()
    }
}

#[tokio::test]
async fn put_and_the_forms_of_a_get() {
    let server = Server::start().await;
    let created = server.ask_with("PUT", "/hraftd/key/k", &[JSON], b"{\"a\": 1.0} \n").await;
    created.is(201, r#"{"ok":true,"msg":"OK","index":11}"#);
    assert_eq!((created.etag(), created.header("x-hraftd-index")), ("\"11\"", Some("11")));
    let replaced = server.ask_with("PUT", "/key/k", &[], b"li\"ne\n").await;
    replaced.is(200, r#"{"ok":true,"msg":"OK","index":12}"#);

    let json = server.get("/key/k").await;
    json.is_ok(r#"{"k":"li\"ne\n"}"#);
    assert_eq!(json.etag(), "\"12\"");
    let raw = server.get("/key/k?raw").await;
    raw.is(200, "li\"ne\n");
    assert_eq!(raw.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
    assert_eq!((raw.header("content-security-policy"), raw.etag()), (Some("sandbox"), "\"12\""));
    server.get("/key/k?meta").await.is_ok(
        r#"{"key":"k","value":"li\"ne\n","version":2,"create_index":11,"modify_index":12,"content_type":"text/plain; charset=utf-8","ttl_ms":null}"#,
    );
    let head = server.ask("HEAD", "/key/k", "").await;
    head.is(200, "");
    assert_eq!((head.etag(), head.header("content-length")), ("\"12\"", Some("16")));
    server.ask("HEAD", "/key/nobody", "").await.is(404, "");

    server.ask_with("PUT", "/key/h", &["Content-Type: text/html"], b"<p>").await;
    let raw = server.get("/key/h?raw").await;
    raw.is(200, "<p>");
    assert_eq!(raw.header("content-type"), Some("text/html"));
    server.ask_with("PUT", "/key/b", &["Content-Type: image/png"], b"\xff\0").await;
    server.get("/key/b").await.is_ok(r#"{"b":{"base64":"/wA="}}"#);
    assert_eq!(server.ask("HEAD", "/key/b?raw", "").await.header("content-type"), Some("image/png"));
    server.ask_with("PUT", "/key/n?json", &["Content-Type: application/x-www-form-urlencoded"], b"5").await;
    let raw = server.get("/key/n?raw").await;
    raw.is(200, "5");
    assert_eq!(raw.header("content-type"), Some("application/json"));
    // A lone surrogate fits no text.
    server.ask("PUT", "/key/s?json", r#""\ud800""#).await;
    let raw = server.get("/key/s?raw").await;
    raw.is(200, r#""\ud800""#);
    assert_eq!(raw.header("content-type"), Some("application/json"));

    server.get("/key/k?raw&meta").await.is_error(400, "bad_request", "two forms");
    server.ask_with("PUT", "/key/k", &[JSON], b"{").await.is_error(400, "bad_request", "one JSON value");
    server.ask("PUT", "/key/k", &"x".repeat(1000)).await.is_error(413, "too_large", "--max-value");
    server.get("/key/k?meta").await.is_ok(&server.get("/key/k?meta").await.body);
    assert!(server.get("/key/k?meta").await.body.contains("\"modify_index\":12"), "what was refused changed nothing");
}

#[tokio::test]
async fn conditions() {
    let server = Server::start().await;
    let put =
        async |headers: &[&str], query: &str| server.ask_with("PUT", &format!("/key/k{query}"), headers, b"v").await;
    put(&["If-Match: *"], "").await.is(
        412,
        r#"{"ok":false,"code":"precondition_failed","msg":"\"k\" does not exist, and the request demands that it does","current":null}"#,
    );
    put(&[], "?cas=3").await.is_error(412, "precondition_failed", "\"current\":null");
    assert_eq!(put(&["If-None-Match: *"], "").await.status, 201);
    let refused = put(&["If-None-Match: *"], "").await;
    refused.is_error(412, "precondition_failed", r#""current":{"key":"k","value":"v","version":1,"#);
    assert_eq!(put(&[], "?cas=0").await.status, 412);
    let index = server.ask("HEAD", "/key/k", "").await.etag().to_owned();
    assert_eq!(put(&[&format!("If-Match: {index}")], "").await.status, 200);
    assert_eq!(put(&[&format!("If-Match: {index}")], "").await.status, 412);
    put(&["If-Match: *"], "?cas=0").await.is_error(400, "bad_request", "one form");
    put(&["If-Match: 17"], "").await.is_error(400, "bad_request", "if-match");

    let index = server.ask("HEAD", "/key/k", "").await.etag().to_owned();
    let not_modified = server.ask_with("GET", "/key/k", &[&format!("If-None-Match: \"1\", W/{index}")], b"").await;
    not_modified.is(304, "");
    assert_eq!((not_modified.etag(), not_modified.header("x-hraftd-level")), (index.as_str(), Some("linearizable")));
    assert_eq!(server.ask_with("GET", "/key/k", &["If-None-Match: \"1\""], b"").await.status, 200);
    assert_eq!(server.ask_with("GET", "/key/k", &["If-Match: \"1\""], b"").await.status, 412);

    let post = |query: &'static str, headers: &'static [&'static str], body: &'static str| {
        server.ask_with("POST", query, headers, body.as_bytes())
    };
    assert_eq!(post("/key", &["If-None-Match: *"], r#"{"k":1}"#).await.status, 412);
    post("/key", &["If-None-Match: *"], r#"{"k":1,"l":1}"#).await.is_error(400, "bad_request", "txn");
    assert_eq!(post("/key?cas=0", &[], r#"{"new":1}"#).await.status, 200);
    assert_eq!(post("/key/new?incr=1&cas=0", &[], "").await.status, 412);
    assert_eq!(server.ask("DELETE", "/key/new?cas=1", "").await.status, 412);
    assert_eq!(server.ask_with("DELETE", "/key/new", &["If-Match: *"], b"").await.status, 200);
    assert_eq!(server.ask_with("DELETE", "/key/new", &["If-Match: *"], b"").await.status, 412);
    server.ask("DELETE", "/key/new", "body").await.is_error(400, "bad_request", "no body");
}

#[tokio::test]
async fn numbers() {
    let server = Server::start().await;
    let incr = async |query: &str| server.ask("POST", &format!("/hraftd/key/n?{query}"), "").await;
    let first = incr("incr=5").await;
    first.is_ok(r#"{"n":5}"#);
    assert_eq!(first.etag(), "\"11\"");
    incr("incr=-7").await.is_ok(r#"{"n":-2}"#);
    incr("incr=9223372036854775807").await.is_ok(r#"{"n":9223372036854775805}"#);
    incr("incr=3").await.is_error(409, "not_a_number", "64 bits");
    incr("incr=2").await.is_ok(r#"{"n":9223372036854775807}"#);
    for bad in ["incr", "incr=", "incr=1.5", "incr=x", "incr=9223372036854775808", "incr=1&touch", "", "touch"] {
        assert_eq!(incr(bad).await.status, 400, "{bad}");
    }
    for (value, part) in [("\"5\"", "store a number"), ("\"x\"", "not an integer"), ("5.0", "not an"), ("{}", "not an")]
    {
        server.ask("PUT", "/key/n?json", value).await;
        incr("incr=1").await.is_error(409, "not_a_number", part);
        server.get("/key/n").await.is_ok(&format!(r#"{{"n":{value}}}"#));
    }
}

#[tokio::test]
async fn times_to_live() {
    let server = Server::start().await;
    let ttl = async |key: &str| {
        let meta = server.get(&format!("/key/{key}?meta")).await.body;
        serde_json::from_str::<serde_json::Value>(&meta).unwrap()["ttl_ms"].clone()
    };
    server.ask("PUT", "/key/k?ttl=30s", "v").await;
    server.ask("POST", "/key?ttl=1m", r#"{"l":1,"m":2}"#).await;
    assert_eq!((ttl("k").await, ttl("l").await, ttl("m").await), (30_000.into(), 60_000.into(), 60_000.into()));
    let touched = server.ask("POST", "/key/k?touch&ttl=2h", "").await;
    touched.is_ok(r#"{"ok":true,"msg":"OK","index":13}"#);
    assert_eq!((touched.etag(), ttl("k").await), ("\"11\"", 7_200_000.into()));
    server.ask("POST", "/key/l?incr=1", "").await;
    assert_eq!(ttl("l").await, 60_000, "no plain overwrite");
    server.ask("PUT", "/key/k", "w").await;
    assert_eq!(ttl("k").await, serde_json::Value::Null);
    server.ask("POST", "/key/nobody?touch&ttl=1s", "").await.is_error(404, "not_found", "nobody");
    for bad in ["0s", "999ms", "87601h", "10y", "30", "-1s"] {
        server.ask("PUT", &format!("/key/k?ttl={bad}"), "v").await.is_error(400, "bad_request", "ttl");
    }
    assert_eq!(server.ask("PUT", "/key/k?ttl=87600h", "v").await.status, 200);
}

#[tokio::test]
async fn long_polls() {
    let server = Server::start().await;
    server.ask("PUT", "/key/k", "1").await;
    server.get("/key/k?wait=5m").await.is_ok(r#"{"k":"1"}"#);
    let same = ["If-None-Match: \"11\""];
    server.ask_with("GET", "/key/k?wait=20ms", &same, b"").await.is(304, "");
    server.get("/key/nobody?wait=20ms").await.is_error(404, "not_found", "nobody");
    server.ask_with("GET", "/key/nobody?wait=5m", &same, b"").await.is_error(404, "not_found", "nobody");
    server.get("/key/k?wait=301s").await.is_error(400, "bad_request", "wait");

    let wakes = tokio::spawn(server.fake.watching());
    let (changed, appeared, deleted, ()) = tokio::join!(
        server.ask_with("GET", "/key/k?wait=1m", &same, b""),
        server.get("/key/new?wait=1m"),
        server.ask_with("GET", "/key/k2?wait=1m", &["If-None-Match: *"], b""),
        async {
            server.ask("PUT", "/key/other", "x").await;
            server.ask("PUT", "/key/k", "2").await;
            server.ask("PUT", "/key/new", "3").await;
        }
    );
    changed.is_ok(r#"{"k":"2"}"#);
    appeared.is_ok(r#"{"new":"3"}"#);
    assert_eq!(deleted.status, 404, "it is another than any");
    wakes.abort();
}

#[tokio::test]
async fn repeated_requests() {
    let server = Server::start().await;
    let incr = async |key: &'static str, query: &str| {
        let key = format!("Idempotency-Key: {key}");
        server.ask_with("POST", &format!("/hraftd/key/n?{query}"), &[&key], b"").await
    };
    let first = incr("a", "incr=1").await;
    first.is_ok(r#"{"n":1}"#);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = incr("a", "incr=1").await;
    again.is_ok(r#"{"n":1}"#);
    assert_eq!((again.header("idempotency-replayed"), again.etag()), (Some("true"), "\"11\""));
    incr("b", "incr=1").await.is_ok(r#"{"n":2}"#);
    incr("a", "incr=2").await.is_error(422, "idempotency_mismatch", "another request");
    let other = server.ask_with("PUT", "/key/n", &["Idempotency-Key: a"], b"1").await;
    other.is_error(422, "idempotency_mismatch", "another request");
    // The short path is the same request.
    let short = server.ask_with("POST", "/key/n?incr=1", &["Idempotency-Key: a"], b"").await;
    short.is_ok(r#"{"n":1}"#);
    let refused = server.ask_with("PUT", "/key/n?cas=0", &["Idempotency-Key: c"], b"1").await;
    assert_eq!(refused.status, 412);
    let again = server.ask_with("PUT", "/key/n?cas=0", &["Idempotency-Key: c"], b"1").await;
    assert_eq!((again.status, &again.body), (412, &refused.body));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let long = "x".repeat(129);
    for bad in ["", "a b", "\u{e9}", long.as_str()] {
        let header = format!("Idempotency-Key: {bad}");
        let answer = server.ask_with("PUT", "/key/n", &[&header], b"1").await;
        answer.is_error(400, "bad_request", "Idempotency-Key");
    }
    let twice = server.ask_with("PUT", "/key/n", &["Idempotency-Key: a", "Idempotency-Key: a"], b"1").await;
    twice.is_error(400, "bad_request", "repeated");
    server.get("/key/n").await.is_ok(r#"{"n":2}"#);
}

#[tokio::test]
async fn a_put_without_a_body_is_no_empty_text() {
    let server = Server::start().await;
    let raw = async |more: &str| {
        server
            .raw(&format!("PUT /hraftd/key/k HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}\r\n", server.addr))
            .await
    };
    raw("").await.is_error(400, "bad_request", "no body");
    assert!(server.fake.calls().is_empty());
    assert_eq!(raw("Content-Length: 0\r\n").await.status, 201);
    assert_eq!(raw("Transfer-Encoding: chunked\r\n\r\n0\r\n").await.status, 200);
    server.get("/key/k").await.is_ok(r#"{"k":""}"#);
    server.ask("PUT", "/hraftd/key", "1").await.is_error(
        405,
        "method_not_allowed",
        "PUT /hraftd/key/{key} stores a value",
    );
    let other = server.ask("PATCH", "/hraftd/key", "1").await;
    assert!(!other.body.contains("stores a value"), "{other:?}");
}
