//! What tokens with few grants are not told, and what they cannot do.

use super::*;
use crate::command::Action;

fn etag(answer: &Answer) -> Option<&str> {
    answer.header("etag")
}

#[tokio::test]
async fn who_only_writes_is_told_no_index_but_his_own() {
    let closed = Closed::with(&[]).await;
    let (blind, seeing) =
        (closed.token("blind", &["write:"], None), closed.token("seeing", &["write:", "read:"], None));
    let put = closed.as_token(&closed.root, "PUT", "/hraftd/key/a", "1").await;
    let others = etag(&put).unwrap().to_owned();
    let touched = closed.as_token(&blind, "POST", "/hraftd/key/a?touch&ttl=9s", "").await;
    assert_eq!((touched.status, etag(&touched)), (200, None), "{touched:?}");
    assert!(!touched.body.contains(others.trim_matches('"')), "{touched:?}");
    let touched = closed.as_token(&seeing, "POST", "/hraftd/key/a?touch&ttl=9s", "").await;
    assert_eq!(etag(&touched), Some(&*others));
    assert!(etag(&closed.as_token(&blind, "PUT", "/hraftd/key/a", "2").await).is_some(), "the index of its own write");
}

#[tokio::test]
async fn an_empty_transaction_is_for_who_writes() {
    let closed = Closed::with(&[]).await;
    let before = closed.server.fake.digest();
    for (number, grants) in [&["status"][..], &["read:"], &["lock:"], &["members", "backup"]].into_iter().enumerate() {
        let token = closed.token(&format!("t{number}"), grants, None);
        let keyed = [&*bearer(&token), "Idempotency-Key: k"];
        let made = closed.server.fake.digest();
        let refused = closed.ask("POST", "/hraftd/txn", &keyed, r#"{"then":[]}"#).await;
        refused.is_error(403, "forbidden", "write: (any)");
        assert_eq!(closed.server.fake.digest(), made, "{grants:?}: an outcome is kept");
    }
    assert_ne!(closed.server.fake.digest(), before);
    let token = closed.token("w", &["write:=x"], None);
    assert_eq!(closed.as_token(&token, "POST", "/hraftd/txn", r#"{"then":[]}"#).await.status, 200);
}

/// Where path and query alone decide no body is waited for: none is ever sent.
#[tokio::test]
async fn what_the_head_decides_is_told_before_the_body() {
    let closed = Closed::with(&[]).await;
    let token = closed.token("t", &["read:", "write:mine"], None);
    for (method, target) in [
        ("PUT", "/hraftd/key/a"),
        ("PUT", "/hraftd/key/a?lease=7"),
        ("DELETE", "/hraftd/key/a"),
        ("DELETE", "/hraftd/key?prefix=a"),
        ("POST", "/hraftd/key/a?incr=1"),
        ("POST", "/hraftd/key/a?touch&ttl=9s"),
        ("POST", "/hraftd/lock/a?ttl=9s"),
        ("PUT", "/hraftd/lock/a?token=1"),
        ("DELETE", "/hraftd/lock/a?token=1"),
        ("POST", "/hraftd/raft/join"),
        ("DELETE", "/hraftd/raft/remove"),
        ("PUT", "/hraftd/auth/token/x"),
        ("PUT", "/hraftd/auth"),
    ] {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{}\r\nContent-Length: 9\r\nConnection: close\r\n\r\n",
            bearer(&token)
        );
        let answer = closed.server.raw(&head).await;
        answer.is_error(403, "forbidden", "this needs the grant");
    }
}

#[tokio::test]
async fn a_foreign_lease_is_as_one_that_is_not_there() {
    let closed = Closed::with(&[]).await;
    let [one, two] = ["one", "two"].map(|name| closed.token(name, &["write:", "lock:"], None));
    let made = closed.as_token(&one, "POST", "/hraftd/lease?ttl=60s", "").await;
    let made: serde_json::Value = serde_json::from_str(&made.body).unwrap();
    let id = made["lease"].as_u64().unwrap();
    for (method, target, body) in [
        ("GET", "/hraftd/lease/ID", ""),
        ("PUT", "/hraftd/lease/ID", ""),
        ("DELETE", "/hraftd/lease/ID", ""),
        ("PUT", "/hraftd/key/k?lease=ID", "1"),
        ("POST", "/hraftd/lock/l?lease=ID", ""),
    ] {
        let at = |id: u64| target.replace("ID", &id.to_string());
        let foreign = closed.as_token(&two, method, &at(id), body).await;
        let missing = closed.as_token(&two, method, &at(9_999), body).await;
        let as_missing = foreign.body.replace(&id.to_string(), "9999");
        assert_eq!((foreign.status, as_missing), (missing.status, missing.body), "{method} {target}");
        assert!(foreign.status == 404 || foreign.status == 409, "{method} {target}: {foreign:?}");
    }
    // Who made it loses it with the right to write anything.
    assert_eq!(closed.as_token(&one, "PUT", &format!("/hraftd/lease/{id}"), "").await.status, 200);
    let narrowed = Action::PutToken {
        name: "one".into(),
        id: 1,
        hash: [0; 32],
        grants: grants(&["lock:", "read:"]),
        ttl_ms: None,
        certificate: None,
    };
    closed.server.fake.apply(&by_root(0, narrowed));
    for (method, target) in
        [("PUT", "/hraftd/lease/ID"), ("DELETE", "/hraftd/lease/ID"), ("POST", "/hraftd/lock/l?lease=ID")]
    {
        let refused = closed.as_token(&one, method, &target.replace("ID", &id.to_string()), "").await;
        refused.is_error(403, "forbidden", "write: (any)");
    }
}

/// Who reads slowly has no time to read on after the end of his token.
#[tokio::test]
async fn a_listing_breaks_off_with_its_token() {
    let closed = Closed::with(&[]).await;
    for number in 0..200 {
        let value = "x".repeat(900);
        closed.as_token(&closed.root, "PUT", &format!("/hraftd/key/k{number:04}"), &value).await;
        if number % 40 == 0 {
            // Larger than what the sockets hold by themselves.
            let pairs: Vec<String> = (0..4).map(|at| format!("\"k{number:04}-{at}\":\"{value}\"")).collect();
            closed.as_token(&closed.root, "POST", "/hraftd/key", &format!("{{{}}}", pairs.join(","))).await;
        }
    }
    let token = closed.token("r", &["read:"], None);
    let api = Api::new(closed.server.fake.clone(), ApiSettings { root: closed.roots.clone(), ..settings() });
    let read = async |token: &crate::secret::Token, end: bool| {
        use http_body_util::BodyExt;
        let request = Request::builder().uri("/hraftd/key?prefix=k").header("host", "localhost");
        let request = request.header("authorization", &bearer(token)["Authorization: ".len()..]);
        let response = api.answer(request.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        if end {
            closed.server.fake.apply(&by_root(0, Action::DeleteToken { name: "r".into() }));
        }
        let mut frames = 0;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(_) => frames += 1,
                Err(_) => return (frames, true),
            }
        }
        (frames, false)
    };
    let (frames, broke_off) = read(&token, false).await;
    assert!(frames >= 1 && !broke_off, "{frames}");
    assert_eq!(read(&token, true).await, (0, true));
}

/// Issue 18, the second attack: a stranger was told the addresses of members, and how fast they write.
#[tokio::test]
async fn who_is_not_known_is_told_nothing_of_the_cluster() {
    let closed = Closed::with(&[]).await;
    let token = closed.token("web", &["read:a"], None);
    let good = bearer(&token);
    let wrong = bearer(&Token::generate().unwrap());
    for (headers, status) in [
        (vec![], 401),
        (vec![wrong.as_str()], 401),
        (vec!["Authorization: Bearer x"], 401),
        (vec![good.as_str(), good.as_str()], 400),
        (vec![good.as_str()], 404),
    ] {
        for target in ["/hraftd/key/a", "/hraftd/watch?key=a&stream=false&timeout=1ms", "/hraftd/lock/a"] {
            let answer = closed.ask("GET", target, &headers, "").await;
            let is_known = status == 404;
            assert!(answer.status == status || is_known, "{target} {headers:?}: {answer:?}");
            for header in ["x-hraftd-index", "x-hraftd-served-by"] {
                assert_eq!(answer.header(header).is_some(), is_known, "{target} {headers:?}: {answer:?}");
            }
        }
    }
}
