//! The accept loop over real loopback sockets.

mod long_heads;
mod newcomers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

pub(super) const SOON: Duration = Duration::from_secs(60);

pub(super) struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub(super) task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(router: Router, limits: HttpLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(vec![listener], router, Vec::new(), limits, stopped));
        Self { addr, stop: Some(stop), task }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    pub(super) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Sends bytes and returns all that comes until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes).await.unwrap();
        to_end(&mut client).await
    }
}

async fn to_end(client: &mut TcpStream) -> String {
    let mut all = Vec::new();
    timeout(SOON, client.read_to_end(&mut all)).await.unwrap().unwrap();
    String::from_utf8(all).unwrap()
}

/// Reads until `end` has come.
async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        all.push(timeout(SOON, client.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(all).unwrap()
}

/// Waits until a request for `/slow` of [`router`] is at work.
pub(super) async fn slow_is_asked(go: &watch::Sender<bool>) {
    timeout(SOON, async {
        while go.receiver_count() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// `/slow` answers once the switch is on; `/refuse` answers without reading the body.
pub(super) fn router(go: watch::Receiver<bool>) -> Router {
    let slow = move || {
        let mut go = go.clone();
        async move {
            go.wait_for(|go| *go).await.unwrap();
            "slow"
        }
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/slow", get(slow))
        .route("/panic", get(panics))
        .route("/refuse", post(|| async { Response::builder().status(413).body(Body::from("no")).unwrap() }))
}

async fn panics() -> &'static str {
    panic!("wanted by a test")
}

pub(super) fn quick() -> HttpLimits {
    HttpLimits {
        header_timeout: Duration::from_millis(50),
        linger: Duration::from_millis(500),
        ..HttpLimits::default()
    }
}

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn garbage_harms_only_its_own_connection() {
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait), quick()).await;
    let mut keep = server.connect().await;
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/1.2\r\n\r\n"]
    {
        let answer = server.exchange(garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut head = b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    head.resize(100 * 1024, b'x');
    assert!(server.exchange(&head).await.starts_with("HTTP/1.1 431"));
    keep.write_all(HELLO).await.unwrap();
    assert!(to_end(&mut keep).await.ends_with("hello"));
}

#[tokio::test]
async fn a_slow_head_gets_a_408() {
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait), quick()).await;
    assert!(server.exchange(b"GET / HTT").await.starts_with("HTTP/1.1 408 "));
    // Also on a connection that has served a request, and for one that drips.
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(&mut client, "hello").await;
    let (mut reader, mut writer) = client.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut all = String::new();
    // The drip goes on, so that a reset may end this.
    let _ = timeout(SOON, reader.read_to_string(&mut all)).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 408 "), "{all}");
    drip.abort();
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word_and_a_busy_one_is_not() {
    let (go, wait) = watch::channel(false);
    let limits = HttpLimits { idle_timeout: Duration::from_millis(150), ..quick() };
    let server = Server::start(router(wait), limits).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(&mut client, "hello").await;
    assert_eq!(to_end(&mut client).await, "");
    // By now the other has waited longer than any limit.
    go.send(true).unwrap();
    until(&mut busy, "slow").await;
}

/// How many pieces of an endless body were taken, and whether it was dropped.
pub(super) struct Endless(Arc<(AtomicUsize, AtomicBool)>);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.1.store(true, Relaxed);
    }
}

impl Endless {
    const PIECE: &[u8] = &[b'x'; 1000];

    pub(super) fn router(seen: &Arc<(AtomicUsize, AtomicBool)>) -> Router {
        let seen = seen.clone();
        let body = move || {
            let body = Self(seen.clone());
            let pieces = std::iter::repeat_with(move || {
                body.0.0.fetch_add(1, Relaxed);
                Ok::<_, std::convert::Infallible>(Bytes::from_static(Self::PIECE))
            });
            async { Body::from_stream(futures_util::stream::iter(pieces)) }
        };
        Router::new().route("/", get(body))
    }
}

/// One that does not read costs what the kernel takes and little more, and is cut off; one that
/// reads is not.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let seen = Arc::default();
    let limits = HttpLimits { write_timeout: Duration::from_millis(400), ..quick() };
    let server = Server::start(Endless::router(&seen), limits).await;
    let mut reader = server.connect().await;
    reader.write_all(HELLO).await.unwrap();
    let (mut space, mut taken, began) = (vec![0; 1 << 16], 0, Instant::now());
    while began.elapsed() < Duration::from_secs(1) {
        taken += timeout(SOON, reader.read(&mut space)).await.unwrap().unwrap();
    }
    assert!(taken > 1 << 20 && !seen.1.load(Relaxed), "{taken}");
    drop(reader);
    until_dropped(&seen).await;

    seen.0.store(0, Relaxed);
    seen.1.store(false, Relaxed);
    let mut client = server.connect().await;
    client.write_all(HELLO).await.unwrap();
    until_dropped(&seen).await;
    // What the kernel had taken still comes.
    let mut all = Vec::new();
    timeout(SOON, client.read_to_end(&mut all)).await.unwrap().unwrap();
    assert!(all.len() < 2 << 20, "the kernel took {} bytes", all.len());
    let asked = seen.0.load(Relaxed) * Endless::PIECE.len();
    assert!(all.len() + 16_000 > asked, "{asked} bytes were asked for, and {} came", all.len());
}

