//! More than is taken on at a time: refused at once, with 503 and `Retry-After`, and nothing is
//! done.

use super::*;
use fake::Orders;

async fn start(max_at_work: usize, max_waiting: usize) -> Server {
    Server::with(Fake::default(), ApiSettings { max_at_work, max_waiting, ..settings() }).await
}

/// Sends a request and leaves its connection open.
async fn begin(server: &Server, method: &str, target: &str, body: &str) -> TcpStream {
    let mut client = server.connect().await;
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// Until the node was asked so many things.
async fn asked(server: &Server, count: usize) {
    let mut calls = Vec::new();
    let asked = async {
        while calls.len() < count {
            calls.extend(server.fake.calls());
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, asked).await.unwrap();
}

#[tokio::test]
async fn too_many_requests() {
    let server = start(2, 10).await;
    server.fake.order(Orders { hang: true, ..Orders::default() });
    let first = begin(&server, "PUT", "/key/a", "1").await;
    let second = begin(&server, "GET", "/key/b", "").await;
    asked(&server, 2).await;
    for (method, target, body) in [
        ("GET", "/key/k", ""),
        ("PUT", "/key/k", "1"),
        ("DELETE", "/key/k", ""),
        ("POST", "/key", r#"{"k":1}"#),
        ("GET", "/key?prefix=", ""),
        ("POST", "/hraftd/txn", r#"{"then":[]}"#),
        ("POST", "/hraftd/lock/l?ttl=5s&wait=5s", ""),
        ("GET", "/hraftd/watch?prefix=", ""),
    ] {
        let refused = server.ask(method, target, body).await;
        refused.is_error(503, "overloaded", "nothing was done");
        assert!(refused.header("x-hraftd-index").is_some() && refused.header("x-hraftd-served-by").is_some());
    }
    // What an operator asks is answered all the same.
    assert_eq!(server.get("/raft/state").await.status, 200);
    assert_eq!(server.get("/raft/health").await.status, 200);
    assert!(server.fake.calls().is_empty());
    server.fake.order(Orders::default());
    for mut hung in [first, second] {
        server.fake.go();
        assert!(answer(&mut hung).await.status < 500);
    }
    assert_eq!(server.ask("PUT", "/key/k", "1").await.status, 201);
}

#[tokio::test]
async fn those_who_wait_are_counted_apart() {
    let server = start(1, 3).await;
    let mut waiting = Vec::new();
    for target in ["/hraftd/watch?prefix=", "/key/k?wait=30s", "/key?prefix=&min_index=12&timeout=30s"] {
        server.fake.calls();
        waiting.push(begin(&server, "GET", target, "").await);
        asked(&server, 1).await;
        // Its place at work is the only one; then it has left that.
        let full = waiting.len() == 3;
        let waits = async {
            while server.get("/key/k").await.status == 503
                || (server.get("/key/k?wait=1ms").await.status == 503) != full
            {}
        };
        timeout(SOON, waits).await.unwrap();
    }
    for (method, target) in [
        ("GET", "/key/k?wait=1s"),
        ("POST", "/hraftd/lock/l?ttl=5s&wait=5s"),
        ("GET", "/key/k?min_index=999"),
        ("GET", "/key?prefix=&min_index=999"),
        ("GET", "/hraftd/lock/l?min_index=999"),
    ] {
        server.ask(method, target, "").await.is_error(503, "overloaded", "wait or watch");
    }
    // None of them is in the way of those that are done at once.
    assert_eq!(server.ask("PUT", "/key/other", "1").await.status, 201);
    assert_eq!(server.ask("PUT", "/key/k", "1").await.status, 201);
    for client in &mut waiting[1..] {
        assert_eq!(answer(client).await.status, 200);
    }
    assert_eq!(server.get("/key/k?wait=1s").await.status, 200, "their places are free");
}

/// A slow sender has no place: else a few of them would keep all others out.
#[tokio::test]
async fn a_body_that_does_not_come_holds_no_place() {
    let server = start(1, 0).await;
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut client = server.connect().await;
        let head = "PUT /key/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1";
        client.write_all(head.as_bytes()).await.unwrap();
        slow.push(client);
    }
    assert_eq!(server.ask("PUT", "/key/k", "1").await.status, 201);
    assert_eq!(server.get("/key/k").await.status, 200);
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    // More than all the room, and more than the kernel takes.
    const VALUE: usize = 4 << 20;
    let settings = ApiSettings { max_value_bytes: 2 * VALUE, max_request_bytes: 4 * VALUE, ..settings() };
    let server = Server::with(Fake::default(), settings).await;
    assert_eq!(server.ask("PUT", "/key/big", &"x".repeat(VALUE)).await.status, 201);
    assert_eq!(server.ask("PUT", "/key/small", "x").await.status, 201);
    let mut stuck = Vec::new();
    let refused = async {
        loop {
            let mut client = begin(&server, "GET", "/key/big", "").await;
            let mut head = [0; 12];
            client.read_exact(&mut head).await.unwrap();
            if &head == b"HTTP/1.1 503" {
                return client;
            }
            stuck.push(client);
        }
    };
    let mut refused = timeout(SOON, refused).await.unwrap();
    let mut rest = Vec::new();
    refused.read_to_end(&mut rest).await.unwrap();
    let rest = String::from_utf8(rest).unwrap().to_lowercase();
    assert!(rest.contains("retry-after: 1") && rest.contains("overloaded") && rest.contains("no room"), "{rest}");
    assert!(stuck.len() >= 32, "{}", stuck.len());
    assert_eq!(server.get("/key/small").await.status, 200);
    let txn = server.ask("POST", "/hraftd/txn", r#"{"then":[{"get":"big"}]}"#).await;
    txn.is_error(503, "overloaded", "no room");
    let txn = server.ask("POST", "/hraftd/txn", r#"{"then":[{"set":{"small":1}},{"get":"big"}]}"#).await;
    assert_eq!(txn.status, 504, "it was run, and a 503 would say that it was not");
    stuck.clear();
    let again = async { while server.get("/key/big").await.status != 200 {} };
    timeout(SOON, again).await.unwrap();
}

/// Issue 18, A4: one client filled the room for kept outcomes, and nobody else got any.
#[tokio::test]
async fn a_client_that_has_its_share_of_kept_outcomes() {
    let (fake, listener) = (Fake::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let api = Api::new(fake.clone(), settings());
    let most = crate::kv::RetryUse::SHARE;
    api.app.retry_shares.took(&Client::at(addr.ip()), crate::kv::RetryUse { bytes: 0, count: most.count - 1 });
    tokio::spawn(serve(vec![listener], api, Vec::new(), HttpLimits::default(), std::future::pending::<()>()));
    let server = Server { addr, fake };
    server.fake.order(Orders { scarce_room: true, ..Orders::default() });
    let put = async |key: &str| server.ask_with("PUT", "/key/k", &[&format!("Idempotency-Key: {key}")], b"1").await;
    assert_eq!(put("a").await.status, 201, "the last of its share");
    put("b").await.is_error(503, "overloaded", "nothing was done");
    assert_eq!(server.ask("DELETE", "/key/k", "").await.status, 200, "nothing of it is kept");
    let (before, again) = (server.fake.keys(), put("a").await);
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")), "a repetition");
    server.ask_with("POST", "/hraftd/txn", &["Idempotency-Key: c"], b"{\"then\":[]}").await.is_error(
        503,
        "overloaded",
        "",
    );
    server.ask_with("POST", "/hraftd/lock/l?ttl=5s", &["Idempotency-Key: d"], b"").await.is_error(
        503,
        "overloaded",
        "",
    );
    assert_eq!(server.fake.keys(), before);
    server.fake.order(Orders::default());
    assert_eq!(put("b").await.status, 201, "there is room for everybody");
}
