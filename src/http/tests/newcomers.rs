//! Connections on which nobody is known yet.

use super::*;

/// Issue 21, the second attack: connections that said nothing, or nothing that counts, kept a port's places.
#[tokio::test]
async fn connections_on_which_nobody_is_known_make_room() {
    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let router = Router::new().route("/", get(is_excess)).route("/public", get(|| async { "public" }));
    let numbers = Arc::<PortNumbers>::default();
    let long = Duration::from_secs(600);
    let limits = HttpLimits { connections: 2, excess: 1, header_timeout: long, idle_timeout: long, ..quick() };
    let server = Server::start(router, HttpLimits { numbers: numbers.clone(), ..limits }).await;
    let mut known = server.connect().await;
    known.write_all(ASK).await.unwrap();
    until(&mut known, "excess: false").await;
    let mut public = server.connect().await;
    public.write_all(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(&mut public, "public").await;
    let silent = [server.connect().await, server.connect().await];
    timeout(SOON, async { while !server.exchange(HELLO).await.ends_with("excess: false") {} }).await.unwrap();
    assert_eq!(timeout(SOON, public.read(&mut [0])).await.unwrap().unwrap_or(0), 0, "it made room");
    assert!(numbers.made_room.get() > 0);
    known.write_all(ASK).await.unwrap();
    until(&mut known, "excess: false").await;
    drop(silent);
}

/// It was the oldest, and was cut off amid its first request: how long an answer takes is the node's doing.
#[tokio::test]
async fn who_waits_for_an_answer_makes_room_after_who_says_nothing() {
    let (go, wait) = watch::channel(false);
    let router = router(wait).route("/known", get(is_excess));
    let long = Duration::from_secs(600);
    let limits = HttpLimits { connections: 2, excess: 1, header_timeout: long, idle_timeout: long, ..quick() };
    let server = Server::start(router, limits).await;
    let mut waits = asked(&server, "1.1", "/slow").await;
    slow_is_asked(&go).await;
    let mut silent = server.connect().await;
    let asks = async {
        while !server
            .exchange(b"GET /known HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .ends_with("excess: false")
        {}
    };
    timeout(SOON, asks).await.unwrap();
    assert_eq!(timeout(SOON, silent.read(&mut [0])).await.unwrap().unwrap_or(0), 0, "it made room");
    go.send(true).unwrap();
    until(&mut waits, "slow").await;
}
