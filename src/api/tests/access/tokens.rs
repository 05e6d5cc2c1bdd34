//! Tokens: how they are shown, made and ended, and what ends with them.

use super::*;
use crate::command::Action;
use crate::secret::{Generated, Token};

#[tokio::test]
async fn basic_and_anonymous() {
    use base64::Engine as _;
    let closed = Closed::with(&["read:pub/"]).await;
    let token = closed.token("t", &["read:a"], None);
    let basic =
        |text: String| format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let asked = closed.ask("GET", "/hraftd/key/a", &[&basic(format!("x:{}", *token.text()))], "").await;
    asked.is_error(404, "not_found", "no key");
    closed.ask("GET", "/hraftd/key/a", &[&basic(token.text().to_string())], "").await.is_error(401, "unauthorized", "");
    closed.ask("GET", "/hraftd/key/pub/x", &[], "").await.is_error(404, "not_found", "no key");
    closed.ask("GET", "/hraftd/key/a", &[], "").await.is_error(403, "forbidden", "read:a");
    // A bad credential does not fall through to what all may.
    closed.ask("GET", "/hraftd/key/pub/x", &["Authorization: Bearer x"], "").await.is_error(401, "unauthorized", "");
    let who = closed.ask("GET", "/hraftd/auth/whoami", &[], "").await;
    who.is_ok(r#"{"ok":true,"name":"anonymous","grants":["read:pub/"],"means":"nothing"}"#);
    let who = closed.as_token(&token, "GET", "/hraftd/auth/whoami", "").await;
    who.is_ok(r#"{"ok":true,"name":"t","grants":["read:a"],"means":"token"}"#);
    let who = closed.as_token(&closed.root, "GET", "/hraftd/auth/whoami", "").await;
    who.is_ok(r#"{"ok":true,"name":"root","grants":["admin"],"means":"root token"}"#);
    closed.as_token(&closed.root, "DELETE", "/hraftd/auth/token/anonymous", "").await;
    closed.ask("GET", "/hraftd/key/pub/x", &[], "").await.is_error(401, "unauthorized", "");
}

fn token_in(answer: &Answer) -> Token {
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    Token::parse(json["token"].as_str().unwrap_or_else(|| panic!("{answer:?}"))).unwrap()
}

#[tokio::test]
async fn tokens_are_made_changed_rotated_and_revoked() {
    let closed = Closed::with(&[]).await;
    let root = |method: &'static str, target: &'static str, body: &'static str| {
        closed.as_token(&closed.root, method, target, body)
    };
    let made = root("PUT", "/hraftd/auth/token/web", r#"{"grants":["write:app/"],"ttl":"90d"}"#).await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")));
    let web = token_in(&made);
    let write = |token: Token| {
        let closed = &closed;
        async move { closed.as_token(&token, "PUT", "/hraftd/key/app/a", "1").await.status }
    };
    assert_eq!(write(web.clone()).await, 201);
    let changed = root("PUT", "/hraftd/auth/token/web", r#"{"grants":["write:app/","read:"]}"#).await;
    assert!(changed.status == 200 && !changed.body.contains("token\""), "{changed:?}");
    let shown = root("GET", "/hraftd/auth/token/web", "").await;
    assert!(
        shown.body.contains(r#""grants":["write:app/","read:"]"#) && shown.body.contains(r#""by":"root""#),
        "{shown:?}"
    );
    assert!(!shown.body.contains("expires") && !shown.body.contains("hash"), "{shown:?}");
    assert!(shown.body.contains(r#""created":"20"#) && shown.body.contains(r#""last_used":"20"#), "{shown:?}");
    let listed = root("GET", "/hraftd/auth/token", "").await;
    assert_eq!(listed.body, format!("[{}]", shown.body));
    let other = token_in(&root("PUT", "/hraftd/auth/token/web?rotate&grace=10m", "").await);
    assert_eq!((write(web.clone()).await, write(other.clone()).await), (200, 200), "the old one is good for the grace");
    let last = token_in(&root("PUT", "/hraftd/auth/token/web?rotate&grace=0s", "").await);
    assert_eq!((write(web).await, write(other).await, write(last.clone()).await), (401, 401, 200));
    assert_eq!(root("DELETE", "/hraftd/auth/token/web", "").await.status, 200);
    assert_eq!(write(last).await, 401);
    for (method, target, body, status) in [
        ("DELETE", "/hraftd/auth/token/web", "", 404),
        ("PUT", "/hraftd/auth/token/web?rotate", "", 404),
        ("GET", "/hraftd/auth/token/web", "", 404),
        ("PUT", "/hraftd/auth/token/root", r#"{"grants":[]}"#, 400),
        ("PUT", "/hraftd/auth/token/a%2Fb", r#"{"grants":[]}"#, 400),
        ("PUT", "/hraftd/auth/token/a", r#"{"grants":["all"]}"#, 400),
        ("PUT", "/hraftd/auth/token/a", r#"{"grants":"read:"}"#, 400),
        ("PUT", "/hraftd/auth/token/a", r#"{"grants":[],"ttl":"0s"}"#, 400),
        ("PUT", "/hraftd/auth/token/a", r#"{"grants":[],"ttl":"x"}"#, 400),
        ("PUT", "/hraftd/auth/token/a", r#"{"grants":[],"name":"b"}"#, 400),
        ("PUT", "/hraftd/auth/token/a", r#"{"grants":[],"certificate":"CN=x"}"#, 400),
        ("PUT", "/hraftd/auth/token/a", "", 400),
        ("PUT", "/hraftd/auth/token/a?rotate", "{}", 400),
        ("PUT", "/hraftd/auth/token/a?grace=1s", r#"{"grants":[]}"#, 400),
        ("DELETE", "/hraftd/auth", "", 400),
    ] {
        let answer = root(method, target, body).await;
        assert_eq!(answer.status, status, "{method} {target} {body}: {answer:?}");
    }
    let many = format!("{{\"grants\":[{}]}}", vec!["\"read:\""; 65].join(","));
    let many = closed.as_token(&closed.root, "PUT", "/hraftd/auth/token/a", &many).await;
    many.is_error(400, "bad_request", "65 grants");
    let keyed = [&*bearer(&closed.root), "Idempotency-Key: k"];
    let keyed = closed.ask("PUT", "/hraftd/auth/token/a", &keyed, r#"{"grants":[]}"#).await;
    keyed.is_error(400, "bad_request", "no Idempotency-Key");
}

#[tokio::test]
async fn while_it_is_off_nobody_is_asked_and_only_root_makes_tokens() {
    let root = Token::generate().unwrap();
    let settings = ApiSettings { root: RootTokens::new(vec![root.clone()]), ..settings() };
    let server = Server::with(Fake::default(), settings).await;
    assert_eq!(server.ask_with("PUT", "/hraftd/key/a", &["Authorization: Bearer x"], b"1").await.status, 201);
    let double = ["Authorization: a", "Authorization: b"];
    assert_eq!(server.ask_with("GET", "/hraftd/key/a", &double, b"").await.status, 200);
    assert!(server.fake.calls().iter().all(|call| !call.contains("settle")));
    for (method, target) in [
        ("GET", "/hraftd/auth/token"),
        ("PUT", "/hraftd/auth"),
        ("GET", "/hraftd/auth/whoami"),
        ("DELETE", "/hraftd/auth?yes"),
    ] {
        assert_eq!(server.ask(method, target, "").await.status, 401, "{method} {target}");
    }
    let by_root = |method: &'static str, target: &'static str, body: &'static [u8]| {
        let (header, server) = (bearer(&root), &server);
        async move { server.ask_with(method, target, &[&header], body).await }
    };
    assert_eq!(by_root("PUT", "/hraftd/auth", br#"{"anonymous":["status"]}"#).await.status, 200);
    assert_eq!((server.get("/hraftd/key/a").await.status, server.get("/raft/stats").await.status), (403, 200));
    assert_eq!(by_root("DELETE", "/hraftd/auth?yes", b"").await.status, 200);
    assert_eq!(server.get("/hraftd/key/a").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn before_it_is_known_whom_to_serve_only_root_is() {
    let root = Token::generate().unwrap();
    let settings = ApiSettings { root: RootTokens::new(vec![root.clone()]), ..settings() };
    let server = Server::with(Fake::default(), settings).await;
    server.fake.order(fake::Orders { shut: true, ..Default::default() });
    assert_eq!(server.get("/hraftd/raft/health").await.status, 200);
    let shut = server.get("/hraftd/key/a").await;
    shut.is_error(503, "not_ready", "does not know yet whom it may serve");
    assert_eq!((shut.header("x-hraftd-index"), shut.header("x-hraftd-served-by")), (None, None), "{shut:?}");
    server.get("/hraftd/raft/stats").await.is_error(503, "not_ready", "");
    assert_eq!(server.ask_with("PUT", "/hraftd/key/a", &[&bearer(&root)], b"1").await.status, 201);
    // Who waits is served as soon as it is known.
    let waits = server.get("/hraftd/key/a");
    let turn_on = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let on = Action::Authentication { on: true, anonymous: Some(grants(&["read:"])), first: true };
        server.fake.apply(&on.into());
    };
    let (answer, ()) = tokio::join!(waits, turn_on);
    assert_eq!(answer.status, 200);
}

/// A token just made elsewhere works: this node looks again, once, where it may be behind.
#[tokio::test]
async fn an_unknown_token_is_looked_for_once_more() {
    let closed = Closed::with(&[]).await;
    let token = Token::generate().unwrap();
    closed.server.fake.calls();
    closed.as_token(&token, "GET", "/hraftd/key/a", "").await.is_error(401, "unauthorized", "");
    let settles = |calls: Vec<String>| calls.iter().filter(|call| call.starts_with("settle Linearizable")).count();
    assert_eq!(settles(closed.server.fake.calls()), 1);
    closed.as_token(&token, "GET", "/hraftd/key/a?level=none", "").await.is_error(401, "unauthorized", "");
    closed.ask("GET", "/hraftd/key/a", &["Authorization: Bearer x"], "").await.is_error(401, "unauthorized", "");
    assert_eq!(settles(closed.server.fake.calls()), 0);
    closed.server.fake.order(fake::Orders { fail: Some(NodeError::NoLeader("none".to_owned())), ..Default::default() });
    closed.as_token(&token, "GET", "/hraftd/key/a", "").await.is_error(503, "no_leader", "none");
}

/// What lasts ends soon after the token does, and tells nothing of what came after.
#[tokio::test]
async fn watches_and_waits_end_with_their_token() {
    let closed = Closed::with(&[]).await;
    let fake = &closed.server.fake;
    tokio::spawn(fake.watching());
    for end in ["revoke", "change", "expire"] {
        let token = closed.token("w", &["read:a", "lock:", "write:"], Some(500));
        let header = bearer(&token);
        closed.as_token(&closed.root, "POST", "/hraftd/lock/l?ttl=60s", "").await;
        let mut watch = closed.server.connect().await;
        let head =
            format!("GET /hraftd/watch?prefix=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\r\n");
        watch.write_all(head.as_bytes()).await.unwrap();
        let mut first = vec![0; 4096];
        let count = timeout(SOON, watch.read(&mut first)).await.unwrap().unwrap();
        assert!(first[..count].starts_with(b"HTTP/1.1 200"), "{end}");
        let poll = closed.as_token(&token, "GET", "/hraftd/key/ab?wait=60s", "");
        let wait = closed.as_token(&token, "POST", "/hraftd/lock/l?ttl=9s&wait=60s", "");
        let ending = async {
            let calls = || fake.calls().join(" ");
            let mut seen = String::new();
            while !(seen.contains("get ab") && seen.contains("acquire lock l")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                seen.push_str(&calls());
            }
            match end {
                "revoke" => drop(fake.apply(&by_root(0, Action::DeleteToken { name: "w".into() }))),
                "expire" => fake.tick(600),
                _ => {
                    let grants = grants(&["status"]);
                    let put = Action::PutToken {
                        name: "w".into(),
                        id: 1,
                        hash: [0; 32],
                        grants,
                        ttl_ms: None,
                        certificate: None,
                    };
                    fake.apply(&by_root(0, put));
                }
            }
            // It must not be told any more.
            closed.as_token(&closed.root, "PUT", "/hraftd/key/a-secret", "1").await;
            Instant::now()
        };
        let (poll, wait, ended) = tokio::join!(poll, wait, ending);
        let code = if end == "change" { 403 } else { 401 };
        assert_eq!((poll.status, wait.status), (code, code), "{end}: {poll:?} {wait:?}");
        let rest = answer_of_stream(&mut watch).await;
        assert!(ended.elapsed() < Duration::from_secs(1), "{end}: {:?}", ended.elapsed());
        assert!(rest.contains("event: unauthorized") && !rest.contains("a-secret"), "{end}: {rest}");
        let holder = fake.lock_view("l").unwrap();
        closed.as_token(&closed.root, "DELETE", &format!("/hraftd/lock/l?token={}", holder.token), "").await;
        closed.as_token(&closed.root, "DELETE", "/hraftd/auth/token/w", "").await;
        closed.as_token(&closed.root, "DELETE", "/hraftd/key/a-secret", "").await;
    }
}

pub(super) async fn answer_of_stream(client: &mut TcpStream) -> String {
    let mut all = Vec::new();
    timeout(SOON, client.read_to_end(&mut all)).await.unwrap().unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_certificate_stands_for_a_token() {
    let closed = Closed::with(&[]).await;
    let body = r#"{"grants":["read:a"],"certificate":"URI:spiffe://x"}"#;
    closed.as_token(&closed.root, "PUT", "/hraftd/auth/token/c", body).await;
    let again = r#"{"grants":[],"certificate":"URI:spiffe://x"}"#;
    closed.as_token(&closed.root, "PUT", "/hraftd/auth/token/d", again).await.is_error(409, "conflict", "certificate");
    let api = Api::new(closed.server.fake.clone(), settings());
    let ask = async |names: &[&str]| {
        let mut request =
            Request::builder().uri("/hraftd/key/a").header("host", "localhost").body(axum::body::Body::empty());
        let request = request.as_mut().unwrap();
        let names = names.iter().map(ToString::to_string).collect();
        // As the client port has it.
        let certificate =
            crate::tls::ClientCertificate { names, not_after: std::time::SystemTime::now(), over: Default::default() };
        request.extensions_mut().insert(std::sync::Arc::new(certificate));
        api.answer(std::mem::take(request)).await.status().as_u16()
    };
    assert_eq!((ask(&["URI:spiffe://x"]).await, ask(&["DNS:b", "URI:spiffe://x"]).await), (404, 404));
    assert_eq!((ask(&["URI:spiffe://y"]).await, ask(&["DNS:spiffe://x"]).await, ask(&[]).await), (401, 401, 401));
}

#[tokio::test]
async fn who_made_a_change_is_told() {
    let closed = Closed::with(&[]).await;
    let token = closed.token("web", &["write:a"], None);
    let index = closed.server.fake.lock_view("none").map_or(0, |lock| lock.token);
    assert_eq!(index, 0);
    assert_eq!(closed.as_token(&token, "PUT", "/hraftd/key/a", "1").await.status, 201);
    let mut watch = closed.server.connect().await;
    let header = bearer(&closed.root);
    let head = format!(
        "GET /hraftd/watch?key=a&after=11 HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n{header}\r\n\r\n"
    );
    watch.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("\"set\"") {
        let mut read = vec![0; 4096];
        let count = timeout(SOON, watch.read(&mut read)).await.unwrap().unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&read[..count]));
    }
    assert!(seen.contains(r#""by":"web"}"#), "{seen}");
}

#[tokio::test]
async fn authorising_takes_no_memory() {
    use crate::api::access::{self, Caller, Head};
    use crate::command::Need;
    let closed = Closed::with(&[]).await;
    let mut grants: Vec<String> = (0..63).map(|number| format!("read:other{number}/")).collect();
    grants.push("read:app/".to_owned());
    let token = closed.token("web", &grants.iter().map(String::as_str).collect::<Vec<_>>(), None);
    let app = App::new(closed.server.fake.clone(), ApiSettings { root: closed.roots.clone(), ..settings() });
    let bearer = bearer(&token);
    let (_, value) = bearer.split_once(": ").unwrap();
    let request =
        axum::http::Request::builder().uri("/hraftd/key/app/x").header("authorization", value).body(()).unwrap();
    let mut head = Head::from(request.into_parts().0);
    // That a token is used is noted once.
    access::authenticate(&app, &mut head).await.unwrap();
    let cost = allocation_counter::measure(|| {
        assert!(matches!(access::authenticate(&app, &mut head).now_or_never(), Some(Ok(()))));
        Caller::of(&head).demand(Need::Read("app/x")).unwrap();
    });
    assert_eq!(cost.count_total, 0, "{cost:?}");
}
