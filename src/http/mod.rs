//! The accept loop that both ports share: connections of HTTP/1.1 and, for clients, of HTTP/2 in, a [`Handler`] behind.
//!
//! Contract of [`serve`]: bytes that are no HTTP, slow clients, a full table of file descriptors or
//! a panic in a handler cost at most their own connection, never the server. Once the shutdown
//! future is done it accepts nothing more, lets requests in flight end, and returns within
//! `limits.drain`.
//!
//! Beyond `limits.connections` a client is still heard, once: its one request is marked [`Excess`],
//! and the handler decides about it. Beyond `limits.excess` of these nothing is
//! accepted: clients wait in the kernel's queue. Connections on which nobody was known yet make
//! room before it comes to that, see [`newcomers`]. A port that knows members from strangers has
//! [`places`] instead.
//!
//! Knows nothing of keys, of Raft or of JSON: a request too broken to parse gets a bare status.
//!
//! A client that ends its own side is answered all the same; one that hung up ends its request, see [`hang_up`].
//!
//! Caveats: a request body has no deadline here, its handler sets one. Timers are coarse (see
//! [`activity`]): a limit is kept to within half of `header_timeout`.

mod activity;
mod connection;
mod date;
mod hang_up;
mod http2;
mod long_heads;
mod marks;
mod newcomers;
mod numbers;
mod places;
mod preface;
mod socket;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::seldom::Seldom;
use crate::tls::Door;
use connection::Entered;
pub use long_heads::LongHeads;
pub use newcomers::Newcomer;
use newcomers::Newcomers;
pub use numbers::PortNumbers;
pub use places::{Place, Places};

/// How long to wait after a failed accept that is not the fault of one client, such as EMFILE.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Failures to accept are logged at most this often.
const ACCEPT_LOG_EVERY: Duration = Duration::from_secs(30);

/// The kernel takes this much of an answer beyond what it has sent. Without a bound it takes MiBs
/// for each of thousands of watchers that do not read. Bytes under way are not counted: a long way
/// loses nothing.
const UNSENT_BYTES: u32 = 128 << 10;

/// Connections beyond the limit that are answered at a time, by default.
const MAX_EXCESS_CONNECTIONS: usize = 256;

/// How long each of them may take for its request, and for taking the answer.
const EXCESS_TIMEOUT: Duration = Duration::from_secs(2);

/// On a request (as an extension) of a connection beyond [`HttpLimits::connections`], which ends
/// with the answer.
#[derive(Debug, Clone, Copy)]
pub struct Excess;

/// On a request (as an extension) that came under TLS. One of another node has its [`crate::tls::PeerIdentity`], too, and
/// one of a client with a certificate an `Arc` of that ([`crate::tls::ClientCertificate`]).
#[derive(Debug, Clone, Copy)]
pub struct UnderTls;

/// The limits of a port and of each connection.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// From the first byte of a request to the end of its head; then a bare 408.
    pub header_timeout: Duration,
    /// A kept-alive connection without a request is closed after this.
    pub idle_timeout: Duration,
    /// A client that takes nothing of an answer for so long, while there is some, is cut off.
    pub write_timeout: Duration,
    /// The largest request head; then a bare 431. At least 8 KiB. Also the size of the read buffer.
    pub max_head_bytes: usize,
    /// The room for the heads of all connections that are longer than 8 KiB; without room a bare 503.
    pub long_heads: LongHeads,
    /// Handlers may upgrade a connection. If so, one that is overdue is closed without a word, and HTTP/2 is not spoken.
    pub upgrades: bool,
    /// How much a client may still send after we closed, so that it gets to read the answer (a 413,
    /// say).
    pub linger_bytes: usize,
    /// How long it may take for that.
    pub linger: Duration,
    /// Open at a time; the next ones are answered once, as [`Excess`]. So many streams of HTTP/2 as well, of all connections.
    pub connections: usize,
    /// So many of the next ones at a time.
    pub excess: usize,
    /// Instead: each connection has a [`Place`] here, on its requests (as an extension), and none is in excess.
    pub places: Option<Places>,
    /// What a connection has to pass first: TLS, mostly.
    pub door: Option<Arc<Door>>,
    /// How long a shutdown waits for requests in flight; then they are dropped.
    pub drain: Duration,
    /// What the port counts.
    pub numbers: Arc<PortNumbers>,
}

impl HttpLimits {
    /// How often a connection is looked at.
    fn look_interval(&self) -> Duration {
        (self.header_timeout / 2).max(Duration::from_millis(1))
    }

    /// How many looks a limit is.
    fn looks(&self, limit: Duration) -> u32 {
        limit.as_millis().div_ceil(self.look_interval().as_millis()).clamp(1, u32::MAX.into()) as u32
    }

    /// For a connection beyond the limit.
    fn for_excess(&self) -> Self {
        let within = |limit: Duration| limit.min(EXCESS_TIMEOUT);
        Self {
            header_timeout: within(self.header_timeout),
            idle_timeout: within(self.idle_timeout),
            write_timeout: within(self.write_timeout),
            ..self.clone()
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(30),
            max_head_bytes: 64 * 1024,
            long_heads: LongHeads::default(),
            upgrades: false,
            linger_bytes: 16 * 1024 * 1024,
            linger: Duration::from_secs(1),
            connections: usize::MAX,
            excess: MAX_EXCESS_CONNECTIONS,
            places: None,
            door: None,
            drain: Duration::from_secs(5),
            numbers: Arc::default(),
        }
    }
}

