//! The socket under the library, with its frames looked at.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{FrameReader, Frames};
use crate::http::LongHeads;
use crate::http::socket::Socket;

pub(super) struct Counted {
    socket: Socket,
    reader: FrameReader,
    frames: Arc<Frames>,
    heads: LongHeads,
}

impl Counted {
    pub(super) fn new(socket: Socket, frames: Arc<Frames>, heads: LongHeads) -> Self {
        Self { socket, reader: FrameReader::default(), frames, heads }
    }

    fn note_sent(&mut self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = sent {
            self.reader.sent(*bytes);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.frames.is_too_busy() {
            // The connection's task looks at that next.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let this = &mut *self;
        let result = Pin::new(&mut this.socket).poll_read(cx, buf);
        this.reader.see(&buf.filled()[before..], &this.frames, &this.heads);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.note_sent(&sent);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.note_sent(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
