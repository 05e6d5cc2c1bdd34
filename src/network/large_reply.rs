//! Replies with values of clients: bounded by their bytes, and encoded off Raft's threads.
//!
//! A reply shares its values with the state until it is encoded. A follower may forward hundreds of small transactions
//! together that read 16 MiB each, so the copy of it all is never made:
//!
//! * The values of one reply have at most [`MAX_REPLY_VALUE_BYTES`]. An outcome beyond is replaced by an error: nothing was
//!   done where it only read, and what was done is said where it wrote.
//! * All replies that are encoded and not sent yet have at most [`MAX_UNSENT_REPLY_BYTES`]. One that finds no room in time
//!   goes without values.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::wire::{self, Answer};
use crate::command::{Failure, OpResult, Reply};
use crate::formats::Format;
use crate::node::NodeError;
use crate::node::rpc::{ForwardError, PeerReply};
use crate::record::Record;

/// A reply with fewer bytes of values is encoded where it is.
const MAX_INLINE_BYTES: usize = 256 << 10;

/// The most bytes of values in one reply to forwarded commands; twice what one transaction may read.
const MAX_REPLY_VALUE_BYTES: usize = 2 * crate::kv::MAX_READ_BYTES;

/// Bytes of replies that are encoded and not sent yet.
const MAX_UNSENT_REPLY_BYTES: usize = 192 << 20;

/// Room for a reply is awaited for this long.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// The room for replies that are not sent yet, in KiB.
#[derive(Debug)]
pub(super) struct ReplyRoom(Arc<Semaphore>);

impl Default for ReplyRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_UNSENT_REPLY_BYTES >> 10)))
    }
}

