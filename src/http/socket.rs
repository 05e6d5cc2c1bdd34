//! The stream under hyper. It reports what it sees to the [`ConnectionActivity`], and lingers
//! when it closes.
//!
//! Closing a socket with unread bytes sends a reset, which can overtake the answer: a client that
//! is still sending its 100 MB would never see the 413. Therefore a connection ends in this order:
//! end our side, then read and drop until the client ends its side, or a bound of bytes or of time
//! is reached.
//!
//! It also sees whether a client begins with the preface of HTTP/2: that costs no system call beside the first read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::preface::{PREFACE, TOLD_BY};
use crate::http::activity::ConnectionActivity;
use crate::http::hang_up::Stream;
use crate::http::long_heads::FREE_BYTES;
use crate::http::{LongHeads, PortNumbers};
use crate::tls::Wire;

/// Writes up to this are put together: the kernel takes one piece in less time than two.
const SHORT_WRITE_BYTES: usize = 1 << 10;

#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    activity: Arc<ConnectionActivity>,
    linger_bytes: usize,
    linger: Duration,
    numbers: Arc<PortNumbers>,
    /// How many bytes have come, all of them those of [`PREFACE`]; `None` where the client speaks HTTP/1.1 for certain.
    preface: Option<usize>,
    /// The room for long heads, and how much was read of the one that comes; `None` in what is not HTTP/1.1.
    heads: Option<(LongHeads, usize)>,
    /// What was read and is still to be given to whoever reads next, from the front.
    kept: Vec<u8>,
    /// Runs once our side is ended.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(
        stream: Stream,
        activity: Arc<ConnectionActivity>,
        linger_bytes: usize,
        linger: Duration,
        numbers: Arc<PortNumbers>,
    ) -> Self {
        Self {
            stream,
            activity,
            linger_bytes,
            linger,
            numbers,
            preface: None,
            heads: None,
            kept: Vec::new(),
            lingering: None,
        }
    }

    /// Looks whether the client begins with the preface of HTTP/2. If so it reads no more, and the activity
    /// [tells](ConnectionActivity::poll_is_http2).
    pub(super) fn minding_http2(mut self) -> Self {
        self.preface = Some(0);
        self
    }

    /// Asks for room before more of a head is read than is anybody's. If there is none it reads no more, and the activity
    /// [tells](ConnectionActivity::poll_has_no_room).
    pub(super) fn minding_heads(mut self, heads: LongHeads) -> Self {
        self.heads = Some((heads, 0));
        self
    }

    /// How many bytes may be read now; `None` where there is no room for them.
    fn readable(&mut self, wanted: usize) -> Option<usize> {
        if self.activity.is_upgraded() {
            self.heads = None;
        }
        let Some((heads, read)) = &mut self.heads else { return Some(wanted) };
        if self.activity.is_busy() {
            return Some(wanted);
        }
        if self.activity.is_idle() {
            *read = 0;
        }
        match FREE_BYTES.saturating_sub(*read) {
            0 if self.activity.keep_head(heads, *read + wanted) => Some(wanted),
            0 => None,
            free => Some(wanted.min(free)),
        }
    }

    /// Looks at what was read behind `before`. All of it is kept for another reader once it is the preface.
    fn is_preface(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let (Some(matched), read) = (self.preface, &buf.filled()[before..]) else { return false };
        if read.is_empty() {
            return false;
        }
        let here = read.len().min(TOLD_BY - matched);
        if read[..here] != PREFACE[matched..matched + here] {
            self.preface = None;
            return false;
        }
        if matched + here < TOLD_BY {
            self.preface = Some(matched + here);
            return false;
        }
        (self.preface, self.heads) = (None, None);
        // hyper has the beginning.
        self.kept = [&PREFACE[..matched], read].concat();
        buf.set_filled(before);
        self.activity.speaks_http2();
        true
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.numbers.sent.add(*bytes as u64);
                self.activity.wrote(Some(*bytes));
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.wrote(None),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.kept.is_empty() {
            let bytes = self.kept.len().min(buf.remaining());
            buf.put_slice(&self.kept[..bytes]);
            self.kept.drain(..bytes);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let Some(most) = self.readable(buf.remaining()) else {
            self.activity.has_no_room();
            // The task looks at the activity next.
            return Poll::Pending;
        };
        let result = if most < buf.remaining() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            let result = Pin::new(&mut *self.stream.lock()).poll_read(cx, &mut part);
            let read = part.filled().len();
            buf.advance(read);
            result
        } else {
            Pin::new(&mut *self.stream.lock()).poll_read(cx, buf)
        };
        let read = buf.filled().len() - before;
        if read > 0 {
            self.numbers.received.add(read as u64);
            self.activity.received();
            if let Some((_, head)) = &mut self.heads {
                *head += read;
            }
        }
        if self.preface.is_some() && self.is_preface(buf, before) {
            // The task looks at the activity next.
            return Poll::Pending;
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.stream.lock()).poll_write(cx, buf);
        self.note_write(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if length <= SHORT_WRITE_BYTES && bufs.len() > 1 {
            let mut together = [0; SHORT_WRITE_BYTES];
            let mut end = 0;
            for buf in bufs {
                together[end..end + buf.len()].copy_from_slice(buf);
                end += buf.len();
            }
            return self.poll_write(cx, &together[..end]);
        }
        let result = Pin::new(&mut *self.stream.lock()).poll_write_vectored(cx, bufs);
        self.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.lock();
        let flushed = Pin::new(&mut *stream).poll_flush(cx);
        if let Wire::Tls(_) = &*stream {
            // It has taken the bytes, and the client has not.
            self.activity.write_blocked.store(stream.keeps_writes(), Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let sleep = match &mut this.lingering {
            Some(sleep) => sleep,
            None => {
                if let Err(error) = ready!(Pin::new(&mut *this.stream.lock()).poll_shutdown(cx)) {
                    // The client is gone already; that is an end, too.
                    tracing::debug!(%error, "shutdown of a connection");
                    return Poll::Ready(Ok(()));
                }
                if this.activity.no_linger.load(Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                this.lingering.insert(Box::pin(tokio::time::sleep(this.linger)))
            }
        };
        let mut space = [0; 8 * 1024];
        while sleep.as_mut().poll(cx).is_pending() && this.linger_bytes > 0 {
            let mut buf = ReadBuf::new(&mut space);
            match ready!(this.stream.lock().poll_discard(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    this.linger_bytes = this.linger_bytes.saturating_sub(buf.filled().len());
                }
                _ended => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
