//! Probes, numbers, times and findings.

use super::fake::{ID, OTHER, Orders};
use super::*;
use std::time::SystemTime;

use crate::formats::OLDEST;
use crate::node::{EntryView, Finding, NodeError, Patient, Server as Member, Severity, State, Stats, Vitals};
use crate::node_id::PublicId;

#[tokio::test]
async fn probes() {
    let server = Server::start().await;
    for path in ["/livez", "/healthz", "/readyz"] {
        server.get(path).await.is_ok(r#"{"ok":true,"msg":"OK"}"#);
        let head = server.ask("HEAD", path, "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        server.ask("POST", path, "").await.is_error(405, "method_not_allowed", "GET, HEAD");
    }
    let verbose = server.get("/readyz?verbose").await;
    assert_eq!((verbose.status, verbose.body.as_str()), (200, "[+]loaded ok\n[+]leader ok\n"));
    server.fake.order(Orders { fail: Some(NodeError::NoLeader("none\nis known".to_owned())), ..Orders::default() });
    server.get("/livez").await.is_ok(r#"{"ok":true,"msg":"OK"}"#);
    server.get("/readyz").await.is_error(503, "no_leader", "none");
    let verbose = server.get("/readyz?verbose").await;
    assert_eq!((verbose.status, verbose.body.as_str()), (503, "[+]loaded ok\n[-]leader none is known\n"));
    assert_eq!(verbose.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn numbers_are_of_what_was_asked() {
    let server = Server::start().await;
    server.ask("PUT", "/key/a", "1").await;
    server.ask("PUT", "/hraftd/key/a", "2").await;
    server.ask("BREW", "/tea", "").await;
    assert_eq!(server.ask("POST", "/key", &"x".repeat(5000)).await.status, 413);
    let page = server.get("/metrics").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    for line in [
        r#"hraftd_http_requests_total{route="/hraftd/key/{key}",method="PUT",code="201"} 1"#,
        r#"hraftd_http_requests_total{route="/hraftd/key/{key}",method="PUT",code="200"} 1"#,
        r#"hraftd_http_requests_total{route="other",method="other",code="404"} 1"#,
        r#"hraftd_http_refused_total{reason="too_large"} 1"#,
        r#"hraftd_http_request_seconds_count{route="/hraftd/key/{key}"} 2"#,
        "hraftd_http_in_flight 1",
    ] {
        assert!(page.body.lines().any(|have| have == line), "{line} is not in\n{}", page.body);
    }
    server.get("/metrics?x").await.is_error(400, "bad_request", "takes none");
}

#[tokio::test]
async fn times_are_told_where_they_are_asked_for() {
    let server = Server::start().await;
    assert_eq!(server.ask("PUT", "/key/a", "1").await.header("server-timing"), None);
    let put = server.ask("PUT", "/key/a?timing", "1").await;
    let timing = put.header("server-timing").unwrap().to_owned();
    for part in ["parse;dur=", "flush;dur=0.000", "quorum;dur=0.000", "total;dur="] {
        assert!(timing.contains(part), "{timing}");
    }
    let read = server.get("/key/a?timing").await;
    assert!(read.header("server-timing").unwrap().starts_with("quorum;dur="), "{read:?}");
    let txn = server.ask("POST", "/hraftd/txn?timing", r#"{"then":[{"get":"a"}]}"#).await;
    assert!(txn.header("server-timing").is_some(), "{txn:?}");
    server.get("/key/a?timing=often").await.is_error(400, "bad_request", "timing");
    server.get("/key/a?timing&timing").await.is_error(400, "bad_request", "timing");
}

#[tokio::test]
async fn entries_and_findings() {
    let server = Server::start().await;
    let entry = format!(
        r#"{{"index":7,"term":3,"node":"{ID}","leader":"{ID}","passed_on_by":null,"proposed":"2000-02-29T00:00:00.123Z",{}"members":[{{"id":"{OTHER}","sent_ms":0.1,"flushed_ms":1.5}}]}}"#,
        r#""flushed_ms":0.9,"committed_ms":1.6,"applied_ms":null,"#
    );
    server.get("/hraftd/raft/entry/7").await.is_ok(&entry);
    server.get("/raft/entry/7").await.is_ok(&entry);
    server.get("/raft/entry/8").await.is_error(404, "not_found", "entry 8");
    for bad in ["x", "-1", "%20", "99999999999999999999"] {
        server.get(&format!("/raft/entry/{bad}")).await.is_error(400, "bad_request", "is no index");
    }
    let finding = |severity: &str| {
        format!(
            r#"{{"severity":"{severity}","what":"it is slow","evidence":{{"flush_p99_ms":12.5}},"node":"{OTHER}","do":"a faster disk"}}"#
        )
    };
    server.get("/raft/doctor").await.is_ok(&format!(r#"{{"ok":true,"findings":[{}]}}"#, finding("info")));
    server.fake.order(Orders { fail: Some(NodeError::NotReady(String::new())), ..Orders::default() });
    server.get("/raft/doctor").await.is_ok(&format!(r#"{{"ok":false,"findings":[{}]}}"#, finding("warning")));
    server.get("/raft/events?evil").await.is_error(400, "bad_request", "evil");
    server.get("/raft/events?all&history").await.is_error(400, "bad_request", "no position");
    server.get("/raft/events?all").await.is_error(503, "not_ready", "a map");
}

#[tokio::test]
async fn members_say_how_they_are() {
    let server = Server::start().await;
    let answer = server.get("/hraftd/raft/members").await;
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &json["node"]), (200, &ID.into()));
    let [leader, silent] = json["members"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!(
        (&leader["state"], &leader["suffrage"], &leader["answer_ms"]),
        (&"Leader".into(), &"Voter".into(), &1.5.into())
    );
    let vitals = &leader["vitals"];
    assert_eq!(
        (&vitals["voted_for"], &vitals["flush_p99_ms"], &vitals["flushes"]),
        (&ID.into(), &0.8.into(), &9.into())
    );
    assert_eq!(
        (&vitals["last_log_index"], &vitals["commit_index"], &vitals["applied_index"]),
        (&9.into(), &8.into(), &7.into())
    );
    assert_eq!(vitals["unreached"], serde_json::json!([OTHER]));
    assert_eq!(
        (&silent["id"], &silent["state"], &silent["why"]),
        (&OTHER.into(), &"Lost".into(), &"it is away".into())
    );
    assert!(silent.get("vitals").is_none());
    assert_eq!(json["terms"], serde_json::json!([{"index": 1, "term": 1}, {"index": 5, "term": 3}]));
}

#[tokio::test]
async fn the_page_is_for_browsers_and_public() {
    let closed = super::access::Closed::with(&[]).await;
    let server = &closed.server;
    let html = ["Accept: text/html,application/xhtml+xml,*/*;q=0.8"];
    let to_page = server.ask_with("GET", "/", &html, b"").await;
    assert_eq!(
        (to_page.status, to_page.header("location"), to_page.header("vary")),
        (303, Some("ui/"), Some("accept"))
    );
    let to_others = server.get("/").await;
    assert_eq!((to_others.status, to_others.header("vary")), (200, Some("accept")));
    let short = server.get("/ui").await;
    assert_eq!((short.status, short.header("location")), (303, Some("ui/")));
    for (path, kind) in [("/ui/", "text/html"), ("/ui/app.js", "text/javascript"), ("/ui/style.css", "text/css")] {
        let file = server.get(path).await;
        assert_eq!((file.status, file.header("x-content-type-options")), (200, Some("nosniff")), "{path}");
        assert!(file.header("content-type").unwrap().starts_with(kind), "{path}");
        assert!(file.header("content-security-policy").unwrap().starts_with("default-src 'self';"), "{path}");
        let tag = format!("If-None-Match: {}", file.header("etag").unwrap());
        let same = server.ask_with("GET", path, &[&tag], b"").await;
        assert_eq!((same.status, same.body.as_str()), (304, ""), "{path}");
    }
    for path in ["/ui/nothing.js", "/ui/../openapi.json", "/ui/%2e%2e/style.css"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let linked = ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
    assert_eq!(server.ask_with("GET", "/ui/", &linked, b"").await.status, 200);
    assert_eq!(server.ask_with("GET", "/ui/app.js", &["Sec-Fetch-Site: cross-site"], b"").await.status, 403);
    assert_eq!(server.ask_with("GET", "/hraftd/raft/members", &linked, b"").await.status, 403);
}

/// Two members, of which one does not answer.
pub(super) fn patients() -> Vec<Patient> {
    let vitals = Vitals {
        version: "0.2.0".into(),
        state: State::Leader,
        term: 3,
        last_log_index: 9,
        applied_index: 7,
        leader: Some(1),
        reaches: vec![(2, false)],
        flush_p99: Some((800, 9)),
        free_bytes: None,
        snapshot_bytes: 11,
        max_files: None,
        wall_ms: 12,
        clock_rates: Vec::new(),
        flags: Vec::new(),
        timers_ms: (100, 400),
        mark: None,
        leader_changes: 1,
        compacted: 0,
        hindrances: Vec::new(),
        voted_for: Some(1),
        commit_index: 8,
        contact_ms: Some(0),
        secrets: Vec::new(),
        security: Vec::new(),
        certificate_ends: [0, 0],
    };
    let patient = |raft_id, id: &str, vitals| Patient {
        raft_id,
        id: id.to_owned(),
        voter: true,
        vitals,
        sent_ms: 0,
        round_trip: Duration::from_micros(1_500),
    };
    vec![patient(1, ID, Ok(Some(vitals))), patient(2, OTHER, Err("it is away".to_owned()))]
}

/// Somebody's numbers.
pub(super) fn stats(id: &PublicId) -> Stats {
    Stats {
        applied_index: 7,
        commit_index: 7,
        fsm_pending: 0,
        last_contact: Some(Duration::from_nanos(3_685_538)),
        last_log_index: 7,
        last_log_term: 8,
        last_snapshot_index: 0,
        last_snapshot_term: 0,
        latest_configuration: vec![Member { id: id.clone(), voter: true }],
        latest_configuration_index: 0,
        num_peers: 2,
        state: State::Follower,
        term: 8,
        format: Some(OLDEST),
    }
}

/// An entry that was passed on.
pub(super) fn entry() -> EntryView {
    let members = vec![(OTHER.to_owned(), Some(100), Some(1_500))];
    let proposed = SystemTime::UNIX_EPOCH + Duration::from_millis(951_782_400_123);
    let (leader, from) = (Some(ID.to_owned()), None);
    let (flushed_us, committed_us, applied_us) = (Some(900), Some(1_600), None);
    EntryView { term: Some(3), leader, from, proposed, flushed_us, committed_us, applied_us, members }
}

/// Something that is wrong.
pub(super) fn finding(severity: Severity) -> Finding {
    Finding {
        severity,
        what: "it is slow".to_owned(),
        evidence: vec![("flush_p99_ms", 12.5)],
        node: OTHER.to_owned(),
        remedy: "a faster disk".to_owned(),
    }
}