/// Answers the requests of a port: an axum router, or something in front of one.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The handler for all requests of a connection from this address.
    fn serving(self, client: IpAddr) -> Self {
        let _ = client;
        self
    }

    /// Answers one request.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send + use<Self>;
}

impl Handler for axum::Router {
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send + use<> {
        TowerToHyperService::new(self.clone()).call(request).map(|Ok(response)| response)
    }
}

/// Serves `handler` on all `listeners` until `shutdown` is done, then drains. Connections are given to
/// `threads` in turn; if there are none, the caller's runtime serves them.
pub async fn serve(
    listeners: Vec<TcpListener>,
    handler: impl Handler,
    threads: Vec<Handle>,
    limits: HttpLimits,
    shutdown: impl Future,
) {
    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut complaints = Complaints::default();
    let mut shutdown = pin!(shutdown);
    let excess_limits = limits.for_excess();
    let mut threads = threads.iter().cycle();
    let newcomers = Newcomers::new(limits.connections);
    loop {
        // What has ended has no place.
        while let Some(ended) = connections.try_join_next() {
            note_end(ended);
        }
        let open = connections.len();
        limits.numbers.has(open);
        tokio::select! {
            _ = &mut shutdown => break,
            Some(ended) = connections.join_next() => note_end(ended),
            accepted = accept(&listeners, &limits, &newcomers, open) => match accepted {
                Ok((stream, client)) => {
                    let entered = match &limits.places {
                        Some(places) => Entered::Place(places.enter()),
                        None => enter(&newcomers, open, &limits.numbers, &mut complaints),
                    };
                    let limits = if matches!(entered, Entered::Excess) { &excess_limits } else { &limits };
                    let handler = handler.clone().serving(client.ip());
                    start(&mut connections, (stream, client), handler, threads.next(), limits, entered, &stop);
                }
                Err(error) if is_clients_fault(&error) => {}
                Err(error) => {
                    complaints.note(&format_args!("cannot accept connections; trying again (file descriptor limit?): {error}"));
                    tokio::select! {
                        _ = &mut shutdown => break,
                        () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                    }
                }
            },
        }
    }
    drop(listeners);
    stop.cancel();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            note_end(ended);
        }
    };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "dropping connections that did not end in time");
        connections.shutdown().await;
    }
}

/// A new connection, where so many are open.
fn enter(newcomers: &Newcomers, open: usize, numbers: &PortNumbers, complaints: &mut Complaints) -> Entered {
    let taken = newcomers.taken(open);
    if newcomers.make_room(taken) {
        numbers.made_room.one();
        complaints.note(&"places for connections are scarce: those that have shown nothing yet are closed for others");
    } else if taken >= newcomers.places() {
        numbers.excess.one();
        complaints.note(&"as many connections as this node takes: no more of them are served for now");
        return Entered::Excess;
    }
    Entered::Newcomer(newcomers.enter())
}

/// The next connection to any of them, once there is room for it beside those that are open.
async fn accept(
    listeners: &[TcpListener],
    limits: &HttpLimits,
    newcomers: &Newcomers,
    open: usize,
) -> io::Result<(TcpStream, SocketAddr)> {
    match &limits.places {
        Some(places) => places.room().await,
        None if open < limits.connections.saturating_add(limits.excess) => {}
        None => newcomers.full_grace().await,
    }
    poll_fn(|cx| {
        let mut accepted = listeners.iter().map(|listener| listener.poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

fn start(
    connections: &mut JoinSet<()>,
    (stream, from): (TcpStream, SocketAddr),
    handler: impl Handler,
    thread: Option<&Handle>,
    limits: &HttpLimits,
    entered: Entered,
    stop: &CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT");
    }
    // A child token each: polling the shared one would have all connections contend for its lock.
    let (limits, stop) = (limits.clone(), stop.child_token());
    let Some(thread) = thread else {
        connections.spawn(connection::run(stream, from, handler, limits, entered, stop));
        return;
    };
    // Its events are to come to the thread that serves it.
    match stream.into_std() {
        Ok(stream) => {
            let served = async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => connection::run(stream, from, handler, limits, entered, stop).await,
                    Err(error) => note_unserved(&error),
                }
            };
            connections.spawn_on(served, thread);
        }
        Err(error) => note_unserved(&error),
    }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        static LINES: Seldom = Seldom::new();
        if let Some(unsaid) = LINES.turn() {
            tracing::error!(%error, "a connection's task panicked; the connection is closed, the server goes on{unsaid}");
        }
    }
}

fn note_unserved(error: &io::Error) {
    static LINES: Seldom = Seldom::new();
    if let Some(unsaid) = LINES.turn() {
        tracing::warn!(%error, "a connection cannot be served{unsaid}");
    }
}

/// The client went away between the handshake and our accept.
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Logs failures to accept once in a while: EMFILE would otherwise fill the disk with its log.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    fn note(&mut self, what: &dyn fmt::Display) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < ACCEPT_LOG_EVERY) {
            self.unsaid += 1;
            return;
        }
        tracing::warn!(unsaid = self.unsaid, "{what}");
        *self = Self { last: Some(now), unsaid: 0 };
    }
}

#[cfg(test)]
mod tests;
