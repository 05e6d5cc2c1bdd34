//! What peers, and whoever else reaches the Raft port, may take of this node's memory all together.
//!
//! * Messages that are on their way: what has come of those of more than [`SMALL`] shares [`ROOM`]. Who would go beyond it takes
//!   the room of the message that has made no progress for longest, which is given up. A member's messages come at once,
//!   so they never wait for those that do not; and heartbeats and votes are small, and need no room at all.
//! * Streams of appends: [`STREAMS`]. One more takes the place of one that has never said anything, or else has said nothing
//!   for longest, which is never a leader's: that has its heartbeats.
//!
//! Connections are counted by [`crate::http`], but for those that have become streams.
//!
//! Caveat: what has been received and decoded is not counted any more: a stream is read on once its message was taken.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use crate::network::wire::MAX_MESSAGE_BYTES;

/// Messages up to this take no room.
const SMALL: usize = 64 << 10;

/// For all messages on their way together; more than one alone may have.
const ROOM: usize = 256 << 20;
const _: () = assert!(ROOM > 2 * MAX_MESSAGE_BYTES);

/// Streams of appends: a leader has one to each member.
const STREAMS: usize = 256;

/// The bounds of a Raft port, and how full they are.
#[derive(Debug, Default)]
pub(crate) struct Bounds(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// Counts what happens; the higher, the later.
    now: u64,
    bytes: usize,
    /// By when they grew last.
    messages: BTreeMap<u64, (usize, CancellationToken)>,
    /// By when they were heard last: `false`, never, goes first.
    streams: BTreeMap<(bool, u64), CancellationToken>,
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn drop_message(&mut self, at: u64) -> Option<CancellationToken> {
        let (bytes, gone) = self.messages.remove(&at)?;
        self.bytes -= bytes;
        Some(gone)
    }
}

impl Bounds {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock()
    }

    /// Messages of one sender, of which one is on its way at a time.
    pub(super) fn messages(self: &Arc<Self>) -> Incoming {
        Incoming { bounds: self.clone(), message: None, stream: None, gone: CancellationToken::new() }
    }

    /// As [`messages`](Self::messages), of a stream of appends.
    pub(super) fn stream(self: &Arc<Self>) -> Incoming {
        let mut incoming = self.messages();
        let mut taken = self.taken();
        if taken.streams.len() >= STREAMS
            && let Some((_, gone)) = taken.streams.pop_first()
        {
            gone.cancel();
        }
        let at = (false, taken.next());
        taken.streams.insert(at, incoming.gone.clone());
        drop(taken);
        incoming.stream = Some(at);
        incoming
    }
}

/// What one connection may bring.
#[derive(Debug)]
pub(super) struct Incoming {
    bounds: Arc<Bounds>,
    /// Its message that takes room.
    message: Option<u64>,
    stream: Option<(bool, u64)>,
    gone: CancellationToken,
}

impl Incoming {
    /// Done once this connection has to go.
    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// So much of a message has come, and there is more to come.
    ///
    /// # Errors
    /// It is given up.
    pub(super) fn keep(&mut self, bytes: usize) -> io::Result<()> {
        if bytes <= SMALL {
            return Ok(());
        }
        let mut taken = self.bounds.taken();
        if let Some(at) = self.message.take() {
            taken.drop_message(at);
        }
        if !self.gone.is_cancelled() {
            let at = taken.next();
            taken.bytes += bytes;
            taken.messages.insert(at, (bytes, self.gone.clone()));
            self.message = Some(at);
            while taken.bytes > ROOM
                && let Some((&stalest, _)) = taken.messages.first_key_value()
                && let Some(gone) = taken.drop_message(stalest)
            {
                gone.cancel();
            }
        }
        if self.gone.is_cancelled() { Err(io::Error::other(NO_ROOM)) } else { Ok(()) }
    }

    /// The message is complete.
    pub(super) fn complete(&mut self) {
        if self.message.is_none() && self.stream.is_none() {
            return;
        }
        let mut taken = self.bounds.taken();
        if let Some(at) = self.message.take() {
            taken.drop_message(at);
        }
        if let Some(at) = self.stream
            && let Some(gone) = taken.streams.remove(&at)
        {
            let at = (true, taken.next());
            taken.streams.insert(at, gone);
            self.stream = Some(at);
        }
    }
}

/// Why a message is given up.
pub(super) const NO_ROOM: &str = "other messages needed its room";

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut taken = self.bounds.taken();
        if let Some(at) = self.message {
            taken.drop_message(at);
        }
        if let Some(at) = self.stream {
            taken.streams.remove(&at);
        }
    }
}

/// Messages behind their lengths, within bounds.
pub(super) struct Bounded {
    pub(super) codec: LengthDelimitedCodec,
    pub(super) incoming: Incoming,
}

impl Decoder for Bounded {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        let message = self.codec.decode(bytes)?;
        match message {
            Some(_) => self.incoming.complete(),
            None => self.incoming.keep(bytes.len())?,
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_progress_goes_first() {
        let bounds = Arc::new(Bounds::default());
        let quarter = ROOM / 4;
        let mut all: Vec<Incoming> = (0..4).map(|_| bounds.messages()).collect();
        for _ in 0..3 {
            all.iter_mut().for_each(|one| one.keep(quarter).unwrap());
        }
        all[0].keep(quarter).unwrap();
        let mut small: Vec<Incoming> = (0..10_000).map(|_| bounds.messages()).collect();
        small.iter_mut().for_each(|one| one.keep(SMALL).unwrap());
        assert!(all.iter().all(|one| !one.gone.is_cancelled()));
        let mut another = bounds.messages();
        another.keep(quarter + 1).unwrap();
        let gone = |all: &[Incoming]| all.iter().map(|one| one.gone.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(gone(&all), [false, true, true, false]);
        assert!(all[1].keep(quarter).is_err() && another.keep(quarter + 2).is_ok());
        another.complete();
        assert_eq!(bounds.taken().bytes, 2 * quarter);
        drop((all, small, another));
        let taken = bounds.taken();
        assert_eq!((taken.bytes, taken.messages.len()), (0, 0));
    }

    #[test]
    fn a_silent_stream_makes_place_for_another() {
        let bounds = Arc::new(Bounds::default());
        let mut leader = bounds.stream();
        leader.complete();
        let mut others: Vec<Incoming> = (1..STREAMS).map(|_| bounds.stream()).collect();
        others[0].complete();
        let more: Vec<Incoming> = (0..3 * STREAMS)
            .map(|_| {
                leader.complete();
                bounds.stream()
            })
            .collect();
        assert!(!leader.gone.is_cancelled() && !others[0].gone.is_cancelled());
        assert!(others[1..].iter().all(|one| one.gone.is_cancelled()));
        assert_eq!(bounds.taken().streams.len(), STREAMS);
        drop((others, more));
        assert_eq!(bounds.taken().streams.len(), 1);
        drop(leader);
        assert!(bounds.taken().streams.is_empty());
    }
}
