//! `GET /hraftd/watch` as API-KV.md has it.

use super::fake::{ID, Orders};
use super::*;
use crate::command::{Action, Command};
use crate::kv::Ticket;
use crate::node::NodeError;

/// An open stream; asked for with HTTP/1.0, so that no chunks are in it.
struct Watch {
    head: String,
    stream: TcpStream,
    text: String,
}

impl Watch {
    async fn open(server: &Server, query: &str, headers: &str) -> Self {
        let mut stream = server.connect().await;
        let request = format!("GET /hraftd/watch?{query} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut watch = Self { head: String::new(), stream, text: String::new() };
        watch.head = watch.until("\r\n\r\n").await.to_ascii_lowercase();
        watch
    }

    /// What has come with this at its end, without what was read before.
    async fn until(&mut self, end: &str) -> String {
        let mut space = [0; 4096];
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let read = timeout(SOON, self.stream.read(&mut space)).await;
            let read = read.unwrap_or_else(|_| panic!("{end:?} did not come, but {:?}", self.text)).unwrap();
            assert!(read > 0, "the stream ended with {:?}", self.text);
            self.text.push_str(std::str::from_utf8(&space[..read]).unwrap());
        }
    }

    /// Asserts what comes next.
    #[track_caller]
    fn gives(&mut self, text: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            while self.text.len() < text.len() {
                let mut space = [0; 4096];
                let read = timeout(SOON, self.stream.read(&mut space)).await;
                let read = read.unwrap_or_else(|_| panic!("{at}: only {:?} came", self.text)).unwrap();
                assert!(read > 0, "{at}: the stream ended with {:?}", self.text);
                self.text.push_str(std::str::from_utf8(&space[..read]).unwrap());
            }
            let rest = self.text.split_off(text.len());
            assert_eq!(std::mem::replace(&mut self.text, rest), text, "{at}");
        }
    }

    async fn ends(mut self) -> String {
        timeout(SOON, self.stream.read_to_string(&mut self.text)).await.unwrap().unwrap();
        self.text
    }
}

impl Server {
    async fn set(&self, body: &str) {
        assert_eq!(self.ask("POST", "/key", body).await.status, 200);
    }

    async fn act(&self, action: Action) {
        let deadline = tokio::time::Instant::now() + SOON;
        self.fake.write(Command::from(action), None, deadline).await.unwrap();
    }
}

const LINES: &str = "Accept: application/x-ndjson\r\n";

