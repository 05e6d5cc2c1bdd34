//! Locks as API-KV.md has them.

use super::fake::Orders;
use super::*;
use crate::node::NodeError;

const FIVE: &str = "/hraftd/lock/l?ttl=15s&wait=5m";

impl Answer {
    #[track_caller]
    fn is_locked(&self, holder: &str, retry_after: &str) {
        assert_eq!(self.status, 409, "{self:?}");
        assert!(self.body.starts_with(r#"{"ok":false,"code":"lock_held","msg":"the lock "#), "{self:?}");
        assert!(self.body.ends_with(&format!(",\"holder\":{holder}}}")), "{self:?}");
        assert_eq!(self.header("retry-after"), Some(retry_after), "{self:?}");
    }
}

/// Looks until it holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, look).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn waiting(server: &Server, count: u64) {
    until("it waits", || server.fake.lock_view("l").is_some_and(|lock| lock.waiting == count)).await;
}

#[tokio::test]
async fn take_renew_and_release() {
    let server = Server::start().await;
    server.get("/hraftd/lock/a%2Fb").await.is_error(404, "not_found", "nobody holds");
    let taken = server.ask("POST", "/hraftd/lock/a/b?ttl=15s", r#" {"who": "me"} "#).await;
    taken.is_ok(r#"{"ok":true,"name":"a/b","token":11,"ttl_ms":15000}"#);
    assert_eq!(taken.header("x-hraftd-index"), Some("11"));
    let shown = r#"{"name":"a/b","token":11,"ttl_ms":15000,"body":{"who": "me"},"waiting":0}"#;
    server.get("/hraftd/lock/a/b").await.is_ok(shown);
    server.ask("POST", "/hraftd/lock/a%2fb?ttl=1s", "").await.is_locked(shown, "15");
    server.fake.tick(11_700);
    server.ask("POST", "/hraftd/lock/a/b?ttl=1s", "").await.is_locked(&shown.replace("15000", "3300"), "4");
    let renewed = server.ask("PUT", "/hraftd/lock/a/b?token=11", "").await;
    renewed.is_ok(r#"{"ok":true,"name":"a/b","token":11,"ttl_ms":15000}"#);
    let renewed = server.ask("PUT", "/hraftd/lock/a/b?token=11&ttl=24h", "").await;
    renewed.is_ok(r#"{"ok":true,"name":"a/b","token":11,"ttl_ms":86400000}"#);
    server.ask("DELETE", "/hraftd/lock/a/b?token=10", "").await.is_error(409, "lock_lost", "not held with this token");
    server.ask("DELETE", "/hraftd/lock/other?token=11", "").await.is_error(409, "lock_lost", "other");
    let index = server.fake.applied_index() + 1;
    let released = server.ask("DELETE", "/hraftd/lock/a/b?token=11", "").await;
    released.is_ok(&format!(r#"{{"ok":true,"msg":"OK","index":{index}}}"#));
    server.ask("DELETE", "/hraftd/lock/a/b?token=11", "").await.is_error(409, "lock_lost", "released");
    server.ask("PUT", "/hraftd/lock/a/b?token=11", "").await.is_error(409, "lock_lost", "not held");
    assert_eq!(server.get("/hraftd/lock/a/b").await.status, 404);
    assert_eq!(server.ask("HEAD", "/hraftd/lock/a/b", "").await.status, 404);
}

#[tokio::test]
async fn a_lock_that_was_lost_is_not_renewed() {
    let server = Server::start().await;
    server.ask("POST", "/hraftd/lock/l?ttl=1s", "").await.is_ok(r#"{"ok":true,"name":"l","token":11,"ttl_ms":1000}"#);
    server.fake.tick(999);
    assert_eq!(server.ask("PUT", "/hraftd/lock/l?token=11", "").await.status, 200);
    server.fake.tick(1998);
    server.get("/hraftd/lock/l").await.is_ok(r#"{"name":"l","token":11,"ttl_ms":1,"body":null,"waiting":0}"#);
    let held = server.ask("POST", "/hraftd/lock/l?ttl=1s", "").await;
    assert_eq!(held.header("retry-after"), Some("1"));
    server.fake.tick(1999);
    server.ask("PUT", "/hraftd/lock/l?token=11", "").await.is_error(409, "lock_lost", "expired");
    let taken = server.ask("POST", "/hraftd/lock/l?ttl=1s", "").await;
    assert!(taken.body.contains("\"token\":18,"), "it only grows: {taken:?}");
    server.ask("PUT", "/hraftd/lock/l?token=11", "").await.is_error(409, "lock_lost", "expired");
    server.ask("DELETE", "/hraftd/lock/l?token=11", "").await.is_error(409, "lock_lost", "token");
}

#[tokio::test]
async fn bad_requests() {
    let server = Server::start().await;
    let long = "n".repeat(4097);
    for (method, target, part) in [
        ("POST", "/hraftd/lock/l", "ttl=15s"),
        ("POST", "/hraftd/lock/l?ttl=999ms", "between 1s and 24h"),
        ("POST", "/hraftd/lock/l?ttl=25h", "between 1s and 24h"),
        ("POST", "/hraftd/lock/l?ttl=15", "unit"),
        ("POST", "/hraftd/lock/l?ttl=1s&wait=301s", "0s and 5m"),
        ("POST", "/hraftd/lock/l?ttl=1s&token=3", "token"),
        ("POST", "/hraftd/lock/?ttl=1s", "a lock is named as a key is: the key is empty"),
        ("POST", "/hraftd/lock/%?ttl=1s", "hexadecimal"),
        ("POST", &format!("/hraftd/lock/{long}?ttl=1s"), "4096"),
        ("PUT", "/hraftd/lock/l", "token="),
        ("PUT", "/hraftd/lock/l?token=x", "is not a token"),
        ("PUT", "/hraftd/lock/l?token=-1", "is not a token"),
        ("PUT", "/hraftd/lock/l?token=1&ttl=0s", "between"),
        ("PUT", "/hraftd/lock/l?token=1&wait=1s", "wait"),
        ("DELETE", "/hraftd/lock/l", "token="),
        ("DELETE", "/hraftd/lock/l?token=1&ttl=1s", "ttl"),
        ("GET", "/hraftd/lock/l?token=1", "token"),
        ("GET", "/hraftd/lock/l?freshness=1s", "freshness"),
        ("GET", "/hraftd/lock/", "empty"),
    ] {
        server.ask(method, target, "").await.is_error(400, "bad_request", part);
    }
    for (method, target) in [("PUT", "/hraftd/lock/l?token=1"), ("DELETE", "/hraftd/lock/l?token=1")] {
        server.ask(method, target, "1").await.is_error(400, "bad_request", "no body");
        let conditional = server.ask_with(method, target, &["If-Match: *"], b"").await;
        conditional.is_error(400, "bad_request", "token");
    }
    let post = "/hraftd/lock/l?ttl=1s";
    for body in ["{", "x", "1 2", "\"\n\"", " "] {
        server.ask("POST", post, body).await.is_error(400, "bad_request", "one JSON value");
    }
    server.ask("POST", post, &"[".repeat(129)).await.is_error(400, "bad_request", "128 levels");
    let big = format!("\"{}\"", "v".repeat(999));
    server.ask("POST", post, &big).await.is_error(413, "too_large", "--max-value");
    server.ask("POST", post, &"x".repeat(4001)).await.is_error(413, "too_large", "--max-request");
    server.ask_with("POST", post, &["If-None-Match: *"], b"").await.is_error(400, "bad_request", "nobody holds");
    server.ask("PATCH", post, "").await.is_error(405, "method_not_allowed", "PATCH");
    assert!(server.fake.calls().is_empty());
}

#[tokio::test]
async fn who_waits_gets_it_in_order() {
    let server = Server::start().await;
    server.ask("POST", "/hraftd/lock/l?ttl=15s", "1").await;
    let first = async {
        let got = server.ask("POST", FIVE, "2").await;
        got.is_ok(r#"{"ok":true,"name":"l","token":14,"ttl_ms":15000}"#);
        assert_eq!(got.header("x-hraftd-index"), Some("14"));
        server.get("/hraftd/lock/l").await.is_ok(r#"{"name":"l","token":14,"ttl_ms":15000,"body":2,"waiting":1}"#);
        server.fake.tick(15_000);
    };
    let second = async {
        waiting(&server, 1).await;
        let got = server.ask("POST", "/hraftd/lock/l?ttl=20s&wait=1m", "").await;
        got.is_ok(r#"{"ok":true,"name":"l","token":15,"ttl_ms":20000}"#);
    };
    let holder = async {
        waiting(&server, 2).await;
        assert_eq!(server.ask("DELETE", "/hraftd/lock/l?token=11", "").await.status, 200);
    };
    tokio::join!(first, second, holder);
    assert!(!server.fake.calls().iter().any(|call| call.contains("cancel")));
    // Nobody to wait for.
    let free = server.ask("POST", "/hraftd/lock/m?ttl=1s&wait=5m", "").await;
    assert_eq!(free.status, 200, "{free:?}");
}

#[tokio::test]
async fn waiting_in_vain() {
    let server = Server::start().await;
    server.ask("POST", "/hraftd/lock/l?ttl=15s", "").await;
    server.fake.calls();
    let holder = r#"{"name":"l","token":11,"ttl_ms":15000,"body":null,"waiting":0}"#;
    let answer = server.ask("POST", "/hraftd/lock/l?ttl=1s&wait=20ms&timeout=7s", "").await;
    answer.is_locked(holder, "15");
    assert!(answer.body.contains("for all of wait="), "{answer:?}");
    let calls = ["acquire lock l in 7", "cancel ticket 12 for lock l in 1", "settle None None 13"];
    assert_eq!(server.fake.calls(), calls);
    let answer = server.ask("POST", "/hraftd/lock/l?ttl=1s&wait=0s", "").await;
    answer.is_locked(holder, "15");
    // Its place expires before the node's own clock says so.
    let gone = async { server.ask("POST", FIVE, "").await.is_locked("null", "1") };
    let tick = async {
        waiting(&server, 1).await;
        server.fake.tick(300_000);
    };
    tokio::join!(gone, tick);
}

/// Each node that waits with a key may be the one whose answer is heard (found by simulation, seeds
/// 32 and 455).
#[tokio::test]
async fn whoever_waits_with_a_key_takes_nothing_from_its_repetition() {
    let server = Server::start().await;
    server.ask("POST", "/hraftd/lock/l?ttl=15s", "").await;
    server.fake.calls();
    const SHORT: &str = "/hraftd/lock/l?ttl=15s&wait=20ms";
    let ask = || server.ask_with("POST", SHORT, &["Idempotency-Key: a"], b"");
    let began = Instant::now();
    ask().await.is_error(504, "timeout", "same Idempotency-Key");
    assert!(began.elapsed() > Duration::from_secs(1), "the leader is given time to say so");
    // Its place is still there, and whoever repeats it gets the lock.
    assert_eq!(server.ask("DELETE", "/hraftd/lock/l?token=11", "").await.status, 200);
    ask().await.is_ok(r#"{"ok":true,"name":"l","token":13,"ttl_ms":15000}"#);
    let again = ["Idempotency-Key: b"];
    let in_vain = async { server.ask_with("POST", SHORT, &again, b"").await };
    let over = async {
        waiting(&server, 1).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        server.fake.tick(40);
    };
    let (answer, ()) = tokio::join!(in_vain, over);
    assert!(answer.status == 409 && answer.body.contains("for all of wait="), "{answer:?}");
    let calls = server.fake.calls();
    assert!(!calls.iter().any(|call| call.starts_with("cancel")), "{calls:?}");
}

#[tokio::test]
async fn a_node_that_stops_gives_the_place_back() {
    let server = Server::start().await;
    server.ask("POST", "/hraftd/lock/l?ttl=15s", "").await;
    let keyed = async {
        let answer = server.ask_with("POST", FIVE, &["Idempotency-Key: a"], b"").await;
        answer.is_error(503, "not_ready", "stopping");
    };
    let unkeyed = async {
        waiting(&server, 1).await;
        server.ask("POST", FIVE, "").await.is_error(503, "not_ready", "stopping");
    };
    let stop = async {
        waiting(&server, 2).await;
        server.fake.watches().unwrap().close();
    };
    tokio::join!(keyed, unkeyed, stop);
    assert_eq!(server.fake.lock_view("l").unwrap().waiting, 1, "the keyed one may be repeated elsewhere");
}

#[tokio::test]
async fn a_client_that_goes_gives_its_place_back() {
    let server = Server::start().await;
    server.ask("POST", "/hraftd/lock/l?ttl=15s", "").await;
    server.fake.calls();
    let post = |headers: &str| format!("POST {FIVE} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", server.addr);
    let mut client = server.connect().await;
    client.write_all(post("").as_bytes()).await.unwrap();
    waiting(&server, 1).await;
    drop(client);
    until("the place is given back", || server.fake.calls().contains(&"cancel l 12".to_owned())).await;

    // With a key it is found again, by another connection.
    let mut client = server.connect().await;
    client.write_all(post("Idempotency-Key: a\r\n").as_bytes()).await.unwrap();
    waiting(&server, 2).await;
    drop(client);
    let again = async {
        let got = server.ask_with("POST", FIVE, &["Idempotency-Key: a"], b"").await;
        got.is_ok(r#"{"ok":true,"name":"l","token":16,"ttl_ms":15000}"#);
        assert_eq!(got.header("idempotency-replayed"), Some("true"));
    };
    let release = async {
        until("it is repeated", || server.fake.applied_index() == 14).await;
        server.ask("DELETE", "/hraftd/lock/l?token=11", "").await;
        server.ask("DELETE", "/hraftd/lock/l?token=15", "").await;
    };
    tokio::join!(again, release);
    let again = server.ask_with("POST", FIVE, &["Idempotency-Key: a"], b"").await;
    again.is_ok(r#"{"ok":true,"name":"l","token":16,"ttl_ms":15000}"#);
    assert!(!server.fake.calls().iter().any(|call| call.starts_with("cancel")), "no keyed one is given back");
}

#[tokio::test]
async fn a_client_that_goes_while_its_entry_is_under_way() {
    let server = Server::start().await;
    server.fake.order(Orders { hang: true, ..Orders::default() });
    for (number, headers) in ["", "Idempotency-Key: a\r\n"].into_iter().enumerate() {
        let mut client = server.connect().await;
        let request = format!("POST /hraftd/lock/l{number}?ttl=1s HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", server.addr);
        client.write_all(request.as_bytes()).await.unwrap();
        let call = format!("acquire lock l{number} in 10");
        until("it is asked", || server.fake.calls().contains(&call)).await;
        // With a reset: one that only ends its side may want the answer.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        // A request on another connection tells that the server has seen the end of that one, or
        // soon will.
        server.get("/raft/health").await;
        server.fake.go();
        until("it is done", || server.fake.lock_view(&format!("l{number}")).is_some()).await;
        if headers.is_empty() {
            until("what nobody heard of is given back", || server.fake.calls().contains(&"cancel l0 11".to_owned()))
                .await;
        }
    }
    assert!(!server.fake.calls().contains(&"cancel l1 12".to_owned()));
}

#[tokio::test]
async fn errors_of_the_node() {
    let server = Server::start().await;
    let failed = |fail| Orders { fail: Some(fail), ..Orders::default() };
    server.fake.order(failed(NodeError::NoLeader("n2 and n3 do not answer".to_owned())));
    for (method, target) in [("POST", FIVE), ("PUT", "/hraftd/lock/l?token=1"), ("GET", "/hraftd/lock/l")] {
        server.ask(method, target, "").await.is_error(503, "no_leader", "n2");
    }
    server.fake.order(failed(NodeError::Timeout("no quorum".to_owned())));
    let answer = server.ask("DELETE", "/hraftd/lock/l?token=1", "").await;
    answer.is_error(504, "timeout", "outcome of this write is unknown");
    server.fake.order(Orders { panic: true, ..Orders::default() });
    server.ask("POST", FIVE, "").await.is_error(500, "internal", "log");
    server.fake.order(Orders::default());
    server.fake.calls();
    server.get("/hraftd/lock/l?level=none&freshness=1s&min_index=4").await.is_error(404, "not_found", "nobody");
    assert_eq!(server.fake.calls(), ["settle None Some(1s) 4"]);
}

#[tokio::test]
async fn locks_are_listed_in_pages() {
    let server = Server::start().await;
    server.get("/hraftd/lock?prefix=").await.is_ok("[]");
    for (name, body) in [("app/b", ""), ("b", "7"), ("app/a", "{\"id\": 1}")] {
        assert_eq!(server.ask("POST", &format!("/hraftd/lock/{name}?ttl=15s"), body).await.status, 200);
    }
    let a = r#"{"name":"app/a","token":13,"ttl_ms":15000,"body":{"id": 1},"waiting":0}"#;
    let b = r#"{"name":"app/b","token":11,"ttl_ms":15000,"body":null,"waiting":0}"#;
    let all = server.get("/hraftd/lock?prefix=app/").await;
    all.is_ok(&format!("[{a},{b}]"));
    assert_eq!((all.header("link"), all.header("x-hraftd-index")), (None, Some("13")));
    let page = server.get("/hraftd/lock?prefix=&limit=1&after=app/a").await;
    page.is_ok(&format!("[{b}]"));
    assert_eq!(page.header("link"), Some(r#"</hraftd/lock?prefix=&limit=1&after=app%2fb>; rel="next""#));
    server
        .get("/hraftd/lock?prefix=b&limit=1&after=a")
        .await
        .is_ok(r#"[{"name":"b","token":12,"ttl_ms":15000,"body":7,"waiting":0}]"#);
    server.get("/hraftd/lock?prefix=app/&after=c").await.is_ok("[]");
    for (query, part) in [("", "say which locks"), ("?prefix=a&limit=0", "limit=0"), ("?prefix=&keys", "keys")] {
        server.get(&format!("/hraftd/lock{query}")).await.is_error(400, "bad_request", part);
    }
    server.ask("POST", "/hraftd/lock?ttl=15s", "").await.is_error(405, "method_not_allowed", "POST");
}
