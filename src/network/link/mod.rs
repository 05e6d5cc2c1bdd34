//! Connections to other nodes, and one request on one of them: hyper's client over TCP, or over TLS where this node has a
//! cluster secret.
//!
//! Connections are pooled by address, and by the Raft id that is expected there: the authority of a URI has it in front of
//! the address (`7@127.0.0.1:12000`), and behind a dot the number of times that nobody answered there ([`silence`]). It goes
//! no further than the dialler.

mod ends;
mod silence;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower_service::Service;

use self::ends::Ends;
use self::silence::Silence;
use super::resolver::Resolver;
use crate::node::rpc::PeerError;
use crate::node_id::HostPort;
use crate::raft_types::RaftId;
use crate::tls::{self, DialError, PeerStream, PeerTls};

/// A host that takes no connection within this time is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that nobody has used for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The kernel asks a silent peer whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// A host whose kernel confirms nothing for so long is gone, and so are the connections to it. A process that is slow, or
/// stopped, does not count: its kernel answers, while it has room.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(2);

type BoxError = Box<dyn Error + Send + Sync>;
type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A pool of connections to other nodes; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    client: Client<Dialler, Body>,
    silence: Silence,
    resolver: Arc<Resolver>,
    tls: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum LinkError {
    /// No connection: nothing was sent.
    NoConnection(String),
    /// A node of this cluster's secret is there, and not the one that is wanted: nothing was sent.
    AnotherNode(String),
    /// Somebody is there, and is not, or says not to be, a node of this cluster: nothing was sent.
    Stranger(String),
    /// It may have been received.
    Lost(String),
}

impl LinkError {
    /// For a question that can be put to another node.
    pub(super) fn into_unreachable(self) -> PeerError {
        match self {
            Self::NoConnection(why) | Self::AnotherNode(why) | Self::Stranger(why) => PeerError::Unreachable(why),
            Self::Lost(why) => PeerError::Lost(why),
        }
    }

    /// For the question who is there: a stranger is somebody.
    pub(super) fn into_somebody(self) -> PeerError {
        match self {
            Self::Stranger(why) => PeerError::Lost(why),
            other => other.into_unreachable(),
        }
    }
}

impl Link {
    /// A pool that looks names up with `resolver`; over TLS where there are keys. At most `idle` connections to an address
    /// are kept. What was sent is confirmed, and read where there is much of it, within `gone_after`.
    pub(super) fn new(resolver: Arc<Resolver>, tls: Option<Arc<PeerTls>>, idle: usize, gone_after: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Lookups(resolver.clone()));
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_tcp_user_timeout(Some(gone_after));
        let is_tls = tls.is_some();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(idle)
            .build(Dialler { tcp, tls, resolver: resolver.clone() });
        Self { client, silence: Silence::default(), resolver, tls: is_tls }
    }

    /// The URI of a path at an address, where the node of this Raft id is expected.
    ///
    /// # Errors
    /// `NoConnection`: the address is none.
    pub(super) fn uri(&self, addr: &HostPort, raft_id: Option<RaftId>, path: &'static str) -> Result<Uri, LinkError> {
        let authority = match raft_id.filter(|_| self.tls) {
            Some(raft_id) => format!("{raft_id}@{addr}"),
            None => addr.to_string(),
        };
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(PathAndQuery::from_static(path));
        uri.build().map_err(|error| LinkError::NoConnection(format!("{addr} is no address: {error}")))
    }

    /// Sends a request, and waits for the head of the answer. The caller limits the time.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, LinkError> {
        let asking = request.uri().authority().map(|at| self.silence.ask(at));
        if let Some(era) = asking.as_ref().map(|asking| asking.era).filter(|era| *era > 0) {
            *request.uri_mut() = of_era(request.uri(), era)
                .ok_or_else(|| LinkError::NoConnection(format!("{} is no address", request.uri())))?;
        }
        let answer = self.client.request(request).await.map_err(|error| link_error(&error))?;
        if let Some(asking) = asking {
            asking.answered();
        }
        Ok(answer)
    }
}

