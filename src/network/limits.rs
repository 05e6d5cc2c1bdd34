//! Limits on the memory that all peers together, and strangers at the Raft port, may take of this node.
//!
//! * **Messages on their way.** The bytes received of messages larger than [`SMALL_MESSAGE_BYTES`] share
//!   [`MAX_INBOUND_BYTES`]. A message that would exceed it takes the room of the message that has made no progress for
//!   longest, which is given up. A member's messages come at once, so they never wait for those that stall; heartbeats
//!   and votes are small, and need no room.
//! * **Their number**: at most [`MAX_PENDING_MESSAGES`] are awaited at a time. One more takes the place of the one that
//!   has made no progress for longest, so that thousands of half messages cannot keep members out.
//! * **Watches of the leader**: one for each member.
//! * **Streams of appends**: at most [`MAX_APPEND_STREAMS`], fewer where few files may be open. One more takes the place of a stream that has never carried
//!   a message, or else of the one that was silent for longest. That is never a leader's: it sends heartbeats.
//!
//! * **Decoding**: of messages larger than [`DECODED_ALONE_BYTES`] one at a time. Decoded they take up to eleven times as
//!   much, until they are refused.
//!
//! Connections are counted by [`crate::http`], those of members apart, but for those that have become streams.
//!
//! Caveat: a message is no longer counted once it is complete. A stream is read on only after its message was handled.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use crate::network::large_reply::ReplyRoom;
use crate::network::validate::Refused;
use crate::network::wire::MAX_MESSAGE_BYTES;
use crate::node::rpc::Refusal;
use crate::raft_types::RaftId;
use crate::seldom::Seldom;

/// A message of at most this many bytes needs no room.
const SMALL_MESSAGE_BYTES: usize = 64 << 10;

/// Bytes that all larger messages on their way may have together; more than one alone may have.
const MAX_INBOUND_BYTES: usize = 256 << 20;
const _: () = assert!(MAX_INBOUND_BYTES > 2 * MAX_MESSAGE_BYTES);

/// Messages that are awaited at a time: far more than members send.
const MAX_PENDING_MESSAGES: usize = 1024;

/// Larger messages are decoded and checked one after the other.
const DECODED_ALONE_BYTES: usize = 8 << 20;

/// Streams of appends at a time; a leader has one to each member.
pub(super) const MAX_APPEND_STREAMS: usize = 256;

/// The limits of a Raft port, how much of them is used, and how many messages were refused.
#[derive(Debug)]
pub(crate) struct PortLimits {
    usage: Mutex<Usage>,
    max_streams: usize,
    pub(super) refused: Refused,
    pub(super) reply_room: ReplyRoom,
    decoding: tokio::sync::Mutex<()>,
    snapshot_lines: Seldom,
}

/// The turn of a large message to be decoded and checked.
pub(super) type DecodeTurn<'a> = Option<tokio::sync::MutexGuard<'a, ()>>;

#[derive(Debug, Default)]
struct Usage {
    /// Counts events, as a clock: a higher number is later.
    now: u64,
    bytes: usize,
    /// Bytes of each message, by the time it last grew.
    messages: BTreeMap<u64, (usize, CancellationToken)>,
    /// Streams by the time of their last message. Those that never had one (`false`) come first.
    streams: BTreeMap<(bool, u64), CancellationToken>,
    /// The watch of the leader that each member has, by its Raft id.
    watches: BTreeMap<RaftId, (u64, CancellationToken)>,
}

impl Usage {
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

impl Default for PortLimits {
    fn default() -> Self {
        Self::new(MAX_APPEND_STREAMS)
    }
}

impl PortLimits {
    /// With at most so many streams of appends.
    pub(super) fn new(max_streams: usize) -> Self {
        Self {
            usage: Mutex::default(),
            max_streams: max_streams.clamp(1, MAX_APPEND_STREAMS),
            refused: Refused::default(),
            reply_room: ReplyRoom::default(),
            decoding: tokio::sync::Mutex::default(),
            snapshot_lines: Seldom::new(),
        }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock()
    }

    /// Logs why a snapshot was not received, unless that was logged often just now: whoever reaches the port can cause it.
    pub(super) fn note_snapshot(&self, refusal: &Refusal) {
        if let Some(unsaid) = self.snapshot_lines.turn() {
            tracing::warn!("a snapshot was not received: {refusal}{unsaid}");
        }
    }

