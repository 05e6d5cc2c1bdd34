//! Bodies that are too large, too slow or broken: nothing of them is stored.

use super::*;

fn head(addr: SocketAddr, more: &str) -> String {
    format!("POST /hraftd/key HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{more}\r\n\r\n")
}

async fn assert_nothing_stored(server: &Server) {
    assert!(server.fake.calls().is_empty());
    assert!(server.fake.keys().is_empty());
}

#[tokio::test]
async fn bad_bodies() {
    let server = Server::start().await;
    for body in ["", "{}", "[]", "k=v", r#"{"k":1,"k":2}"#, r#"{"k":NaN}"#, r#"{"k":1} x"#, r#"{"":1}"#] {
        server.ask("POST", "/key", body).await.is_error(400, "bad_request", "");
    }
    let deep = format!("{{\"k\":{}", "[".repeat(3900));
    server.ask("POST", "/key", &deep).await.is_error(400, "bad_request", "128");
    let value = "v".repeat(1000);
    let long = server.ask("POST", "/key", &format!(r#"{{"a":1,"k":"{value}"}}"#)).await;
    long.is_error(413, "too_large", "--max-value");
    assert_nothing_stored(&server).await;
}

#[tokio::test]
async fn a_content_length_over_the_limit_is_refused_before_the_body() {
    let server = Server::start().await;
    // No byte of the body is sent, and no "100 Continue" comes.
    for more in ["Content-Length: 4001", "Content-Length: 99999999\r\nExpect: 100-continue"] {
        let answer = server.raw(&head(server.addr, more)).await;
        answer.is_error(413, "too_large", "--max-request");
        assert!(answer.body.contains("4000"), "{answer:?}");
    }
    let mut client = server.connect().await;
    client.write_all(head(server.addr, "Content-Length: 7\r\nExpect: 100-continue").as_bytes()).await.unwrap();
    let mut go = [0; 25];
    timeout(SOON, client.read_exact(&mut go)).await.unwrap().unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"{\"k\":1}").await.unwrap();
    assert_eq!(answer(&mut client).await.status, 200);
}

#[tokio::test]
async fn a_streamed_body_is_counted_and_the_client_sees_the_answer() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.write_all(head(server.addr, "Transfer-Encoding: chunked").as_bytes()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    // A client that does not look up until it has sent it all: 4 MiB.
    for _ in 0..1000 {
        client.write_all(chunk.as_bytes()).await.unwrap();
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    answer(&mut client).await.is_error(413, "too_large", "--max-request");
    assert_nothing_stored(&server).await;
}

#[tokio::test]
async fn a_chunked_body_within_the_limit_is_put_together() {
    let server = Server::start().await;
    let mut request =
        head(server.addr, "Transfer-Encoding: chunked\r\nContent-Type: application/x-www-form-urlencoded");
    for part in [r#"{"k"#, r#"":"a "#, r#"b"}"#] {
        request.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
    }
    request.push_str("0\r\n\r\n");
    assert_eq!(server.raw(&request).await.status, 200);
    server.get("/key/k").await.is_ok(r#"{"k":"a b"}"#);
}

#[tokio::test]
async fn a_body_must_arrive_in_time_and_whole() {
    let server = Server::start().await;
    let slow = "POST /key?timeout=1ms HTTP/1.0\r\nContent-Length: 10\r\n\r\n{\"k\"";
    server.raw(slow).await.is_error(408, "request_timeout", "1ms");
    let broken = head(server.addr, "Transfer-Encoding: chunked") + "5\r\n{\"k\":\r\nzz\r\n";
    server.raw(&broken).await.is_error(400, "bad_request", "broke off");
    assert_nothing_stored(&server).await;
}

#[tokio::test]
async fn a_kept_connection_serves_on_after_errors() {
    let server = Server::start().await;
    let mut requests = String::new();
    for target in ["/key/%", "/nope", "/key/k"] {
        requests.push_str(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    requests.push_str("GET /raft/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let all = server.raw(&requests).await;
    assert_eq!(all.status, 400);
    assert_eq!(all.body.matches("HTTP/1.1 404").count(), 2);
    assert!(all.body.ends_with("OK"), "{all:?}");
}

/// Issue 18, D4: a gzip body was stored compressed, and given back without `Content-Encoding`.
#[tokio::test]
async fn a_compressed_body_is_refused() {
    let server = Server::start().await;
    for (method, target) in
        [("PUT", "/key/k"), ("POST", "/key"), ("POST", "/hraftd/txn"), ("POST", "/raft/join"), ("PUT", "/key/k?json")]
    {
        let answer = server.ask_with(method, target, &["Content-Encoding: gzip"], b"\x1f\x8b").await;
        answer.is_error(415, "unsupported_media_type", "gzip");
        assert_eq!(answer.header("accept-encoding"), Some("identity"), "{method} {target}");
    }
    assert!(server.fake.calls().is_empty());
    assert_eq!(server.ask_with("PUT", "/key/k", &["Content-Encoding: identity"], b"1").await.status, 201);
    assert_eq!(server.ask_with("GET", "/key/k", &["Content-Encoding: gzip"], b"").await.status, 200);
}

/// Issue 18, D2: `curl -C 3 -T file` replaced a value by the end of it.
#[tokio::test]
async fn a_part_of_a_value_does_not_replace_it() {
    let server = Server::start().await;
    assert_eq!(server.ask("PUT", "/key/k", "foobar").await.status, 201);
    let part = server.ask_with("PUT", "/key/k", &["Content-Range: bytes 3-5/6"], b"bar").await;
    part.is_error(400, "bad_request", "Content-Range");
    assert_eq!(server.get("/key/k?raw").await.body, "foobar");
}
