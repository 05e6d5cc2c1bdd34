//! Sessions of browsers.

use super::*;
use crate::command::Action;
use crate::secret::{ClusterSecret, Generated, Session, SessionKey, SessionOf, Token};

const HOURS_12_MS: u64 = 12 * 3600 * 1000;

/// The `Cookie` header of who has logged in with this token.
async fn log_in(closed: &Closed, token: &Token) -> String {
    let answer = closed.as_token(token, "POST", "/hraftd/auth/session", "").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; path=/; max-age=43200; httponly; samesite=strict"), "{cookie}");
    assert!(!answer.body.contains("hrc_") && !cookie.contains(&token.text()[..12]), "{answer:?}");
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}

async fn get(closed: &Closed, cookie: &str) -> Answer {
    closed.ask("GET", "/hraftd/key/a", &[cookie], "").await
}

#[tokio::test]
async fn a_session_stands_for_its_token() {
    let closed = Closed::with(&[]).await;
    let token = closed.token("web", &["read:a", "write:a"], None);
    let cookie = log_in(&closed, &token).await;
    assert_eq!(closed.ask("PUT", "/hraftd/key/a", &["X: y; z=1", &cookie], "1").await.status, 201);
    get(&closed, &cookie).await.is_ok(r#"{"a":"1"}"#);
    closed.ask("GET", "/hraftd/key/b", &[&cookie], "").await.is_error(403, "forbidden", "read:b");
    let who = closed.ask("GET", "/hraftd/auth/whoami", &[&cookie], "").await;
    assert!(who.body.contains(r#""name":"web","#) && who.body.contains(r#""means":"session","ends":"20"#), "{who:?}");
    let root = log_in(&closed, &closed.root).await;
    let who = closed.ask("GET", "/hraftd/auth/whoami", &[&root], "").await;
    assert!(who.body.contains(r#""name":"root","grants":["admin"],"means":"session""#), "{who:?}");
    assert_eq!(closed.ask("GET", "/hraftd/auth/token", &[&root], "").await.status, 200);
    // A login is with a header: a session gives no other, and neither does nothing.
    closed.ask("POST", "/hraftd/auth/session", &[&cookie], "").await.is_error(401, "unauthorized", "send a token");
    closed.ask("POST", "/hraftd/auth/session", &[], "").await.is_error(401, "unauthorized", "send a token");
    let other = Token::generate().unwrap();
    closed.as_token(&other, "POST", "/hraftd/auth/session", "").await.is_error(401, "unauthorized", "not known");
    closed.as_token(&token, "POST", "/hraftd/auth/session", "{}").await.is_error(400, "bad_request", "body");
    let out = closed.ask("DELETE", "/hraftd/auth/session", &["Cookie: hraftd_session=x"], "").await;
    let cleared = "hraftd_session=; path=/; max-age=0; httponly; samesite=strict";
    assert_eq!((out.status, out.header("set-cookie")), (200, Some(cleared)), "{out:?}");
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_with_its_time() {
    let closed = Closed::with(&[]).await;
    let fake = &closed.server.fake;
    let token = closed.token("web", &["read:a"], None);
    let (first, root) = (log_in(&closed, &token).await, log_in(&closed, &closed.root).await);
    let rotate = |grace: &'static str| closed.as_token(&closed.root, "PUT", grace, "");
    let answer = rotate("/hraftd/auth/token/web?rotate&grace=10m").await;
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let token = Token::parse(json["token"].as_str().unwrap()).unwrap();
    let second = log_in(&closed, &token).await;
    assert_eq!((get(&closed, &first).await.status, get(&closed, &second).await.status), (404, 404), "within the grace");
    assert_eq!(rotate("/hraftd/auth/token/web?rotate&grace=10m").await.status, 200);
    get(&closed, &first).await.is_error(401, "unauthorized", "not known");
    assert_eq!(get(&closed, &second).await.status, 404);
    assert_eq!(rotate("/hraftd/auth/token/web?rotate&grace=0s").await.status, 200);
    get(&closed, &second).await.is_error(401, "unauthorized", "not known");

    let brief = closed.token("brief", &["read:a"], Some(1_000));
    let cookie = log_in(&closed, &brief).await;
    let lasting = closed.token("lasting", &["read:a"], None);
    let lasting = log_in(&closed, &lasting).await;
    fake.tick(1_000);
    get(&closed, &cookie).await.is_error(401, "unauthorized", "time of this token");
    fake.tick(HOURS_12_MS - 1);
    assert_eq!((get(&closed, &lasting).await.status, get(&closed, &root).await.status), (404, 404));
    fake.tick(HOURS_12_MS);
    get(&closed, &lasting).await.is_error(401, "unauthorized", "or of its session");
    get(&closed, &root).await.is_error(401, "unauthorized", "or of its session");

    let (token, root) = (closed.token("last", &["read:a"], None), log_in(&closed, &closed.root).await);
    let cookie = log_in(&closed, &token).await;
    fake.apply(&by_root(0, Action::DeleteToken { name: "last".into() }));
    get(&closed, &cookie).await.is_error(401, "unauthorized", "not known");
    assert_eq!(get(&closed, &root).await.status, 404);
    closed.roots.replace(vec![Token::generate().unwrap()]);
    get(&closed, &root).await.is_error(401, "unauthorized", "not known");
}

/// A rotation of the cluster's secret: what the old one has signed is good as long as it is trusted.
#[tokio::test]
async fn each_secret_verifies_and_the_first_issues() {
    let closed = Closed::with(&[]).await;
    let [old, new] = [0; 2].map(|_| SessionKey::of(&ClusterSecret::generate().unwrap()));
    let status = async |cookie: &str| get(&closed, cookie).await.status;
    closed.sessions.replace(vec![old.clone(), new.clone()]);
    let of_old = log_in(&closed, &closed.root).await;
    closed.sessions.replace(vec![new.clone(), old]);
    let of_new = log_in(&closed, &closed.root).await;
    assert_eq!((status(&of_old).await, status(&of_new).await), (404, 404));
    closed.sessions.replace(vec![new]);
    assert_eq!((status(&of_old).await, status(&of_new).await), (401, 404));
    closed.sessions.replace(vec![]);
    assert_eq!(status(&of_new).await, 401);
    let refused = closed.as_token(&closed.root, "POST", "/hraftd/auth/session", "").await;
    refused.is_error(409, "conflict", "--cluster-secret-file");
}

#[tokio::test]
async fn a_bad_session_does_not_fall_through_nor_a_good_one_help() {
    let closed = Closed::with(&["read:"]).await;
    let token = closed.token("web", &["read:a"], None);
    let cookie = log_in(&closed, &token).await;
    let forged = Session { of: SessionOf::Root(closed.root.mark()), ends_ms: u64::MAX };
    let forged = forged.sign(&SessionKey::of(&ClusterSecret::generate().unwrap()));
    assert_eq!(closed.ask("GET", "/hraftd/key/a", &[], "").await.status, 404, "anybody may");
    for bad in ["x", "", &*forged, &token.text(), &cookie["Cookie: hraftd_session=".len()..cookie.len() - 1]] {
        let cookie = format!("Cookie: hraftd_session={bad}");
        get(&closed, &cookie).await.is_error(401, "unauthorized", "not known");
    }
    closed.ask("GET", "/hraftd/key/a", &["Authorization: Bearer x", &cookie], "").await.is_error(
        401,
        "unauthorized",
        "",
    );
    // The cookie of TLS is none here: it may be of anybody who can write cookies for this host.
    let secure = cookie.replace("hraftd_session", "__Host-hraftd_session");
    let who = closed.ask("GET", "/hraftd/auth/whoami", &[&secure], "").await;
    assert!(who.body.contains("anonymous"), "{who:?}");
    // The header counts before the cookie.
    let both = closed.ask("GET", "/hraftd/auth/whoami", &[&bearer(&closed.root), &cookie], "").await;
    assert!(both.body.contains(r#""name":"root""#), "{both:?}");
}

#[tokio::test]
async fn browsers_send_it_for_no_other_site_and_open_no_login_box() {
    let closed = Closed::with(&[]).await;
    let cookie = log_in(&closed, &closed.root).await;
    for foreign in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"] {
        let refused = closed.ask("PUT", "/hraftd/key/a", &[&cookie, foreign], "1").await;
        refused.is_error(403, "forbidden", "page");
    }
    let own = ["Sec-Fetch-Site: same-origin", "Origin: http://localhost", "Sec-Fetch-Mode: cors"];
    let host = closed.ask("PUT", "/hraftd/key/a", &[&cookie, own[0], own[2]], "1").await;
    assert_eq!(host.status, 201, "{host:?}");
    let metrics = closed.as_token(&closed.root, "GET", "/metrics", "").await.body;
    assert!(metrics.contains("hraftd_auth_refused_total{kind=\"cross_site\"} 3\n"), "{metrics}");
    for (mode, boxes) in [
        ("Sec-Fetch-Mode: cors", 0),
        ("Sec-Fetch-Mode: same-origin", 0),
        ("Sec-Fetch-Mode: no-cors", 0),
        ("X-Requested-With: hraftd-page", 0),
        ("Sec-Fetch-Mode: navigate", 1),
    ] {
        for target in ["/hraftd/key/a", "/hraftd/raft/stats", "/hraftd/none"] {
            let refused = closed.ask("GET", target, &[mode], "").await;
            assert_eq!(refused.status, 401);
            let challenges = refused.head.matches("www-authenticate: basic").count();
            assert_eq!((challenges, refused.head.matches("www-authenticate: bearer").count()), (boxes, 1), "{mode}");
        }
    }
}

/// What lasts ends with the session, or with the root token, that it was opened with.
#[tokio::test]
async fn what_lasts_ends_with_its_root_token_or_session() {
    let closed = Closed::with(&[]).await;
    let fake = &closed.server.fake;
    tokio::spawn(fake.watching());
    let token = closed.token("w", &["read:", "lock:", "status"], None);
    let session = Session { of: SessionOf::Token { id: token.id().0, generation: 1 }, ends_ms: 300 };
    let by_token = format!("Cookie: hraftd_session={}", *closed.sessions.issue(&session).unwrap());
    let (by_root, in_session) = (bearer(&closed.root), log_in(&closed, &closed.root).await);
    for (credential, replaced) in [(&by_token, false), (&by_root, true), (&in_session, true)] {
        let new = Token::generate().unwrap();
        closed.roots.replace(vec![closed.root.clone(), new.clone()]);
        assert_eq!(closed.as_token(&new, "POST", "/hraftd/lock/l?ttl=60s", "").await.status, 200);
        let mut streams = Vec::new();
        for target in ["/hraftd/watch?prefix=a", "/hraftd/raft/events"] {
            let mut stream = closed.server.connect().await;
            let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{credential}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut first = vec![0; 4096];
            let count = timeout(SOON, stream.read(&mut first)).await.unwrap().unwrap();
            assert!(first[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first[..count]));
            streams.push(stream);
        }
        let headers = [credential.as_str()];
        let poll = closed.ask("GET", "/hraftd/key/ab?wait=60s", &headers, "");
        let wait = closed.ask("POST", "/hraftd/lock/l?ttl=9s&wait=60s", &headers, "");
        let ending = async {
            let mut seen = String::new();
            while !(seen.contains("get ab") && seen.contains("acquire lock l")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                seen.push_str(&fake.calls().join(" "));
            }
            match replaced {
                true => closed.roots.replace(vec![new.clone()]),
                false => fake.tick(300),
            }
            closed.as_token(&new, "PUT", "/hraftd/key/a-secret", "1").await;
            Instant::now()
        };
        let (poll, wait, ended) = tokio::join!(poll, wait, ending);
        assert_eq!((poll.status, wait.status), (401, 401), "{poll:?} {wait:?}");
        for stream in &mut streams {
            let rest = super::tokens::answer_of_stream(stream).await;
            assert!(rest.contains("event: unauthorized") && !rest.contains("a-secret"), "{rest}");
        }
        assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
        let holder = fake.lock_view("l").unwrap();
        let released = closed.as_token(&new, "DELETE", &format!("/hraftd/lock/l?token={}", holder.token), "").await;
        assert_eq!(released.status, 200, "who waited is not in the queue any more");
        assert_eq!(fake.lock_view("l"), None);
        closed.as_token(&new, "DELETE", "/hraftd/key/a-secret", "").await;
        closed.roots.replace(vec![closed.root.clone()]);
    }
}