    /// Waits for the turn of a message of so many bytes; a small one has no need to.
    pub(super) async fn decode_turn(&self, bytes: usize) -> DecodeTurn<'_> {
        if bytes > DECODED_ALONE_BYTES { Some(self.decoding.lock().await) } else { None }
    }

    /// A connection that brings one message, which is awaited from now on.
    pub(super) fn messages(self: &Arc<Self>) -> Inbound {
        let mut inbound = self.inbound();
        inbound.progress(0);
        inbound
    }

    fn inbound(self: &Arc<Self>) -> Inbound {
        Inbound { limits: self.clone(), message: None, stream: None, gone: CancellationToken::new() }
    }

    /// A watch of the leader by this member, in place of the one it has.
    pub(super) fn leader_watch(self: &Arc<Self>, member: RaftId) -> LeaderWatch {
        let mut usage = self.usage();
        let (at, replaced) = (usage.next(), CancellationToken::new());
        if let Some((_, before)) = usage.watches.insert(member, (at, replaced.clone())) {
            before.cancel();
        }
        LeaderWatch { limits: self.clone(), member, at, replaced }
    }

    /// A connection that is a stream of appends.
    pub(super) fn stream(self: &Arc<Self>) -> Inbound {
        let mut inbound = self.inbound();
        let mut usage = self.usage();
        if usage.streams.len() >= self.max_streams
            && let Some((_, gone)) = usage.streams.pop_first()
        {
            gone.cancel();
        }
        let at = (false, usage.next());
        usage.streams.insert(at, inbound.gone.clone());
        drop(usage);
        inbound.stream = Some(at);
        inbound
    }
}

/// A member's watch of the leader, for as long as this lives.
#[derive(Debug)]
pub(super) struct LeaderWatch {
    limits: Arc<PortLimits>,
    member: RaftId,
    at: u64,
    /// Cancelled once the member has another one.
    pub(super) replaced: CancellationToken,
}

impl Drop for LeaderWatch {
    fn drop(&mut self) {
        let mut usage = self.limits.usage();
        if usage.watches.get(&self.member).is_some_and(|(at, _)| *at == self.at) {
            usage.watches.remove(&self.member);
        }
    }
}

/// The part of the limits that one connection uses.
#[derive(Debug)]
pub(super) struct Inbound {
    limits: Arc<PortLimits>,
    /// The time at which its message last grew, if the message needs room.
    message: Option<u64>,
    stream: Option<(bool, u64)>,
    gone: CancellationToken,
}

impl Inbound {
    /// Cancelled once this connection has to end.
    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Notes that `bytes` of a message have been received, and that more are to come.
    ///
    /// # Errors
    /// [`GIVEN_UP`]: others need the room.
    pub(super) fn keep(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            self.progress(bytes);
        }
        if self.gone.is_cancelled() { Err(io::Error::other(GIVEN_UP)) } else { Ok(()) }
    }

    fn progress(&mut self, bytes: usize) {
        let counted = if bytes > SMALL_MESSAGE_BYTES { bytes } else { 0 };
        let mut usage = self.limits.usage();
        if let Some(at) = self.message.take() {
            usage.drop_message(at);
        }
        if self.gone.is_cancelled() {
            return;
        }
        let at = usage.next();
        usage.bytes += counted;
        usage.messages.insert(at, (counted, self.gone.clone()));
        self.message = Some(at);
        if usage.messages.len() > MAX_PENDING_MESSAGES
            && let Some((&stalest, _)) = usage.messages.first_key_value()
            && let Some(gone) = usage.drop_message(stalest)
        {
            gone.cancel();
        }
        while usage.bytes > MAX_INBOUND_BYTES
            && let Some((&stalest, _)) = usage.messages.iter().find(|(_, (bytes, _))| *bytes > 0)
            && let Some(gone) = usage.drop_message(stalest)
        {
            gone.cancel();
        }
    }

    /// Notes that the message is complete.
    pub(super) fn complete(&mut self) {
        if self.message.is_none() && self.stream.is_none() {
            return;
        }
        let mut usage = self.limits.usage();
        if let Some(at) = self.message.take() {
            usage.drop_message(at);
        }
        if let Some(at) = self.stream
            && let Some(gone) = usage.streams.remove(&at)
        {
            let at = (true, usage.next());
            usage.streams.insert(at, gone);
            self.stream = Some(at);
        }
    }
}

/// The error text of a message that is given up.
pub(super) const GIVEN_UP: &str = "other messages needed its room";

