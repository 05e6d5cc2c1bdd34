//! The wire format: a version byte, then postcard.
//!
//! postcard names no fields, so any change to a message's types needs a new [`VERSION`]; another
//! version is refused in words, never guessed at.

use openraft::raft::AppendEntriesRequest;
use serde::Serialize;

use crate::node::rpc::{Envelope, PeerReply, PeerRequest, Refusal, StampedOutcome};
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::{SnapshotMeta, Vote};

pub(crate) use super::decode::decode;

/// Version of all messages. 2: stamped commands, records. 3: stamps that go out and come back. 4: the sender's start, and
/// marks.
pub(super) const VERSION: u8 = 4;

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

/// A message with its version byte.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_extend(message, vec![VERSION]).expect("our messages have no unserialisable values")
}

/// The same, for a message that takes about so many bytes: they are reserved, as growing takes up to three times as many.
pub(super) fn encode_large<T: Serialize>(message: &T, bytes: usize) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes);
    encoded.push(VERSION);
    postcard::to_extend(message, encoded).expect("as in encode")
}

/// A message with its length before it.
pub(super) fn encode_framed<T: Serialize>(message: &T) -> Vec<u8> {
    let mut frame = postcard::to_extend(message, vec![0, 0, 0, 0, VERSION]).expect("as in encode");
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
        }
    }

    #[test]
    fn requests_round_trip() {
        let command = Command::Set(vec![("k".into(), bytes::Bytes::from_static(b"\"v\""))]);
        let bytes =
            encode(&(envelope(), PeerRequest::Forward { commands: vec![command.clone().into()], timeout_ms: 5 }));
        let (sender, request): Request = decode(&bytes).unwrap();
        assert_eq!(sender, envelope());
        assert!(matches!(request, PeerRequest::Forward { commands, timeout_ms: 5 } if commands == [command.into()]));
    }

    #[test]
    fn garbage_is_refused_in_words() {
        assert!(decode::<Request>(b"").unwrap_err().contains("empty"));
        assert!(decode::<Request>(&[9, 1, 2]).unwrap_err().contains("version 9"));
        let good = encode(&(envelope(), PeerRequest::Status));
        for cut in 1..good.len() {
            assert!(decode::<Request>(&good[..cut]).is_err(), "cut at {cut}");
        }
    }
}