#[tokio::test]
async fn changes_as_server_sent_events() {
    let server = Server::start().await;
    server.set(r#"{"app/a":0}"#).await;
    let mut watch = Watch::open(&server, "prefix=app/", "").await;
    for header in [
        "http/1.0 200 ok",
        "content-type: text/event-stream\r\n",
        "cache-control: no-store\r\n",
        "x-accel-buffering: no\r\n",
        "x-hraftd-index: 11\r\n",
        &format!("x-hraftd-served-by: {ID}\r\n"),
    ] {
        assert!(watch.head.contains(header), "{header} in {}", watch.head);
    }
    // Where it begins, so that one that is cut off before the first event can go on.
    watch.gives("id: 11\n\n").await;
    server.set("{\"app/a\":{\"x\" :\r\n [1, \"\\n y\"]},\"other\":1,\"app/\\\"b\":1.00}").await;
    let gives = "event: set\nid: 12.1\ndata: {\"key\":\"app/a\",\"value\":{\"x\":[1,\"\\n y\"]},\"index\":12}\n\n\
                 event: set\nid: 12.3\ndata: {\"key\":\"app/\\\"b\",\"value\":1.00,\"index\":12}\n\n";
    watch.gives(gives).await;
    server.ask("DELETE", "/key/app/a", "").await;
    server.ask("DELETE", "/key/app/a", "").await;
    watch.gives("event: delete\nid: 13.1\ndata: {\"key\":\"app/a\",\"index\":13}\n\n").await;
    let value = crate::command::Value { data: (&b"\xff\0"[..]).into(), is_bytes: true, content_type: None };
    server.act(Action::Put { key: "app/c".into(), value, ttl_ms: Some(0), conditions: Vec::new() }).await;
    server.act(Action::Tick { most: 10 }).await;
    let gives = "event: set\nid: 15.1\ndata: {\"key\":\"app/c\",\"value\":{\"base64\":\"/wA=\"},\"index\":15}\n\n\
                 event: expire\nid: 16.1\ndata: {\"key\":\"app/c\",\"index\":16}\n\n";
    watch.gives(gives).await;
    server.fake.watches().unwrap().close();
    assert_eq!(watch.ends().await, "");
    let refused = server.get("/hraftd/watch?prefix=").await;
    refused.is_error(503, "not_ready", "stopping");
}

#[tokio::test]
async fn changes_as_lines() {
    let server = Server::start().await;
    let mut watch = Watch::open(&server, "key=k", LINES).await;
    assert!(watch.head.contains("content-type: application/x-ndjson\r\n"), "{}", watch.head);
    watch.gives("{\"event\":\"position\",\"id\":\"10\"}\n").await;
    server.set(r#"{"kk":0,"k": [1, 2]}"#).await;
    watch.gives("{\"event\":\"set\",\"id\":\"11.2\",\"key\":\"k\",\"value\":[1,2],\"index\":11}\n").await;
    server.ask("DELETE", "/key/k", "").await;
    watch.gives("{\"event\":\"delete\",\"id\":\"12.1\",\"key\":\"k\",\"index\":12}\n").await;
    for (accept, lines) in [
        ("application/json, Application/X-NDJSON;q=0.9", true),
        ("text/event-stream, application/x-ndjson", false),
        ("*/*", false),
    ] {
        let watch = Watch::open(&server, "prefix=", &format!("Accept: {accept}\r\n")).await;
        assert_eq!(watch.head.contains("application/x-ndjson"), lines, "{accept}");
    }
}

#[tokio::test]
async fn locks() {
    let server = Server::start().await;
    let acquire = |body: Option<&'static str>, wait_ms| Action::Acquire {
        name: "l".into(),
        ttl_ms: 0,
        body: body.map(|body| body.as_bytes().into()),
        wait_ms,
    };
    let mut watch = Watch::open(&server, "lock=l&initial", "").await;
    watch.gives("event: synced\nid: 10\ndata: {\"index\":10}\n\n").await;
    server.act(acquire(Some("{ \"who\": \"me\" }"), 0)).await;
    server.act(acquire(None, 1000)).await;
    watch
        .gives(
            "event: acquired\nid: 11.1\ndata: {\"lock\":\"l\",\"token\":11,\"index\":11,\"body\":{\"who\":\"me\"}}\n\n",
        )
        .await;
    let mut lines = Watch::open(&server, "lock=l&initial", LINES).await;
    let holder = r#"{"event":"acquired","lock":"l","token":11,"index":11,"body":{"who":"me"}}"#;
    lines.gives(&format!("{holder}\n{{\"event\":\"synced\",\"id\":\"12\",\"index\":12}}\n")).await;
    server.act(Action::Release { name: "l".into(), token: 11 }).await;
    let passed_on = "event: released\nid: 13.1\ndata: {\"lock\":\"l\",\"token\":11,\"index\":13}\n\n\
                     event: acquired\nid: 13.2\ndata: {\"lock\":\"l\",\"token\":13,\"index\":13}\n\n";
    watch.gives(passed_on).await;
    assert_eq!(
        server.fake.await_ticket(&"l".into(), 12, tokio::time::Instant::now(), Duration::ZERO).await.unwrap(),
        Ticket::Holds { token: 13, ttl_ms: 0 }
    );
    server.act(Action::Tick { most: 10 }).await;
    watch.gives("event: expired\nid: 14.1\ndata: {\"lock\":\"l\",\"token\":13,\"index\":14}\n\n").await;
    let seen = lines.until("\"index\":14}\n").await;
    assert_eq!(seen.lines().last().unwrap(), r#"{"event":"expired","id":"14.1","lock":"l","token":13,"index":14}"#);
}

#[tokio::test]
async fn the_present_state_first() {
    let server = Server::start().await;
    let many: Vec<String> = (0..300).map(|n| format!("\"p{n:03}\": {n}")).collect();
    server.with_limits(|| format!("{{{}, \"q\":1}}", many.join(","))).await;
    let mut watch = Watch::open(&server, "prefix=p&initial&level=none", LINES).await;
    assert!(watch.head.contains("x-hraftd-index: 11\r\n") && watch.head.contains("x-hraftd-level: none\r\n"));
    server.set(r#"{"p000":"new"}"#).await;
    let first = watch.until("\"synced\",\"id\":\"11\",\"index\":11}\n").await;
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines.len(), 301);
    for (n, line) in lines[..300].iter().enumerate() {
        assert_eq!(*line, format!(r#"{{"event":"set","key":"p{n:03}","value":{n},"index":11}}"#));
    }
    watch.gives("{\"event\":\"set\",\"id\":\"12.1\",\"key\":\"p000\",\"value\":\"new\",\"index\":12}\n").await;
    // One key, there or not.
    let mut watch = Watch::open(&server, "key=q&initial=true", "").await;
    watch.gives("event: set\ndata: {\"key\":\"q\",\"value\":1,\"index\":11}\n\nevent: synced\nid: 12\n").await;
    let mut watch = Watch::open(&server, "key=none&initial", "").await;
    watch.gives("event: synced\nid: 12\ndata: {\"index\":12}\n\n").await;
}

impl Server {
    /// A write as long as it needs to be: the API's own limits are small here.
    async fn with_limits(&self, body: impl FnOnce() -> String) {
        let body = body();
        let pairs = crate::api::request::json_body::parse(&body.into(), 1 << 20).unwrap();
        self.act(Action::Set { pairs, ttl_ms: None, conditions: Vec::new() }).await;
    }
}

/// Values beyond what is copied, in the midst of others.
#[tokio::test]
async fn large_values() {
    let server = Server::start().await;
    let mut watch = Watch::open(&server, "prefix=", LINES).await;
    let long = "x".repeat(100_000);
    server.with_limits(|| format!(r#"{{"a":1,"b":"{long}","c": [ "{long}", 2 ],"d":4}}"#)).await;
    let text = watch.until("\"key\":\"d\",\"value\":4,\"index\":11}\n").await;
    let wanted = format!(
        "{{\"event\":\"position\",\"id\":\"10\"}}\n\
         {{\"event\":\"set\",\"id\":\"11.1\",\"key\":\"a\",\"value\":1,\"index\":11}}\n\
         {{\"event\":\"set\",\"id\":\"11.2\",\"key\":\"b\",\"value\":\"{long}\",\"index\":11}}\n\
         {{\"event\":\"set\",\"id\":\"11.3\",\"key\":\"c\",\"value\":[\"{long}\",2],\"index\":11}}\n\
         {{\"event\":\"set\",\"id\":\"11.4\",\"key\":\"d\",\"value\":4,\"index\":11}}\n"
    );
    assert!(text == wanted, "{} and {} bytes", text.len(), wanted.len());
}

#[tokio::test]
async fn going_on_from_a_position() {
    let server = Server::start().await;
    for n in 11..=13 {
        server.set(&format!(r#"{{"a":{n},"b":{n}}}"#)).await;
    }
    server.fake.calls();
    let event =
        |id: &str, key: &str, index: u64| format!("event: set\nid: {id}\ndata: {{\"key\":\"{key}\",\"value\":{index},");
    for (query, header, first) in [
        ("prefix=&after=12", "", event("13.1", "a", 13)),
        ("prefix=&after=12.1", "", event("12.2", "b", 12)),
        ("prefix=&after=0", "Last-Event-ID: 12.2\r\n", event("13.1", "a", 13)),
        ("key=b&initial", "Last-Event-ID: 12.1\r\n", event("12.2", "b", 12)),
        ("key=b&after=12.2&level=linearizable", "Last-Event-ID: \r\n", event("13.2", "b", 13)),
    ] {
        let query = query.replace("after=0", "after=10");
        let mut watch = Watch::open(&server, &query, header).await;
        watch.until("\n\n").await;
        watch.gives(&first).await;
        // Whoever leads: the position says all.
        assert!(server.fake.calls()[0].starts_with("settle None"), "{query}");
    }
    let old = server.get("/hraftd/watch?prefix=&after=9").await;
    old.is_error(410, "compacted", "after 10");
    assert_eq!(old.header("x-hraftd-index"), Some("13"));
    // What has gone by without an event for it is known to be so.
    let mut watch = Watch::open(&server, "key=none&after=10", "").await;
    watch.gives("id: 10\n\n").await;
}

/// Issue 18, D1: 410 makes an `EventSource` give up for good, and a page cannot read the status.
#[tokio::test]
async fn an_event_source_past_history_begins_anew() {
    const EVENT_SOURCE: &str = "Accept: text/event-stream\r\nLast-Event-ID: 9.1\r\n";
    let server = Server::start().await;
    server.set(r#"{"a":1}"#).await;
    let mut anew = Watch::open(&server, "prefix=&initial", EVENT_SOURCE).await;
    assert!(anew.head.starts_with("http/1.0 200"), "{}", anew.head);
    let told = anew.until("\n\n").await;
    assert!(told.starts_with("event: compacted\ndata: {\"oldest\":\"10\","), "{told}");
    anew.gives("event: set\ndata: {\"key\":\"a\",\"value\":1,\"index\":11}\n\n").await;
    anew.gives("event: synced\nid: 11\ndata: {\"index\":11}\n\n").await;
    let mut on = Watch::open(&server, "prefix=", EVENT_SOURCE).await;
    assert!(on.until("\n\n").await.starts_with("event: compacted\n"));
    on.gives("id: 11\n\n").await;
    server.set(r#"{"b":2}"#).await;
    for watch in [&mut anew, &mut on] {
        watch.gives("event: set\nid: 12.1\n").await;
    }
    // curl and readers of lines see the status.
    for accept in ["*/*", "application/x-ndjson"] {
        let headers = [format!("Accept: {accept}"), "Last-Event-ID: 9.1".to_owned()];
        let headers = headers.each_ref().map(String::as_str);
        let refused = server.ask_with("GET", "/hraftd/watch?prefix=&initial", &headers, b"").await;
        refused.is_error(410, "compacted", "after 10");
    }
}

#[tokio::test]
async fn a_position_from_the_future() {
    let server = Server::start().await;
    server.get("/hraftd/watch?prefix=&after=12.1&timeout=10ms").await.is_error(504, "timeout", "12");
    let opens = tokio::spawn({
        let server = Server { addr: server.addr, fake: server.fake.clone() };
        async move { Watch::open(&server, "prefix=&after=12.1", "").await }
    });
    server.set(r#"{"a":1}"#).await;
    server.set(r#"{"a":1,"b":2}"#).await;
    let mut watch = timeout(SOON, opens).await.unwrap().unwrap();
    watch.gives("id: 12.1\n\nevent: set\nid: 12.2\n").await;
}

/// On an open stream: the last word.
#[tokio::test]
async fn history_that_goes_on_without_the_watcher() {
    let server = Server::start().await;
    let mut watch = Watch::open(&server, "prefix=", "").await;
    watch.gives("id: 10\n\n").await;
    let mut lines = Watch::open(&server, "prefix=", LINES).await;
    lines.until("\n").await;
    server.fake.watches().unwrap().reset(20);
    let last = watch.ends().await;
    let data = last.strip_prefix("event: compacted\ndata: ").unwrap_or_else(|| panic!("{last}"));
    let data: serde_json::Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
    assert_eq!(data["oldest"], "20");
    let last: serde_json::Value = serde_json::from_str(&lines.ends().await).unwrap();
    assert_eq!((&last["event"], &last["oldest"]), (&"compacted".into(), &"20".into()), "{last}");
}

#[tokio::test]
async fn what_makes_no_sense() {
    let server = Server::start().await;
    let long = format!("prefix={}", "k".repeat(4097));
    let cases = [
        ("", "prefix=, key= or lock="),
        ("prefix", "prefix="),
        ("key=", "key"),
        ("lock", "lock"),
        ("prefix=&key=a", "exclude"),
        ("key=a&lock=a", "exclude"),
        ("key=a&key=b", "repeated"),
        ("prefix=&initial=no", "initial"),
        ("prefix=&initial&after=10", "exclude"),
        ("prefix=&since=10", "since"),
        ("prefix=&after=", "after"),
        ("prefix=&after=10.0", "10.0"),
        ("prefix=&after=1e1", "1e1"),
        ("prefix=&level=all", "all"),
        ("prefix=&freshness=1s", "level=linearizable"),
        ("prefix=&timeout=2m", "at most 1m"),
        (&long, "4096"),
    ];
    for (query, part) in cases {
        server.get(&format!("/hraftd/watch?{query}")).await.is_error(400, "bad_request", part);
    }
    for header in ["Last-Event-ID: x", "Last-Event-ID: 1\r\nLast-Event-ID: 2", "Last-Event-ID: 17.1 "] {
        let request = format!("GET /hraftd/watch?prefix=&after=10&timeout=10ms HTTP/1.0\r\n{header}\r\n\r\n");
        let answer = server.raw(&request).await;
        // White space around a header's value is not part of it.
        if header.ends_with(' ') {
            answer.is_error(504, "timeout", "17");
        } else {
            answer.is_error(400, "bad_request", "Last-Event-ID");
        }
    }
    for method in ["HEAD", "POST", "DELETE"] {
        let answer = server.ask(method, "/hraftd/watch?prefix=", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("get")), "{method}");
    }
    assert_eq!(server.get("/watch?prefix=").await.status, 404);
    let foreign = "GET /hraftd/watch?prefix= HTTP/1.0\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n";
    server.raw(foreign).await.is_error(403, "forbidden", "evil.example");
    server.fake.order(Orders { fail: Some(NodeError::Removed("gone".to_owned())), ..Orders::default() });
    for query in ["prefix=", "prefix=&initial", "prefix=&after=10"] {
        server.get(&format!("/hraftd/watch?{query}")).await.is_error(503, "removed", "gone");
    }
}

#[tokio::test]
async fn the_level_that_was_asked_for() {
    let server = Server::start().await;
    for (query, call) in [
        ("prefix=", "settle Linearizable None 0"),
        ("prefix=&initial&level=weak&min_index=7", "settle Weak None 7"),
        ("prefix=&level=none&freshness=1s", "settle None Some(1s) 0"),
        ("prefix=&after=10.3&min_index=3", "settle None None 10"),
    ] {
        Watch::open(&server, query, "").await;
        assert_eq!(server.fake.calls(), [call]);
    }
}
