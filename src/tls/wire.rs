//! The bytes of a connection that was accepted, in plain text or under TLS.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::HTTP2_PROTOCOL;
use crate::observe::PlainOpen;

/// The TCP stream under TLS. It can be taken out for as long as it moves to another thread's events.
#[derive(Debug)]
pub struct Movable(pub(super) Option<TcpStream>);

/// A connection that was accepted.
#[derive(Debug)]
pub enum Wire {
    /// Plain text; it may be counted while it is open.
    Plain(TcpStream, Option<PlainOpen>),
    /// TLS.
    Tls(Box<Secured>),
}

/// A connection under TLS.
#[derive(Debug)]
pub struct Secured {
    stream: TlsStream<Movable>,
    /// It ends then, whatever goes on.
    until: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Movable {
    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }
}

/// A TCP stream of which so many bytes are read, and no more.
#[derive(Debug)]
pub(super) struct AtMost(pub(super) TcpStream, pub(super) usize);

impl AsyncRead for AtMost {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.1 == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "its first words are too long")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        self.1 = self.1.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AtMost {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncRead for Movable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Movable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            // Most often TLS has one record to send; the kernel takes one piece in less time than a list of one.
            [one] => self.tcp()?.poll_write(cx, one),
            _ => self.tcp()?.poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}

impl Secured {
    pub(super) fn new(stream: TlsStream<Movable>, until: Option<WaitForCancellationFutureOwned>) -> Self {
        Self { stream, until: until.map(Box::pin) }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_over = self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready());
        if !is_over {
            return Ok(());
        }
        // A future that is done must not be polled again; without a stream each step is an error.
        self.until = None;
        *self.stream.get_mut().0 = Movable(None);
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the cluster secret of this connection was deleted"))
    }
}

impl Wire {
    /// The TCP stream beneath.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream, _) => Some(stream),
            Self::Tls(secured) => secured.stream.get_ref().0.0.as_ref(),
        }
    }

    /// True where both sides agreed on HTTP/2 in their handshake.
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Tls(secured) if secured.stream.get_ref().1.alpn_protocol() == Some(HTTP2_PROTOCOL))
    }

    /// Ready with true once the other side has said all that it has to say, while its last words are not read yet; with
    /// false where there is something to read.
    pub fn poll_is_ended(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self {
            Self::Plain(stream, _) => {
                let mut space = [0];
                stream.poll_peek(cx, &mut ReadBuf::new(&mut space)).map_ok(|bytes| bytes == 0)
            }
            // What is there may be the end of TLS, which only TLS can tell.
            Self::Tls(secured) => {
                secured.check(cx)?;
                let bytes = ready!(Pin::new(&mut secured.stream).poll_fill_buf(cx))?;
                Poll::Ready(Ok(bytes.is_empty()))
            }
        }
    }

    /// Writes a few bytes if they can be taken at once.
    ///
    /// # Errors
    /// The connection's.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream, _) => stream.try_write(bytes).map(drop),
            // Nobody waits to write: the waker can be anyone's.
            Self::Tls(secured) => {
                let cx = &mut Context::from_waker(Waker::noop());
                if let Poll::Ready(Err(error)) = Pin::new(&mut secured.stream).poll_write(cx, bytes) {
                    return Err(error);
                }
                match Pin::new(&mut secured.stream).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Reads what TCP brings, of which nobody wants to know what it says.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream, _) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(secured) => Pin::new(secured.stream.get_mut().0).poll_read(cx, buf),
        }
    }

    /// True where writes are kept back here, under TLS, until the client takes them.
    pub fn keeps_writes(&self) -> bool {
        matches!(self, Self::Tls(secured) if secured.stream.get_ref().1.wants_write())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(secured) => {
                secured.check(cx)?;
                Pin::new(&mut secured.stream).poll_read(cx, buf)
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_flush(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_shutdown(cx),
        }
    }
}
