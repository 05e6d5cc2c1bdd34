//! HTTP/2 over real loopback sockets: one half with a client that keeps the rules, the other with frames made by hand.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Method, Request};
use axum::routing::{get, post};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::http::LongHeads;
use crate::http::preface::PREFACE;
use crate::http::tests::{Endless, SOON, Server, is_excess, quick, router, slow_is_asked, until_dropped};

/// A client on a connection of its own. The sender for streams; what ends with the connection.
async fn client(server: &Server) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    // One stream that is not read must not hold the others up at this end.
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    let (send, connection) = builder.handshake(server.connect().await).await.unwrap();
    (send, tokio::spawn(connection))
}

/// Sends the head of a request, and its body if there is one.
async fn ask(send: &SendRequest<Bytes>, method: Method, path: &str, body: Option<&'static [u8]>) -> Answer {
    let request = Request::builder().method(method).uri(format!("http://x{path}")).body(()).unwrap();
    let mut send = timeout(SOON, send.clone().ready()).await.unwrap().unwrap();
    let (answer, mut stream) = send.send_request(request, body.is_none()).unwrap();
    if let Some(body) = body {
        stream.send_data(Bytes::from_static(body), true).unwrap();
    }
    Answer(answer)
}

struct Answer(h2::client::ResponseFuture);

impl Answer {
    async fn head(self) -> Result<(u16, HeaderMap, RecvStream), h2::Error> {
        let (head, body) = timeout(SOON, self.0).await.unwrap()?.into_parts();
        Ok((head.status.as_u16(), head.headers, body))
    }

    async fn whole(self) -> Result<(u16, String), h2::Error> {
        let (status, _, mut body) = self.head().await?;
        let mut all = Vec::new();
        while let Some(data) = timeout(SOON, body.data()).await.unwrap() {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            all.extend_from_slice(&data);
        }
        Ok((status, String::from_utf8(all).unwrap()))
    }
}

async fn echo(body: Bytes) -> Bytes {
    body
}

#[tokio::test]
async fn requests_of_one_connection_do_not_wait_for_one_another() {
    let (go, wait) = watch::channel(false);
    let server = Server::start(router(wait).route("/echo", post(echo)), quick()).await;
    let (send, _connection) = client(&server).await;
    let slow = ask(&send, Method::GET, "/slow", None).await;
    for _ in 0..300 {
        assert_eq!(ask(&send, Method::GET, "/", None).await.whole().await.unwrap(), (200, "hello".to_owned()));
    }
    let (status, headers, mut body) = ask(&send, Method::HEAD, "/", None).await.head().await.unwrap();
    assert_eq!((status, &headers["content-length"]), (200, &"5".parse().unwrap()));
    assert!(headers.contains_key("date") && body.data().await.is_none(), "{headers:?}");
    // Longer than all windows, both ways.
    static LONG: &[u8] = &[b'x'; 3 << 20];
    let (mut some, request) = (send.clone(), Request::post("http://x/echo").body(()).unwrap());
    let (answer, mut stream) = some.send_request(request, false).unwrap();
    let sent = tokio::spawn(async move {
        let mut left = Bytes::from_static(LONG);
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            // It ends with the answer.
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            if stream.send_data(left.split_to(room.min(left.len())), false).is_err() {
                return;
            }
        }
    });
    // axum takes no more than 2 MiB here, and says so while the client sends.
    assert_eq!(Answer(answer).head().await.unwrap().0, 413);
    sent.await.unwrap();
    go.send(true).unwrap();
    assert_eq!(slow.whole().await.unwrap(), (200, "slow".to_owned()));
    assert_eq!(ask(&send, Method::POST, "/echo", Some(b"abc")).await.whole().await.unwrap(), (200, "abc".to_owned()));
}

