//! The wire format: a version byte, then postcard, then what its sender understands ([`Speaks`]).
//!
//! postcard names no fields, so any change to a message's types needs a new version, which a new [`Format`] brings; one that
//! this node does not know is refused in words, never guessed at. A message is said in the cluster's format; first words to
//! a node, which may be of any version, in the oldest. It is answered in its own.
//!
//! What lies behind a message is not looked at by those who do not expect it: 0.1.0 did not. That is where a node tells what
//! it understands, with requests and where it says who it is. More may come behind that.

use openraft::raft::AppendEntriesRequest;
use serde::Serialize;

use crate::formats::{FORMATS, Format, OLDEST, Speaks};
use crate::node::rpc::{Envelope, PeerReply, PeerRequest, Refusal, StampedOutcome};
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::{SnapshotMeta, Vote};

pub(crate) use super::decode::decode;

/// The path of a request with one answer.
pub(super) const CALL_PATH: &str = "/raft/v1/call";

/// The path of a stream of appends.
pub(super) const APPENDS_PATH: &str = "/raft/v1/appends";

/// The protocol of a connection that was upgraded on [`APPENDS_PATH`]: messages both ways, each behind its length in
/// bytes, a little-endian `u32`.
pub(super) const APPENDS_PROTOCOL: &str = "hraftd-appends";

/// The path a snapshot is streamed to.
pub(super) const SNAPSHOT_PATH: &str = "/raft/v1/snapshot";

/// The most bytes a message may have: a batch is bounded far below, and one entry by `--max-request`,
/// which is at most 64 MiB.
pub(super) const MAX_MESSAGE_BYTES: usize = 80 << 20;

/// The most bytes the head of a snapshot stream may have.
pub(super) const MAX_HEAD_BYTES: usize = 1 << 20;

/// One of a stream of appends.
pub(super) type AppendMessage = (Envelope, AppendEntriesRequest<TypeConfig>);

/// The answer to one.
pub(super) type AppendAnswer = Result<StampedOutcome, Refusal>;

/// The head of a snapshot stream; the bytes of the file follow.
pub(super) type SnapshotHead = (Envelope, Vote, SnapshotMeta);

/// The answer of a peer: a reply, or a refusal.
pub(crate) type Answer = Result<PeerReply, Refusal>;

/// A message, of which what its sender understands is no part.
pub(crate) trait Message: Serialize {
    /// What the sender tells of that, if it tells it here.
    fn speaks(&self) -> Option<&Speaks> {
        None
    }

    /// Takes in the format that it was said in, and what stood behind it.
    fn said(&mut self, _format: Format, _speaks: Speaks) {}
}

/// Of a request: its envelope has it.
macro_rules! requests {
    ($($request:ty),*) => {$(
        impl Message for $request {
            fn speaks(&self) -> Option<&Speaks> {
                Some(&self.0.speaks)
            }

            fn said(&mut self, format: Format, speaks: Speaks) {
                (self.0.format, self.0.speaks) = (format, speaks);
            }
        }
    )*};
}

requests!(Request, AppendMessage, SnapshotHead);

impl Message for Answer {
    fn speaks(&self) -> Option<&Speaks> {
        match self {
            Ok(PeerReply::Identify(who) | PeerReply::Vouch { who, .. }) => Some(&who.speaks),
            _ => None,
        }
    }

    fn said(&mut self, _: Format, speaks: Speaks) {
        if let Ok(PeerReply::Identify(who) | PeerReply::Vouch { who, .. }) = self {
            who.speaks = speaks;
        }
    }
}

impl Message for AppendAnswer {}

/// Adds a message, and what its sender understands, to `bytes`. 0.1.0, which says nothing of that, understands the first
/// format only.
fn extend<M: Message>(message: &M, format: Format, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(format.wire());
    let bytes = postcard::to_extend(message, bytes).expect("our messages have no unserialisable values");
    match message.speaks().filter(|speaks| speaks.newest > OLDEST) {
        Some(speaks) => postcard::to_extend(speaks, bytes).expect("two numbers and a text"),
        None => bytes,
    }
}

