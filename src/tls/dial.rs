//! The other side of a [`super::Door`]: a connection to another node.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use webpki::KeyUsage;

use super::authority::PEER_NAME;
use super::peers::PeerTls;
use super::wire::Movable;
use super::{PEER_PROTOCOL, WELCOME};

/// A handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no connection with a node, though somebody is there. Nothing was sent to them.
#[derive(Debug, Error)]
pub enum DialError {
    /// It speaks something else, plain text most likely.
    #[error("it speaks no TLS: it has no cluster secret, or is no hraftd")]
    NotTls,
    /// One side does not trust the other.
    #[error("TLS: {0}")]
    Refused(String),
    /// It said nothing in time.
    #[error("TLS: its handshake took too long")]
    Timeout,
    /// Another node is there.
    #[error("the node of Raft id {found} is there, and not that of {wanted}")]
    AnotherNode {
        /// Whom it was to be.
        wanted: u64,
        /// Who it is.
        found: u64,
    },
}

/// A connection to another node, which has verified this one.
#[derive(Debug)]
pub struct PeerStream {
    stream: TlsStream<Movable>,
    /// The Raft id of the node.
    raft_id: u64,
    until: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
}

/// Shakes hands with the node at the other end of `stream`, and waits until it has let this one in.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(tls: &Arc<PeerTls>, stream: TcpStream, raft_id: Option<u64>) -> Result<PeerStream, DialError> {
    let address = stream.peer_addr().ok();
    let dialled = timeout(HANDSHAKE_TIMEOUT, shake_hands(tls, stream, raft_id)).await;
    let dialled = dialled.unwrap_or(Err(DialError::Timeout));
    if let Err(error) = &dialled
        && let Some(address) = address
        && !matches!(error, DialError::Timeout | DialError::AnotherNode { .. })
        && !(tls.is_optional() && matches!(error, DialError::NotTls))
        && tls.complaints.is_due(address.ip())
    {
        tracing::warn!(
            "no connection with the node at {address}: {error}. This node has the cluster secret {}; hraftd secret --id \
             FILE shows those of a file",
            tls.own()
        );
    }
    dialled
}

async fn shake_hands(tls: &Arc<PeerTls>, stream: TcpStream, wanted: Option<u64>) -> Result<PeerStream, DialError> {
    let refused = |why: &str| DialError::Refused(why.to_owned());
    let address = stream.peer_addr().ok().map(|address| address.ip());
    let name = ServerName::try_from(PEER_NAME).map_err(|_| refused("a name that cannot be"))?;
    let era = tls.seen_era();
    let connector = TlsConnector::from(tls.now().client.clone());
    let mut stream = connector.connect(name, Movable(Some(stream))).await.map_err(dial_error)?;
    if stream.get_ref().1.alpn_protocol() != Some(PEER_PROTOCOL) {
        return Err(refused("it is no port of hraftd"));
    }
    let admitted = tls.admit(stream.get_ref().1.peer_certificates(), KeyUsage::server_auth(), address, era);
    let (peer, ends) = admitted.ok_or_else(|| refused("its cluster secret was deleted"))?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != peer.raft_id) {
        return Err(DialError::AnotherNode { wanted, found: peer.raft_id });
    }
    match stream.read_u8().await {
        Ok(WELCOME) => {}
        Ok(_) => return Err(refused("it is no port of hraftd")),
        Err(error) => return Err(dial_error(error)),
    }
    let until = Box::pin(ends.cancelled_owned());
    Ok(PeerStream { stream, raft_id: peer.raft_id, until, is_over: false })
}

fn dial_error(error: io::Error) -> DialError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => DialError::NotTls,
        Some(rustls::Error::AlertReceived(alert)) => {
            DialError::Refused(format!("it refused this node's certificate, or has no cluster secret ({alert:?})"))
        }
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(why))) => {
            DialError::Refused(format!("it has {}", why.0))
        }
        Some(other) => DialError::Refused(other.to_string()),
        None => DialError::Refused(format!("it closed the connection ({error})")),
    }
}

impl PeerStream {
    /// The Raft id of the node.
    pub fn raft_id(&self) -> u64 {
        self.raft_id
    }

    /// The connection below.
    pub fn tcp(&self) -> Option<&TcpStream> {
        self.stream.get_ref().0.0.as_ref()
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_over = self.is_over || self.until.as_mut().poll(cx).is_ready();
        match self.is_over {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the cluster secret of this connection was deleted",
            )),
            false => Ok(()),
        }
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