/// See `long_heads_together_have_so_much_room`.
#[tokio::test]
async fn long_heads_of_streams_have_so_much_room() {
    let (go, wait) = watch::channel(false);
    let limits = HttpLimits { long_heads: LongHeads::new(500 << 10), ..HttpLimits::default() };
    let server = Server::start(router(wait), limits).await;
    let (send, _connection) = client(&server).await;
    let long = async |path: &str| {
        let request = Request::get(format!("http://x{path}")).header("a", "a".repeat(12_000)).body(()).unwrap();
        let mut send = timeout(SOON, send.clone().ready()).await.unwrap().unwrap();
        Answer(send.send_request(request, true).unwrap().0)
    };
    let mut slow = Vec::new();
    for _ in 0..41 {
        slow.push(long("/slow").await);
    }
    let (status, headers, _) = long("/").await.head().await.unwrap();
    assert_eq!((status, &headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(ask(&send, Method::GET, "/", None).await.whole().await.unwrap().0, 200, "a short one has room");
    go.send(true).unwrap();
    for slow in slow {
        assert_eq!(slow.whole().await.unwrap().1, "slow");
    }
    assert_eq!(long("/").await.whole().await.unwrap().0, 200);
    // Fields of one byte each: a head that goes on is counted as large as it may be.
    let small = HttpLimits { long_heads: LongHeads::new(300 << 10), ..HttpLimits::default() };
    let numbers = small.numbers.clone();
    let server = Server::start(router(go.subscribe()), small).await;
    let half = [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82]].concat();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.write_all(&half).await.unwrap();
        clients.push(client);
    }
    timeout(SOON, async {
        while numbers.calmed.get() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the second is sent away");
}

/// A client that reads one answer and not the other; see `a_client_that_takes_nothing_is_cut_off`.
#[tokio::test]
async fn an_answer_that_is_not_taken_is_cut_alone() {
    let seen = Arc::default();
    let (go, wait) = watch::channel(false);
    let limits = HttpLimits { write_timeout: Duration::from_millis(400), ..quick() };
    let numbers = limits.numbers.clone();
    let endless = Router::new().nest("/endless", Endless::router(&seen));
    let server = Server::start(router(wait).merge(endless), limits).await;
    let (send, _connection) = client(&server).await;
    let slow = ask(&send, Method::GET, "/slow", None).await;
    let (_, _, mut kept) = ask(&send, Method::GET, "/endless", None).await.head().await.unwrap();
    let began = Instant::now();
    until_dropped(&seen).await;
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    let (end, mut taken) = loop {
        match timeout(SOON, kept.data()).await.unwrap() {
            Some(Ok(_)) => {}
            other => break (other, 0),
        }
    };
    assert_eq!(end.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
    assert_eq!(numbers.streams_cut.get(), 1);
    // One that is taken may go on for ever.
    let (_, _, mut body) = ask(&send, Method::GET, "/endless", None).await.head().await.unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let data = timeout(SOON, body.data()).await.unwrap().unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        taken += data.len();
    }
    assert!(taken > 1 << 20, "{taken}");
    go.send(true).unwrap();
    assert_eq!(slow.whole().await.unwrap(), (200, "slow".to_owned()), "nobody else was cut");
}

/// What its handler holds is free again, as a place in a queue of a lock.
#[tokio::test]
async fn a_reset_and_a_hang_up_end_their_requests() {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            OPEN.fetch_sub(1, Relaxed);
        }
    }
    async fn wait() {
        OPEN.fetch_add(1, Relaxed);
        let _ends = Ends;
        std::future::pending::<()>().await;
    }
    let reach = async |count| {
        let reached = async {
            while OPEN.load(Relaxed) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(SOON, reached).await.unwrap();
    };
    let server = Server::start(Router::new().route("/wait", get(wait)), quick()).await;
    let (send, connection) = client(&server).await;
    let first = ask(&send, Method::GET, "/wait", None).await;
    let _second = ask(&send, Method::GET, "/wait", None).await;
    reach(2).await;
    drop(first);
    reach(1).await;
    connection.abort();
    reach(0).await;
}

#[tokio::test]
async fn a_stop_is_told_and_what_is_in_hand_is_answered() {
    let (go, wait) = watch::channel(false);
    let mut server = Server::start(router(wait), HttpLimits { linger: SOON, ..HttpLimits::default() }).await;
    let (idle, idle_connection) = client(&server).await;
    ask(&idle, Method::GET, "/", None).await.whole().await.unwrap();
    let (send, connection) = client(&server).await;
    let slow = ask(&send, Method::GET, "/slow", None).await;
    slow_is_asked(&go).await;
    server.stop();
    timeout(SOON, idle_connection).await.unwrap().unwrap().unwrap();
    // The client knows that it is to send no more.
    let told = async {
        while send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    timeout(SOON, told).await.unwrap();
    assert!(!connection.is_finished());
    go.send(true).unwrap();
    assert_eq!(slow.whole().await.unwrap(), (200, "slow".to_owned()));
    timeout(SOON, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn too_many_streams_and_connections_are_in_excess() {
    let (go, wait) = watch::channel(false);
    let all = router(wait).route("/excess", get(is_excess));
    let server = Server::start(all, HttpLimits { connections: 2, ..quick() }).await;
    let (send, _connection) = client(&server).await;
    let slow = [ask(&send, Method::GET, "/slow", None).await, ask(&send, Method::GET, "/slow", None).await];
    let is = |excess: bool| Ok::<_, ()>((200, format!("excess: {excess}")));
    assert_eq!(ask(&send, Method::GET, "/excess", None).await.whole().await.map_err(drop), is(true));
    go.send(true).unwrap();
    for slow in slow {
        slow.whole().await.unwrap();
    }
    assert_eq!(ask(&send, Method::GET, "/excess", None).await.whole().await.map_err(drop), is(false));
    let (other, _open) = client(&server).await;
    assert_eq!(ask(&other, Method::GET, "/excess", None).await.whole().await.map_err(drop), is(false));
    let (more, closed) = client(&server).await;
    assert_eq!(ask(&more, Method::GET, "/excess", None).await.whole().await.map_err(drop), is(true));
    timeout(SOON, closed).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn who_waits_for_it_is_told_to_go_on_once_the_body_is_wanted() {
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait).route("/echo", post(echo)), quick()).await;
    let (mut send, _connection) = client(&server).await;
    for (path, told) in [("/echo", true), ("/refuse", false)] {
        let request = Request::post(format!("http://x{path}")).header("expect", "100-continue").body(()).unwrap();
        let (mut answer, mut stream) = send.send_request(request, false).unwrap();
        if told {
            let interim = timeout(SOON, poll_fn(|cx| answer.poll_informational(cx))).await.unwrap();
            assert_eq!(interim.unwrap().unwrap().status(), 100);
            stream.send_data(Bytes::from_static(b"abc"), true).unwrap();
            assert_eq!(Answer(answer).whole().await.unwrap(), (200, "abc".to_owned()));
        } else {
            assert_eq!(Answer(answer).head().await.unwrap().0, 413);
        }
    }
}

/// Frames made by hand.
struct Raw(TcpStream);

impl Raw {
    async fn open(server: &Server) -> Self {
        let mut raw = Self(server.connect().await);
        raw.send(PREFACE).await;
        raw.frame(4, 0, 0, &[]).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed, which is looked at elsewhere.
        let _ = self.0.write_all(bytes).await;
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [.., a, b, c] = payload.len().to_be_bytes();
        self.send(&[&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()).await;
    }

    /// `GET /slow`, without and with the end of its head.
    const ASK: &[u8] = b"\x82\x86\x04\x05/slow\x41\x01x";

    /// Reads until the frame of this kind has come: its payload; `None`: the end came first.
    async fn until(&mut self, kind: u8) -> Option<Vec<u8>> {
        timeout(SOON, async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.ok()?;
                let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                self.0.read_exact(&mut payload).await.ok()?;
                if head[3] == kind {
                    return Some(payload);
                }
            }
        })
        .await
        .unwrap()
    }

    /// The reason of a GOAWAY that comes.
    async fn goes_away(&mut self) -> Option<Reason> {
        let payload = self.until(7).await?;
        Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()).into())
    }

    async fn ends(&mut self) {
        let mut rest = Vec::new();
        let _ = timeout(SOON, self.0.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn a_preface_may_come_in_parts_and_must_come_soon() {
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait), HttpLimits { header_timeout: SOON, ..quick() }).await;
    for part in [1, 3, 11, 12, 13, 23] {
        let mut raw = Raw(server.connect().await);
        for bytes in [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat().chunks(part) {
            raw.send(bytes).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        raw.frame(1, 5, 1, b"\x82\x86\x84\x41\x01x").await;
        assert_eq!(raw.until(0).await.unwrap(), b"hello", "{part}");
    }
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait), quick()).await;
    for part in [&PREFACE[..5], &PREFACE[..18]] {
        let mut raw = Raw(server.connect().await);
        raw.send(part).await;
        raw.ends().await;
    }
}

#[tokio::test]
async fn half_a_head_is_given_its_time_and_no_more() {
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait), quick()).await;
    let mut raw = Raw::open(&server).await;
    raw.frame(1, 1, 1, Raw::ASK).await;
    assert_eq!(raw.goes_away().await, Some(Reason::ENHANCE_YOUR_CALM), "the rest is to come in a CONTINUATION");
    raw.ends().await;
    let mut raw = Raw::open(&server).await;
    raw.send(&[0, 0, 9, 1, 5, 0]).await;
    assert_eq!(raw.goes_away().await, Some(Reason::ENHANCE_YOUR_CALM), "half a head of a frame");
}

