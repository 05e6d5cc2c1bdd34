//! Heads that are long, each within its limit.

use super::*;

/// Issue 18: heads of 58 KB, each within its limit, took 1,160 MiB in long polls, and as much where they never ended.
#[tokio::test]
async fn long_heads_together_have_so_much_room() {
    let (go, wait) = watch::channel(false);
    let limits = HttpLimits { long_heads: LongHeads::new(200 << 10), ..HttpLimits::default() };
    let numbers = limits.numbers.clone();
    let server = Server::start(router(wait), limits).await;
    let head = |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nA: {}{end}", "a".repeat(58_000));
    // One waits for its answer, one amid its head.
    let mut polls = server.connect().await;
    polls.write_all(head("/slow", "\r\n\r\n").as_bytes()).await.unwrap();
    slow_is_asked(&go).await;
    let mut half = server.connect().await;
    half.write_all(head("/", "").as_bytes()).await.unwrap();
    let refused = async || server.exchange(head("/", "\r\n\r\n").as_bytes()).await;
    timeout(SOON, async {
        while !refused().await.starts_with("HTTP/1.1 503 ") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a long head is refused");
    assert!(numbers.long_heads_refused.get() > 0);
    assert!(server.exchange(HELLO).await.ends_with("hello"), "a short one has room");
    go.send(true).unwrap();
    let answer = to_end(&mut polls).await;
    assert!(answer.ends_with("slow") && answer.contains("connection: close\r\n"), "{answer}");
    drop(half);
    timeout(SOON, async {
        while !refused().await.ends_with("hello") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("there is room again");
    // One that came with the body before it, and was read as such.
    let mut both = server.connect().await;
    let body = "b".repeat(300_000);
    let first = format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    both.write_all(&[first.as_bytes(), head("/", "\r\n\r\n").as_bytes()].concat()).await.unwrap();
    assert!(to_end(&mut both).await.contains(" 413 "));
}

/// The streams of appends went still after the 64 MiB that heads have: what they brought was taken for one long head.
#[tokio::test]
async fn what_comes_after_an_upgrade_is_no_head() {
    let echo = async |mut request: axum::extract::Request| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut socket = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let read = tokio::io::copy(&mut (&mut socket).take(1_000_000), &mut tokio::io::sink()).await.unwrap();
            socket.write_all(format!("read {read}").as_bytes()).await.unwrap();
        });
        (axum::http::StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "x")])
    };
    let limits = HttpLimits { long_heads: LongHeads::new(200 << 10), upgrades: true, ..HttpLimits::default() };
    let server = Server::start(Router::new().route("/", get(echo)), limits).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    client.write_all(&[b'a'; 1_000_000]).await.unwrap();
    assert!(timeout(SOON, to_end(&mut client)).await.unwrap().ends_with("read 1000000"));
}
