//! Connections to endpoints, in plain text or under TLS.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// A connection is there within this time, with its handshake, or another endpoint is asked.
const WITHIN: Duration = Duration::from_secs(3);

/// Opens connections. Names are looked up for each.
#[derive(Clone)]
pub(super) struct Connector {
    /// `None`: no endpoint speaks TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// A connection to an endpoint.
pub(super) enum Wire {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone().filter(|_| uri.scheme_str() == Some("https"));
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within 3 s");
            timeout(WITHIN, open(uri, tls)).await.unwrap_or_else(|_| Err(late()))
        })
    }
}

async fn open(uri: Uri, tls: Option<Arc<ClientConfig>>) -> io::Result<Wire> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or_default())).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Wire::Plain(TokioIo::new(stream))) };
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(explain)?;
    Ok(Wire::Tls(Box::new(TokioIo::new(stream))))
}

/// A handshake that failed, and what mends it.
fn explain(error: io::Error) -> io::Error {
    let told = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => "it speaks no TLS: leave out --cacert and https://".to_owned(),
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("its certificate is not trusted ({why:?}); --cacert FILE has the authorities that are")
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("it refused the connection ({alert:?}): does it ask for a certificate, --cert and --key?")
        }
        Some(other) => format!("TLS: {other}"),
        None => return error,
    };
    io::Error::other(told)
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