/// The URI, for which connections of this era alone are used.
fn of_era(uri: &Uri, era: u32) -> Option<Uri> {
    let (raft_id, address) = expected(uri.authority()?);
    let raft_id = raft_id.map_or_else(String::new, |raft_id| raft_id.to_string());
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(format!("{raft_id}.{era}@{address}")).ok()?);
    Uri::from_parts(parts).ok()
}

/// The Raft id that is expected there, and the address.
fn expected(authority: &Authority) -> (Option<RaftId>, &str) {
    match authority.as_str().split_once('@') {
        Some((before, address)) => (before.split('.').next().and_then(|raft_id| raft_id.parse().ok()), address),
        None => (None, authority.as_str()),
    }
}

/// Tells errors apart by whether the request can have been received: only where there was no connection it cannot.
fn link_error(error: &legacy::Error) -> LinkError {
    let (mut text, mut source, mut dialled) = (error.to_string(), error.source(), None);
    while let Some(inner) = source {
        dialled = dialled.or(inner.downcast_ref::<DialError>());
        text = inner.to_string();
        source = inner.source();
    }
    match dialled {
        Some(error @ DialError::AnotherNode { .. }) => LinkError::AnotherNode(error.to_string()),
        Some(error) => LinkError::Stranger(error.to_string()),
        None if error.is_connect() => LinkError::NoConnection(text),
        None => LinkError::Lost(text),
    }
}

/// Opens connections.
#[derive(Debug, Clone)]
struct Dialler {
    tcp: HttpConnector<Lookups>,
    tls: Option<Arc<PeerTls>>,
    resolver: Arc<Resolver>,
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Boxed<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { mut tcp, tls, resolver } = self.clone();
        Box::pin(async move {
            let stream = tcp.call(uri.clone()).await?.into_inner();
            if let (Some(name), Ok(addr)) = (uri.host(), stream.peer_addr()) {
                resolver.took(name, addr.ip());
            }
            let Some(tls) = tls else { return Ok(TokioIo::new(Stream::Plain(stream, None))) };
            let (raft_id, address) = uri.authority().map_or((None, ""), expected);
            if let Some(until) = tls.plain_until(address, raft_id) {
                return Ok(TokioIo::new(Stream::Plain(stream, Some(Box::pin(until.cancelled_owned())))));
            }
            match tls::dial(&tls, stream, raft_id).await {
                Ok(stream) => Ok(TokioIo::new(Stream::Tls(Box::new(stream)))),
                Err(DialError::NotTls) if tls.note_plain(address, raft_id) => {
                    tracing::debug!("{address} speaks no TLS: plain text, while nodes get their cluster secret");
                    Ok(TokioIo::new(Stream::Plain(tcp.call(uri).await?.into_inner(), None)))
                }
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// A connection to another node.
#[derive(Debug)]
enum Stream {
    /// Plain text, while that is right.
    Plain(TcpStream, Option<Pin<Box<WaitForCancellationFutureOwned>>>),
    Tls(Box<PeerStream>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let tcp = match self {
            Self::Plain(stream, _) => Some(stream),
            Self::Tls(stream) => stream.tcp(),
        };
        match tcp.map(Ends::of) {
            Some(Ok(ends)) => Connected::new().extra(ends),
            // It is broken already: whoever uses it is told.
            Some(Err(_)) | None => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream, until) => {
                if until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
                    // A future that is done must not be polled again.
                    *until = None;
                    let why = "the other node may speak TLS by now";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
                }
                Pin::new(stream).poll_read(cx, buf)
            }
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The resolver, as hyper asks it.
#[derive(Debug, Clone)]
struct Lookups(Arc<Resolver>);

impl Service<Name> for Lookups {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Boxed<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.0.look_up(name.as_str());
        Box::pin(async move { Ok(found.await?.into_iter()) })
    }
}
