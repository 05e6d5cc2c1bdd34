//! Who may do what: every route with every grant, and with every wrong way to ask.

use super::*;
use crate::api::methods::{Needs, ROUTES};
use crate::command::{Action, Command, Grant, Grants, Principal, Reply, Stamped};
use crate::secret::{Generated, Token};

/// A server whose cluster has authentication on, its root token, and where tokens are made.
struct Closed {
    server: Server,
    root: Token,
}

fn by_root(stamp_ms: u64, action: Action) -> Command {
    Command::By(Principal::Root, Stamped { stamp_ms, retry: None, action })
}

fn grants(texts: &[&str]) -> Grants {
    Grants(texts.iter().map(|text| Grant::parse(text).unwrap()).collect())
}

fn bearer(token: &Token) -> String {
    format!("Authorization: Bearer {}", *token.text())
}

impl Closed {
    async fn with(anonymous: &[&str]) -> Self {
        let root = Token::generate().unwrap();
        let settings = ApiSettings { root: RootTokens::new(vec![root.clone()]), ..settings() };
        let server = Server::with(Fake::default(), settings).await;
        let on = Action::Authentication { on: true, anonymous: Some(grants(anonymous)), first: true };
        assert_eq!(server.fake.apply(&by_root(0, on)), Reply::Done);
        Self { server, root }
    }

    fn token(&self, name: &str, texts: &[&str], ttl_ms: Option<u64>) -> Token {
        let token = Token::generate().unwrap();
        let (id, hash) = crate::api::access::parts_of(&token);
        let action = Action::PutToken { name: name.into(), id, hash, grants: grants(texts), ttl_ms, certificate: None };
        assert_eq!(self.server.fake.apply(&by_root(0, action)), Reply::Token { fresh: true });
        token
    }

    async fn ask(&self, method: &str, target: &str, headers: &[&str], body: &str) -> Answer {
        self.server.ask_with(method, target, headers, body.as_bytes()).await
    }

    async fn as_token(&self, token: &Token, method: &str, target: &str, body: &str) -> Answer {
        self.ask(method, target, &[&bearer(token)], body).await
    }
}