#[tokio::test]
async fn an_idle_connection_is_told_and_a_silent_one_is_asked() {
    let (_go, wait) = watch::channel(false);
    let limits = HttpLimits { idle_timeout: Duration::from_millis(150), ..quick() };
    let server = Server::start(router(wait), limits).await;
    let mut raw = Raw::open(&server).await;
    assert_eq!(raw.goes_away().await, Some(Reason::NO_ERROR));
    raw.ends().await;
    let mut raw = Raw::open(&server).await;
    raw.frame(1, 5, 1, Raw::ASK).await;
    for _ in 0..2 {
        let ping = raw.until(6).await.unwrap();
        raw.frame(6, 1, 0, &ping).await;
    }
    raw.until(6).await.unwrap();
    // It says nothing more.
    raw.ends().await;
}

/// With the library's own bounds beside those of [`frames`].
#[tokio::test]
async fn floods_are_calmed() {
    let (_go, wait) = watch::channel(false);
    let limits = HttpLimits { header_timeout: SOON, ..quick() };
    let numbers = limits.numbers.clone();
    let server = Server::start(router(wait), limits).await;
    let calm = Some(Reason::ENHANCE_YOUR_CALM);
    for (what, kind, stream, payload) in [
        ("ping", 6, 0, &[0; 8][..]),
        ("settings", 4, 0, &[]),
        ("priority", 2, 5, &[0; 5]),
        ("window of a stream", 8, 1, &[0, 0, 0, 1]),
        ("window of the connection", 8, 0, &[0, 0, 0, 1]),
        ("unknown", 0x42, 0, &[]),
        ("empty data", 0, 1, &[]),
    ] {
        let mut raw = Raw::open(&server).await;
        // One that waits, and has a body to come.
        raw.frame(1, 4, 1, Raw::ASK).await;
        let done = AtomicBool::new(false);
        let (mut read, write) = raw.0.into_split();
        let flood = async {
            let mut raw = write;
            let [.., a, b, c] = payload.len().to_be_bytes();
            let frame = [&[a, b, c, kind, 0][..], &u32::to_be_bytes(stream), payload].concat();
            let many = frame.repeat(1_000);
            while !done.load(Relaxed) && raw.write_all(&many).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let reading = async {
            let mut all = Vec::new();
            let _ = timeout(SOON, read.read_to_end(&mut all)).await.unwrap();
            done.store(true, Relaxed);
            all
        };
        let (all, ()) = tokio::join!(reading, flood);
        // The last frame: GOAWAY, and why.
        let goaway = all.windows(9).rposition(|head| head[..2] == [0, 0] && head[3..9] == [7, 0, 0, 0, 0, 0]).unwrap();
        let reason = u32::from_be_bytes(all[goaway + 13..goaway + 17].try_into().unwrap());
        assert_eq!(Some(Reason::from(reason)), calm, "{what}");
    }
    // The library tells of what it ended itself once the connection is closed.
    let counted = async {
        while numbers.calmed.get() < 7 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, counted).await.unwrap();
    let mut raw = Raw::open(&server).await;
    for request in 0..1_000 {
        raw.frame(1, 5, request * 2 + 1, Raw::ASK).await;
        raw.frame(3, 0, request * 2 + 1, &[0, 0, 0, 8]).await;
    }
    let over = async {
        while numbers.streams() > 0 || numbers.streams_begun.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, over).await.unwrap();
}