/// An encoded reply and the room it takes until it is sent.
struct Encoded(Vec<u8>, #[expect(dead_code, reason = "gives the room back when it is dropped")] OwnedSemaphorePermit);

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl ReplyRoom {
    /// Encodes an answer in a format.
    pub(super) async fn encode(&self, mut answer: Answer, format: Format) -> Bytes {
        bound(&mut answer, MAX_REPLY_VALUE_BYTES);
        let bytes = value_bytes(&answer);
        if bytes <= MAX_INLINE_BYTES {
            return wire::encode(&answer, format).into();
        }
        let kibibytes = u32::try_from(bytes.min(MAX_UNSENT_REPLY_BYTES) >> 10).unwrap_or(u32::MAX);
        let Ok(Ok(room)) = timeout(ROOM_TIMEOUT, self.0.clone().acquire_many_owned(kibibytes)).await else {
            bound(&mut answer, MAX_INLINE_BYTES);
            return wire::encode(&answer, format).into();
        };
        let encoded = spawn_blocking(move || Bytes::from_owner(Encoded(wire::encode(&answer, format), room))).await;
        // A runtime that stops has nobody left to answer.
        encoded.unwrap_or_default()
    }
}

fn value_bytes(answer: &Answer) -> usize {
    match answer {
        Ok(PeerReply::Forward(outcomes)) => outcomes.iter().map(outcome_bytes).sum(),
        Ok(PeerReply::Read(Ok(Ok((Some(record), _))))) => record.value().len(),
        _ => 0,
    }
}

fn outcome_bytes(outcome: &Result<(u64, Reply), ForwardError>) -> usize {
    outcome.as_ref().map_or(0, |(_, reply)| reply_bytes(reply))
}

fn reply_bytes(reply: &Reply) -> usize {
    let record_bytes = |record: &Option<Record>| record.as_ref().map_or(0, |record| record.value().len());
    match reply {
        Reply::Txn { results, .. } => results
            .iter()
            .map(|result| match result {
                OpResult::Got(_, record) => record_bytes(record),
                _ => 0,
            })
            .sum(),
        Reply::Failed(failure) => match &**failure {
            Failure::Precondition { current } => record_bytes(current),
            Failure::Locked(view) => view.body.as_ref().map_or(0, Bytes::len),
            _ => 0,
        },
        _ => 0,
    }
}

/// Replaces the outcomes of forwarded commands whose values do not fit into `max_bytes`.
fn bound(answer: &mut Answer, max_bytes: usize) {
    let Ok(PeerReply::Forward(outcomes)) = answer else { return };
    let mut left = max_bytes;
    for outcome in outcomes {
        match left.checked_sub(outcome_bytes(outcome)) {
            Some(rest) => left = rest,
            None => *outcome = Err(ForwardError::Failed(without_values(outcome))),
        }
    }
}

fn without_values(outcome: &Result<(u64, Reply), ForwardError>) -> NodeError {
    const TOO_LARGE: &str = "its answer, with those of others that were forwarded with it, was too large to send";
    match outcome {
        Ok((_, Reply::Txn { results, .. })) if results.iter().all(|one| matches!(one, OpResult::Got(..))) => {
            NodeError::Overloaded(format!("nothing was written, and {TOO_LARGE}; try again"))
        }
        Ok((_, Reply::Failed(_))) => NodeError::Overloaded(format!("nothing was done, and {TOO_LARGE}; try again")),
        Ok((index, _)) => NodeError::Timeout(format!("it was done at index {index}, and {TOO_LARGE}")),
        Err(_) => NodeError::Internal(TOO_LARGE.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::OLDEST;
    use crate::record::{Marks, Rare};

    fn reading(bytes: usize, writes: bool) -> Result<(u64, Reply), ForwardError> {
        let record = Record::new(Marks::UNKNOWN, &Rare::default(), &vec![b'x'; bytes]);
        let mut results = vec![OpResult::Got("k".into(), Some(record))];
        results.extend(writes.then_some(OpResult::Set(1)));
        Ok((9, Reply::Txn { succeeded: true, results }))
    }

    /// Issue 18, A1: 171 KiB of transactions at a follower took 8 GiB at the leader.
    #[tokio::test]
    async fn the_values_of_a_reply_are_bounded_and_the_rest_is_told() {
        let many = vec![
            reading(10 << 20, false),
            reading(10 << 20, true),
            reading(10 << 20, true),
            reading(10 << 20, false),
            reading(10, true),
        ];
        let room = ReplyRoom::default();
        let bytes = room.encode(Ok(PeerReply::Forward(many)), OLDEST).await;
        assert!(bytes.len() < MAX_REPLY_VALUE_BYTES + 1024);
        assert!(room.0.available_permits() <= (MAX_UNSENT_REPLY_BYTES - (30 << 20)) >> 10);
        let Ok(PeerReply::Forward(outcomes)) = wire::decode::<Answer>(&bytes, OLDEST).unwrap() else { panic!() };
        assert_eq!(outcomes.iter().map(|one| one.is_ok()).collect::<Vec<_>>(), [true, true, true, false, true]);
        assert!(matches!(&outcomes[3], Err(ForwardError::Failed(NodeError::Overloaded(_)))));
        drop(bytes);
        assert_eq!(room.0.available_permits(), MAX_UNSENT_REPLY_BYTES >> 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_finds_no_room_goes_without_values() {
        let room = ReplyRoom::default();
        let _all = room.0.clone().acquire_many_owned((MAX_UNSENT_REPLY_BYTES >> 10) as u32).await.unwrap();
        let bytes =
            room.encode(Ok(PeerReply::Forward(vec![reading(1 << 20, true), reading(1 << 20, false)])), OLDEST).await;
        let Ok(PeerReply::Forward(outcomes)) = wire::decode::<Answer>(&bytes, OLDEST).unwrap() else { panic!() };
        assert!(matches!(&outcomes[0], Err(ForwardError::Failed(NodeError::Timeout(why))) if why.contains("index 9")));
        assert!(matches!(&outcomes[1], Err(ForwardError::Failed(NodeError::Overloaded(_)))));
    }
}