impl Drop for Inbound {
    fn drop(&mut self) {
        let mut usage = self.limits.usage();
        if let Some(at) = self.message {
            usage.drop_message(at);
        }
        if let Some(at) = self.stream {
            usage.streams.remove(&at);
        }
    }
}

/// A codec of length-prefixed messages that keeps within the limits.
pub(super) struct LimitedCodec {
    pub(super) codec: LengthDelimitedCodec,
    pub(super) inbound: Inbound,
}

impl Decoder for LimitedCodec {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        let message = self.codec.decode(bytes)?;
        match message {
            Some(_) => self.inbound.complete(),
            None => self.inbound.keep(bytes.len())?,
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_progress_goes_first() {
        let limits = Arc::new(PortLimits::default());
        let quarter = MAX_INBOUND_BYTES / 4;
        let mut all: Vec<Inbound> = (0..4).map(|_| limits.messages()).collect();
        for _ in 0..3 {
            all.iter_mut().for_each(|one| one.keep(quarter).unwrap());
        }
        all[0].keep(quarter).unwrap();
        let mut small: Vec<Inbound> = (0..1_000).map(|_| limits.messages()).collect();
        small.iter_mut().for_each(|one| one.keep(SMALL_MESSAGE_BYTES).unwrap());
        assert!(all.iter().all(|one| !one.gone.is_cancelled()));
        let mut another = limits.messages();
        another.keep(quarter + 1).unwrap();
        let gone = |all: &[Inbound]| all.iter().map(|one| one.gone.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(gone(&all), [false, true, true, false]);
        assert!(all[1].keep(quarter).is_err() && another.keep(quarter + 2).is_ok());
        another.complete();
        assert_eq!(limits.usage().bytes, 2 * quarter);
        drop((all, small, another));
        let usage = limits.usage();
        assert_eq!((usage.bytes, usage.messages.len()), (0, 0));
    }

    /// Issue 18, A6: 2,750 half messages kept the members' out.
    #[test]
    fn half_messages_make_place_for_others() {
        let limits = Arc::new(PortLimits::default());
        let half: Vec<Inbound> = (0..MAX_PENDING_MESSAGES).map(|_| limits.messages()).collect();
        assert!(half.iter().all(|one| !one.gone.is_cancelled()));
        let mut member = limits.messages();
        member.keep(10).unwrap();
        assert!(half[0].gone.is_cancelled() && !half[1].gone.is_cancelled());
        drop((half, member));
        assert!(limits.usage().messages.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn large_messages_are_decoded_one_after_the_other() {
        let limits = PortLimits::default();
        let turn = limits.decode_turn(DECODED_ALONE_BYTES + 1).await;
        assert!(turn.is_some() && limits.decode_turn(DECODED_ALONE_BYTES).await.is_none());
        let within = std::time::Duration::from_secs(1);
        let other = limits.decode_turn(DECODED_ALONE_BYTES + 1);
        assert!(tokio::time::timeout(within, other).await.is_err());
        drop(turn);
        assert!(limits.decode_turn(DECODED_ALONE_BYTES + 1).await.is_some());
    }

    #[test]
    fn a_member_has_one_watch_of_the_leader() {
        let limits = Arc::new(PortLimits::default());
        let (first, other) = (limits.leader_watch(1), limits.leader_watch(2));
        let second = limits.leader_watch(1);
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled() && !other.replaced.is_cancelled());
        drop(first);
        assert_eq!(limits.usage().watches.len(), 2);
        drop((second, other));
        assert!(limits.usage().watches.is_empty());
    }

    #[test]
    fn a_silent_stream_makes_place_for_another() {
        let limits = Arc::new(PortLimits::default());
        let mut leader = limits.stream();
        leader.complete();
        let mut others: Vec<Inbound> = (1..MAX_APPEND_STREAMS).map(|_| limits.stream()).collect();
        others[0].complete();
        let more: Vec<Inbound> = (0..3 * MAX_APPEND_STREAMS)
            .map(|_| {
                leader.complete();
                limits.stream()
            })
            .collect();
        assert!(!leader.gone.is_cancelled() && !others[0].gone.is_cancelled());
        assert!(others[1..].iter().all(|one| one.gone.is_cancelled()));
        assert_eq!(limits.usage().streams.len(), MAX_APPEND_STREAMS);
        drop((others, more));
        assert_eq!(limits.usage().streams.len(), 1);
        drop(leader);
        assert!(limits.usage().streams.is_empty());
    }
}
