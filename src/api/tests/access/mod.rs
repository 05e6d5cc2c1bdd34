//! Who may do what: every route with every grant, and with every wrong way to ask.

mod clusters;
mod narrow;
mod sessions;
mod tokens;

use super::*;
use crate::api::methods::{Needs, ROUTES};
use crate::command::{Action, Command, Grant, Grants, Principal, Reply, Stamped};
use crate::secret::{ClusterSecret, Generated, SessionKey, Token};

/// A server whose cluster has authentication on, its root token, and where tokens are made.
pub(super) struct Closed {
    pub(super) server: Server,
    pub(super) root: Token,
    /// What its file and its secret are for a real one.
    pub(super) roots: RootTokens,
    pub(super) sessions: Sessions,
}

pub(super) fn by_root(stamp_ms: u64, action: Action) -> Command {
    Command::By(Principal::Root, Stamped { stamp_ms, retry: None, action })
}

pub(super) fn grants(texts: &[&str]) -> Grants {
    Grants(texts.iter().map(|text| Grant::parse(text).unwrap()).collect())
}

pub(super) fn bearer(token: &Token) -> String {
    format!("Authorization: Bearer {}", *token.text())
}

impl Closed {
    pub(super) async fn with(anonymous: &[&str]) -> Self {
        let root = Token::generate().unwrap();
        let roots = RootTokens::new(vec![root.clone()]);
        let sessions = Sessions::new(vec![SessionKey::of(&ClusterSecret::generate().unwrap())]);
        let settings = ApiSettings { root: roots.clone(), sessions: sessions.clone(), ..settings() };
        let server = Server::with(Fake::default(), settings).await;
        let on = Action::Authentication { on: true, anonymous: Some(grants(anonymous)), first: true };
        assert_eq!(server.fake.apply(&by_root(0, on)), Reply::Done);
        Self { server, root, roots, sessions }
    }

    pub(super) fn token(&self, name: &str, texts: &[&str], ttl_ms: Option<u64>) -> Token {
        let token = Token::generate().unwrap();
        let (id, hash) = crate::api::service::parts_of(&token);
        let action = Action::PutToken { name: name.into(), id, hash, grants: grants(texts), ttl_ms, certificate: None };
        assert_eq!(self.server.fake.apply(&by_root(0, action)), Reply::Token { fresh: true });
        token
    }

    pub(super) async fn ask(&self, method: &str, target: &str, headers: &[&str], body: &str) -> Answer {
        self.server.ask_with(method, target, headers, body.as_bytes()).await
    }

    pub(super) async fn as_token(&self, token: &Token, method: &str, target: &str, body: &str) -> Answer {
        self.ask(method, target, &[&bearer(token)], body).await
    }
}

/// A request for a route that would be served, and the grants without which it is not. The first of them that is missing
/// is named; each alone is not enough.
fn sample(line: &str) -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    match line {
        "GET /" => vec![("/", "", vec![])],
        "GET /openapi.json" => vec![("/openapi.json", "", vec![])],
        "GET /livez" => vec![("/livez", "", vec![])],
        "GET /healthz" => vec![("/healthz", "", vec![])],
        "GET /readyz" => vec![("/readyz", "", vec![])],
        "GET /metrics" => vec![
            ("/metrics", "", vec!["status"]),
            ("/readyz?verbose", "", vec!["status"]),
            ("/readyz?%76erbose=1", "", vec!["status"]),
        ],
        "GET /hraftd/raft/events" => vec![("/hraftd/raft/events", "", vec!["status"])],
        "GET /hraftd/raft/entry/{index}" => vec![("/hraftd/raft/entry/1", "", vec!["status"])],
        "GET /ui/" => vec![("/ui/", "", vec![])],
        "GET /ui/{file}" => vec![("/ui/app.js", "", vec![])],
        "GET /hraftd/raft/members" => vec![("/hraftd/raft/members", "", vec!["status"])],
        "GET /hraftd/raft/doctor" => vec![("/hraftd/raft/doctor", "", vec!["status"])],
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
            ("/hraftd/txn", r#"{"then":[],"else":[{"set":{"k":1}}]}"#, vec!["write:=k"]),
            ("/hraftd/txn", r#"{"if":[{"key":"k","exists":true}],"then":[]}"#, vec!["write:=k"]),
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
        "GET /hraftd/backup" => {
            vec![("/hraftd/backup", "", vec!["backup"]), ("/hraftd/backup?if_newer=1", "", vec!["backup"])]
        }
        "GET /hraftd/raft/stats" => {
            vec![("/hraftd/raft/stats", "", vec!["status"]), ("/raft/stats", "", vec!["status"])]
        }
        "GET /hraftd/raft/cluster" => vec![("/hraftd/raft/cluster", "", vec!["status"])],
        "GET /hraftd/raft/state" => vec![("/raft/state", "", vec!["status"])],
        "GET /hraftd/raft/node" => vec![("/hraftd/raft/node", "", vec!["status"])],
        "POST /hraftd/raft/join" => vec![("/raft/join", r#"{"id":"127.0.0.1:7,127.0.0.1:8"}"#, vec!["members"])],
        "DELETE /hraftd/raft/remove" => vec![("/hraftd/raft/remove?id=a", "", vec!["members"])],
        "POST /hraftd/raft/leader" => vec![("/hraftd/raft/leader", "", vec!["members"])],
        "POST /hraftd/auth/session" => vec![("/hraftd/auth/session", "", vec![])],
        "DELETE /hraftd/auth/session" => vec![("/hraftd/auth/session", "", vec![])],
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
    if !target.contains("/watch") && !target.contains("/events") {
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
    closed.ask("GET", "/hraftd/key/a", &[], "").await.is_error(401, "unauthorized", "send a token");
    let metrics = closed.as_token(&closed.root, "GET", "/metrics", "").await.body;
    assert!(metrics.contains("hraftd_auth_refused_total{kind=\"missing\"} 1\n"), "{metrics}");
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