/// A message in a format.
pub(crate) fn encode<M: Message>(message: &M, format: Format) -> Vec<u8> {
    extend(message, format, Vec::new())
}

/// A request, in the format of its envelope.
pub(crate) fn encode_request(mut envelope: Envelope, request: PeerRequest) -> Vec<u8> {
    // First words, to whoever is there.
    if matches!(request, PeerRequest::Identify | PeerRequest::Vouch | PeerRequest::Found(_)) {
        envelope.format = OLDEST;
    }
    let format = envelope.format;
    encode(&(envelope, request), format)
}

/// The format that has this version byte, if a node that understands formats up to `newest` knows it.
///
/// # Errors
/// A text that says what it knows.
pub(super) fn format_of(version: u8, newest: Format) -> Result<Format, String> {
    let mut known = FORMATS.iter().filter(|spec| spec.format <= newest);
    match known.clone().find(|spec| spec.wire == version) {
        Some(spec) => Ok(spec.format),
        None => {
            let versions: Vec<String> = known.by_ref().map(|spec| spec.wire.to_string()).collect();
            Err(format!("version {version} of the protocol; this node speaks {}", versions.join(" and ")))
        }
    }
}

/// A message with its length before it.
pub(super) fn encode_framed<M: Message>(message: &M, format: Format) -> Vec<u8> {
    let mut frame = extend(message, format, vec![0; 4]);
    let length = u32::try_from(frame.len() - 4).expect("bounded far below by MAX_MESSAGE_BYTES");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame
}

/// A request as it is decoded.
pub(crate) type Request = (Envelope, PeerRequest);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::formats::NEWEST;
    use crate::node::rpc::{Confirmed, Mark, Stamp};
    use crate::raft_types::StartMark;

    fn envelope() -> Envelope {
        Envelope {
            cluster: None,
            from: "127.0.0.1:1,127.0.0.1:2".parse().unwrap(),
            from_raft: 7,
            start: StartMark { starts: 3, boot: u64::MAX },
            to: "[::1]:1,[::1]:2".parse().unwrap(),
            to_raft: Some(u64::MAX),
            to_start: Some(StartMark { starts: u64::MAX, boot: 9 }),
            echo: Some(Stamp { boot: u64::MAX, micros: 5 }),
            confirmed: Some(Confirmed { stamp: Stamp { boot: 1, micros: u64::MAX }, committed: 3 }),
            log_time: Some((4, u64::MAX)),
            mark: Some(Mark { index: u64::MAX, digest: 7 }),
            format: OLDEST,
            speaks: Speaks::own(),
        }
    }

    #[test]
    fn requests_round_trip() {
        let command = Command::Set(vec![("k".into(), bytes::Bytes::from_static(b"\"v\""))]);
        let bytes =
            encode_request(envelope(), PeerRequest::Forward { commands: vec![command.clone().into()], timeout_ms: 5 });
        let (sender, request): Request = decode(&bytes, NEWEST).unwrap();
        assert_eq!(sender, envelope());
        assert!(matches!(request, PeerRequest::Forward { commands, timeout_ms: 5 } if commands == [command.into()]));
    }

    #[test]
    fn garbage_is_refused_in_words() {
        assert!(decode::<Request>(b"", NEWEST).unwrap_err().contains("empty"));
        assert!(decode::<Request>(&[9, 1, 2], NEWEST).unwrap_err().contains("version 9"));
        let good = encode_request(Envelope { speaks: Speaks::silent(), ..envelope() }, PeerRequest::Status);
        for cut in 1..good.len() {
            assert!(decode::<Request>(&good[..cut], NEWEST).is_err(), "cut at {cut}");
        }
    }
}