/// A request for a route that would be served, and the grants without which it is not. The first of them that is missing
/// is named; each alone is not enough.
fn sample(line: &str) -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    match line {
        "GET /" => vec![("/", "", vec![])],
        "GET /openapi.json" => vec![("/openapi.json", "", vec![])],
        "GET /hraftd/raft/health" => vec![("/hraftd/raft/health", "", vec![]), ("/raft/health", "", vec![])],
        "GET /hraftd/raft/ready" => vec![("/hraftd/raft/ready", "", vec![])],
        "GET /hraftd/key" => vec![
            ("/hraftd/key?prefix=k", "", vec!["read:k"]),
            ("/key?prefix=", "", vec!["read:"]),
            ("/hraftd/key?prefix=k&keys", "", vec!["read:k"]),
            ("/hraftd/key?prefix=k&count", "", vec!["read:k"]),
            ("/hraftd/key?key=k&key=k2", "", vec!["read:=k", "read:=k2"]),
        ],
        "POST /hraftd/key" => vec![(r"/hraftd/key", r#"{"k":1,"k2":2}"#, vec!["write:=k", "write:=k2"])],
        "DELETE /hraftd/key" => vec![("/hraftd/key?prefix=zz", "", vec!["write:zz"])],
        "GET /hraftd/key/{key}" => {
            vec![("/hraftd/key/k", "", vec!["read:=k"]), ("/key/k?level=none&raw", "", vec!["read:=k"])]
        }
        "PUT /hraftd/key/{key}" => {
            vec![("/hraftd/key/k", "1", vec!["write:=k"]), ("/key/k?json", "1", vec!["write:=k"])]
        }
        "POST /hraftd/key/{key}" => vec![
            ("/hraftd/key/n?incr=1", "", vec!["write:=n", "read:=n"]),
            ("/hraftd/key/k?touch&ttl=9s", "", vec!["write:=k"]),
        ],
        "DELETE /hraftd/key/{key}" => vec![("/hraftd/key/gone", "", vec!["write:=gone"])],
        "GET /hraftd/watch" => vec![
            ("/hraftd/watch?prefix=k", "", vec!["read:k"]),
            ("/hraftd/watch?key=k", "", vec!["read:=k"]),
            ("/hraftd/watch?lock=k", "", vec!["lock:=k"]),
        ],
        "POST /hraftd/txn" => vec![
            ("/hraftd/txn", r#"{"then":[{"get":"k"}]}"#, vec!["read:=k"]),
            ("/hraftd/txn", r#"{"else":[{"set":{"k":1}}]}"#, vec!["write:=k"]),
            ("/hraftd/txn", r#"{"if":[{"key":"k","exists":true}]}"#, vec!["write:=k"]),
        ],
        "GET /hraftd/lock" => vec![("/hraftd/lock?prefix=k", "", vec!["lock:k"])],
        "GET /hraftd/lock/{name}" => vec![("/hraftd/lock/k", "", vec!["lock:=k"])],
        "POST /hraftd/lock/{name}" => vec![("/hraftd/lock/m?ttl=9s", "", vec!["lock:=m"])],
        "PUT /hraftd/lock/{name}" => vec![("/hraftd/lock/k?token=1", "", vec!["lock:=k"])],
        "DELETE /hraftd/lock/{name}" => vec![("/hraftd/lock/k?token=1", "", vec!["lock:=k"])],
        "GET /hraftd/lease" => vec![("/hraftd/lease", "", vec!["read:"])],
        "POST /hraftd/lease" => vec![("/hraftd/lease?ttl=9s", "", vec!["write:=any"])],
        "GET /hraftd/lease/{id}" => vec![("/hraftd/lease/7", "", vec!["write:=any"])],
        "PUT /hraftd/lease/{id}" => vec![("/hraftd/lease/7", "", vec!["write:=any"])],
        "DELETE /hraftd/lease/{id}" => vec![("/hraftd/lease/7", "", vec!["write:=any"])],
        "GET /hraftd/raft/stats" => {
            vec![("/hraftd/raft/stats", "", vec!["status"]), ("/raft/stats", "", vec!["status"])]
        }
        "GET /hraftd/raft/cluster" => vec![("/hraftd/raft/cluster", "", vec!["status"])],
        "GET /hraftd/raft/state" => vec![("/raft/state", "", vec!["status"])],
        "GET /hraftd/raft/node" => vec![("/hraftd/raft/node", "", vec!["status"])],
        "POST /hraftd/raft/join" => vec![("/raft/join", r#"{"id":"127.0.0.1:7,127.0.0.1:8"}"#, vec!["members"])],
        "DELETE /hraftd/raft/remove" => vec![("/hraftd/raft/remove?id=a", "", vec!["members"])],
        "POST /hraftd/raft/leader" => vec![("/hraftd/raft/leader", "", vec!["members"])],
        "GET /hraftd/auth/whoami" => vec![("/hraftd/auth/whoami", "", vec![])],
        "GET /hraftd/auth/token" => vec![("/hraftd/auth/token", "", vec!["admin"])],
        "GET /hraftd/auth/token/{name}" => vec![("/hraftd/auth/token/t", "", vec!["admin"])],
        "PUT /hraftd/auth/token/{name}" => vec![("/hraftd/auth/token/new", r#"{"grants":[]}"#, vec!["admin"])],
        "DELETE /hraftd/auth/token/{name}" => vec![("/hraftd/auth/token/none", "", vec!["admin"])],
        "PUT /hraftd/auth" => vec![("/hraftd/auth", "", vec!["root"])],
        "DELETE /hraftd/auth" => vec![("/hraftd/auth?yes", "", vec!["root"])],
        other => panic!("{other} has no line in the table of who may do what"),
    }
}

const ALL: [&str; 10] =
    ["read:", "write:", "lock:", "status", "members", "backup", "admin", "read:x/", "write:x/", "lock:x/"];

/// The answer, of a watch its head alone.
async fn status(closed: &Closed, headers: &[&str], method: &str, target: &str, body: &str) -> (u16, String) {
    if !target.contains("/watch") {
        let answer = closed.ask(method, target, headers, body).await;
        return (answer.status, answer.body);
    }
    let mut client = closed.server.connect().await;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", closed.server.addr);
    client.write_all(head.as_bytes()).await.unwrap();
    let mut read = vec![0; 4096];
    let count = timeout(SOON, client.read(&mut read)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&read[..count]).into_owned();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[tokio::test]
async fn every_route_with_every_grant_and_every_wrong_token() {
    let closed = Closed::with(&[]).await;
    let fake = &closed.server.fake;
    for key in ["k", "k2"] {
        closed.as_token(&closed.root, "PUT", &format!("/hraftd/key/{key}"), "1").await;
    }
    let one_grant: Vec<(&str, Token)> =
        ALL.iter().enumerate().map(|(n, grant)| (*grant, closed.token(&format!("t{n}"), &[grant], None))).collect();
    let nothing = closed.token("nothing", &[], None);
    let expired = closed.token("expired", &["admin"], Some(1));
    fake.tick(10);
    let revoked = closed.token("revoked", &["admin"], None);
    fake.apply(&by_root(0, Action::DeleteToken { name: "revoked".into() }));
    let wrong = Token::generate().unwrap();
    let mut typo = wrong.text().to_string();
    typo.pop();
    let refused: Vec<(&str, Vec<String>, &str)> = vec![
        ("none", vec![], "send a token"),
        ("wrong", vec![bearer(&wrong)], "not known here, or was revoked"),
        ("typo", vec![format!("Authorization: Bearer {typo}")], "not known here, or was revoked"),
        ("other", vec!["Authorization: Digest x".to_owned()], "not known here, or was revoked"),
        ("revoked", vec![bearer(&revoked)], "not known here, or was revoked"),
        ("expired", vec![bearer(&expired)], "time of this token is up"),
    ];
    let mut many = 0;
    for (line, needs) in ROUTES {
        let method = line.split(' ').next().unwrap();
        for (target, body, wanted) in sample(line) {
            let what = format!("{method} {target} {body}");
            for (kind, headers, says) in &refused {
                let before = fake.digest();
                let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                let (status, text) = status(&closed, &headers, method, target, body).await;
                if *needs == Needs::Public {
                    assert_eq!(status, 200, "{what} with {kind}");
                    continue;
                }
                assert_eq!(status, 401, "{what} with {kind}: {text}");
                assert!(text.contains("\"unauthorized\"") && text.contains(says), "{what} with {kind}: {text}");
                assert_eq!(fake.digest(), before, "{what} with {kind}");
                many += 1;
            }
            if *needs == Needs::Public {
                continue;
            }
            // One grant that has nothing to do with it, or is for other keys, is not enough; admin is.
            for (grant, token) in &one_grant {
                let by_admin = *grant == "admin" && *needs != Needs::Root;
                let covered = |needed: &&str| {
                    let (kind, scope) =
                        needed.split_once(':').map_or((*needed, None), |(kind, scope)| (kind, Some(scope)));
                    // Any write will do; who may read may also know of existence.
                    let any = scope == Some("=any") && grant.starts_with("write:");
                    let seen = body.contains("exists") && *grant == "read:";
                    any || seen || *grant == *needed || scope.is_some_and(|_| *grant == format!("{kind}:"))
                };
                let may = by_admin || wanted.iter().all(covered);
                let before = fake.digest();
                let (status, text) = status(&closed, &[&bearer(token)], method, target, body).await;
                assert_eq!(status != 403, may, "{what} with {grant}: {status} {text}");
                assert_ne!(status, 401, "{what} with {grant}: {text}");
                if !may {
                    assert!(text.contains("\"forbidden\""), "{what} with {grant}: {text}");
                    assert_eq!(fake.digest(), before, "{what} with {grant}");
                }
                many += 1;
            }
            // Exactly those that it names are enough, and none of them can be left out.
            if *needs != Needs::Root && !wanted.contains(&"admin") {
                let exact = closed.token("exact", &wanted, None);
                let (code, text) = status(&closed, &[&bearer(&exact)], method, target, body).await;
                assert!(code != 401 && code != 403, "{what} with {wanted:?}: {code} {text}");
                for left_out in 0..wanted.len() {
                    let mut rest = wanted.clone();
                    let missing = rest.remove(left_out);
                    fake.apply(&by_root(0, Action::DeleteToken { name: "exact".into() }));
                    let less = closed.token("exact", &rest, None);
                    let (code, text) = status(&closed, &[&bearer(&less)], method, target, body).await;
                    assert_eq!(code, 403, "{what} without {missing}: {text}");
                }
                fake.apply(&by_root(0, Action::DeleteToken { name: "exact".into() }));
            }
            let (code, text) = status(&closed, &[&bearer(&nothing)], method, target, body).await;
            assert_eq!(code == 403, !wanted.is_empty(), "{what} with nothing: {text}");
            if line.starts_with("DELETE /hraftd/auth?") || *line == "DELETE /hraftd/auth" {
                continue;
            }
            let (code, text) = status(&closed, &[&bearer(&closed.root)], method, target, body).await;
            assert!(code != 401 && code != 403, "{what} by root: {code} {text}");
        }
    }
    assert!(many > 500, "{many}");
    // What is no route tells that only to those who are known; what is asked for no method, too.
    for (method, target) in [("GET", "/hraftd/none"), ("PATCH", "/hraftd/key/k"), ("POST", "/hraftd/raft/stats")] {
        assert_eq!(closed.ask(method, target, &[], "").await.status, 401, "{method} {target}");
        let known = closed.as_token(&nothing, method, target, "").await.status;
        assert!(known == 404 || known == 405, "{method} {target}: {known}");
    }
}

#[tokio::test]
async fn refusals_come_in_their_order() {
    let closed = Closed::with(&[]).await;
    let token = closed.token("t", &["write:a"], None);
    let good = bearer(&token);
    let refused = closed.ask("GET", "/hraftd/key/a", &[&good, &good], "").await;
    refused.is_error(400, "bad_request", "several Authorization");
    let query = format!("/hraftd/key/a?t={}", *token.text());
    closed.ask("GET", &query, &[&good], "").await.is_error(400, "bad_request", "token in the query");
    closed.ask("GET", "/hraftd/key/a", &["Host: evil.example"], "").await.is_error(400, "bad_request", "Host");
    // 401 before any of the body is read: none is ever sent.
    let answer = closed
        .server
        .raw("PUT /hraftd/key/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nConnection: close\r\n\r\n");
    let answer = answer.await;
    answer.is_error(401, "unauthorized", "send a token");
    assert_eq!(answer.head.matches("www-authenticate: ").count(), 2, "{answer:?}");
    // 403 whether or not the key is there.
    let there = closed.as_token(&token, "GET", "/hraftd/key/a", "").await;
    closed.as_token(&closed.root, "PUT", "/hraftd/key/a", "1").await;
    let not_there = closed.as_token(&token, "GET", "/hraftd/key/a", "").await;
    assert_eq!((there.status, &there.body), (403, &not_there.body));
    assert!(there.body.contains("read:a"), "{there:?}");
    // Who may not read is told that it is not so, and no more.
    let refused = closed.as_token(&token, "PUT", "/hraftd/key/a?cas=0", "2").await;
    refused.is_error(412, "precondition_failed", "not as the request demands");
    assert!(!refused.body.contains("current"), "{refused:?}");
    let seen = closed.as_token(&closed.root, "PUT", "/hraftd/key/a?cas=0", "2").await;
    assert!(seen.status == 412 && seen.body.contains("\"current\":{"), "{seen:?}");
    closed.as_token(&token, "PUT", "/hraftd/key/a?cas=7", "2").await.is_error(403, "forbidden", "read:a");
}

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
    server.get("/hraftd/key/a").await.is_error(503, "not_ready", "does not know yet whom it may serve");
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
        let token = closed.token("w", &["read:a", "lock:", "write:"], Some(60_000));
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
                "expire" => fake.tick(200_000),
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

async fn answer_of_stream(client: &mut TcpStream) -> String {
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
        request.extensions_mut().insert(ClientCertificate::new(names.iter().map(ToString::to_string)));
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