pub(super) async fn until_dropped(seen: &(AtomicUsize, AtomicBool)) {
    let dropped = async {
        while !seen.1.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, dropped).await.unwrap();
}

#[tokio::test]
async fn a_panic_ends_one_connection() {
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait), quick()).await;
    assert_eq!(server.exchange(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await, "");
    assert!(server.exchange(HELLO).await.ends_with("hello"));
}

#[tokio::test]
async fn a_refusal_is_seen_by_a_client_that_is_still_sending() {
    let (_go, wait) = watch::channel(false);
    let server = Server::start(router(wait), quick()).await;
    let mut client = server.connect().await;
    client.write_all(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n").await.unwrap();
    // Without the lingering close this write, or the read after it, meets a reset.
    client.write_all(&vec![b'x'; 9_000_000]).await.unwrap();
    let answer = to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("no"), "{answer}");
}

#[tokio::test]
async fn shutdown_ends_the_idle_and_waits_for_the_busy() {
    let (go, wait) = watch::channel(false);
    let mut server = Server::start(router(wait), HttpLimits { linger: SOON, ..HttpLimits::default() }).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(&mut idle, "hello").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    slow_is_asked(&go).await;

    server.stop();
    assert_eq!(to_end(&mut idle).await, "");
    assert!(TcpStream::connect(server.addr).await.is_err());
    assert!(!server.task.is_finished());
    go.send(true).unwrap();
    assert!(to_end(&mut busy).await.ends_with("slow"));
    drop(busy);
    // Neither waits for `idle`, which is still open on our side.
    timeout(SOON, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_is_bounded() {
    let (_go, wait) = watch::channel(false);
    let limits = HttpLimits { drain: Duration::from_millis(50), ..HttpLimits::default() };
    let mut server = Server::start(router(wait), limits).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut half = server.connect().await;
    half.write_all(b"GET /sl").await.unwrap();
    server.stop();
    timeout(SOON, server.task).await.unwrap().unwrap();
    assert!(!matches!(busy.read_u8().await, Ok(b'H')));
}

#[test]
fn accept_errors() {
    assert!(is_clients_fault(&io::ErrorKind::ConnectionAborted.into()));
    assert!(!is_clients_fault(&io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())));
}

/// What `/excess` says of its request, whose connection stays.
pub(super) async fn is_excess(request: axum::extract::Request) -> String {
    if let Some(newcomer) = request.extensions().get::<Newcomer>() {
        newcomer.stays();
    }
    format!("excess: {}", request.extensions().get::<Excess>().is_some())
}

#[tokio::test]
async fn beyond_the_limit_one_request_is_answered() {
    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let router = Router::new().route("/", get(is_excess));
    let server = Server::start(router, HttpLimits { connections: 2, ..quick() }).await;
    let mut kept = [server.connect().await, server.connect().await];
    for client in &mut kept {
        client.write_all(ASK).await.unwrap();
        until(client, "excess: false").await;
    }
    for _ in 0..3 {
        let mut more = server.connect().await;
        more.write_all(&ASK.repeat(2)).await.unwrap();
        let answer = to_end(&mut more).await.to_lowercase();
        assert!(answer.contains("connection: close") && answer.ends_with("excess: true"), "{answer}");
        assert_eq!(answer.matches("http/1.1 200").count(), 1, "{answer}");
    }
    kept[0].write_all(ASK).await.unwrap();
    until(&mut kept[0], "excess: false").await;
    // A place that is free is taken; the server learns of it a moment later.
    let [_kept, gone] = kept;
    drop(gone);
    let served = async { while !server.exchange(HELLO).await.ends_with("excess: false") {} };
    timeout(SOON, served).await.unwrap();
}

#[tokio::test]
async fn what_is_too_much_waits_and_is_served_once_there_is_room() {
    let router = Router::new().route("/", get(is_excess));
    let limits = HttpLimits { connections: 1, header_timeout: Duration::from_secs(600), ..HttpLimits::default() };
    let server = Server::start(router, limits).await;
    let mut known = server.connect().await;
    known.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(&mut known, "excess: false").await;
    // All say nothing: they have two seconds for that.
    let silent: Vec<TcpStream> =
        futures_util::future::join_all((0..MAX_EXCESS_CONNECTIONS + 10).map(|_| server.connect())).await;
    let answer = server.exchange(HELLO).await;
    assert!(answer.ends_with("excess: true"), "{answer}");
    drop(silent);
}

/// The kernel's part of a client: what it would send is over, or all of it is.
async fn asked(server: &Server, version: &str, path: &str) -> TcpStream {
    let mut client = server.connect().await;
    client.write_all(format!("GET {path} HTTP/{version}\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    client
}

/// Issue 18, D3 (`field/08`): `printf … | nc` got no answer.
#[tokio::test]
async fn a_client_that_has_ended_its_side_is_answered() {
    let (go, wait) = watch::channel(false);
    let server = Server::start(router(wait), quick()).await;
    for version in ["1.0", "1.1"] {
        let mut client = asked(&server, version, "/").await;
        client.shutdown().await.unwrap();
        let answer = to_end(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/{version} 200 ")) && answer.ends_with("hello"), "{answer}");
    }
    // One that has to wait hears an interim answer, if it knows such, and only once before the next is due.
    let mut waiting = Vec::new();
    for version in ["1.0", "1.1"] {
        let mut client = asked(&server, version, "/slow").await;
        client.shutdown().await.unwrap();
        waiting.push((version, client));
    }
    assert_eq!(until(&mut waiting[1].1, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    go.send_replace(true);
    for (version, mut client) in waiting {
        let answer = to_end(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/{version} 200 ")) && answer.ends_with("slow"), "{answer}");
    }
    // Half a body is no request.
    let mut client = server.connect().await;
    client.write_all(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    client.shutdown().await.unwrap();
    let answer = to_end(&mut client).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// Its place in a queue is free again; how soon depends on the first question.
#[tokio::test]
async fn a_client_that_has_hung_up_ends_its_request() {
    struct Ends(std::sync::mpsc::Sender<()>);
    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (ended, ends) = std::sync::mpsc::channel();
    let started = Arc::new(tokio::sync::Notify::new());
    let wait = {
        let started = started.clone();
        move || {
            let (ends, started) = (Ends(ended.clone()), started.clone());
            async move {
                started.notify_one();
                std::future::pending::<()>().await;
                drop(ends);
            }
        }
    };
    let server = Server::start(Router::new().route("/wait", get(wait)), quick()).await;
    for resets in [false, true] {
        let client = asked(&server, "1.1", "/wait").await;
        timeout(SOON, started.notified()).await.unwrap();
        assert!(ends.try_recv().is_err());
        if resets {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        let gone = async {
            while ends.try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, gone).await.unwrap();
    }
}
