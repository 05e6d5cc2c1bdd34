//! Decodes messages within bounds of what that allocates.
//!
//! A list of small elements takes up to 36 times as much memory as its bytes in a message. Such elements are made of
//! lengths, tags and numbers; texts and values take what they are. So a message may have at most [`MAX_NUMBERS`] of these,
//! and as many as the largest request of a client comes to. None of them takes more than 36 bytes: a message that is refused
//! for what it would take has taken less than a GiB.

use postcard::de_flavors::Flavor;
use postcard::{Deserializer, Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::wire::{self, Message, Request};
use crate::formats::{Format, NEWEST, Speaks};
use crate::node::rpc::{Envelope, PeerRequest};

/// Lengths, tags and numbers that any message may have: a batch of entries, or of commands.
const MAX_NUMBERS: usize = 1 << 20;

/// In a request, the bytes of JSON for each of them: a key with a value is six at least, and has two lengths.
const JSON_BYTES_PER_NUMBER: usize = 3;

/// The largest request that a node may be told to take (`--max-request`): another's entries may be as large.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// Commands that a follower forwards together; it sends half as many at most.
const MAX_FORWARDED_COMMANDS: u64 = 1024;

/// Bytes that a message of forwarded commands may have beyond the largest request: a batch is closed when it is larger than
/// a megabyte.
const FORWARD_MARGIN_BYTES: usize = 4 << 20;

/// The most bytes of a version of hraftd.
const MAX_VERSION_BYTES: usize = 64;

/// The number of [`PeerRequest::Forward`] in the format.
const FORWARD_TAG: u8 = 4;

/// The rest of a message, and how many numbers it may still have.
struct Bounded<'de> {
    rest: &'de [u8],
    numbers_left: usize,
}

impl<'de> Flavor<'de> for Bounded<'de> {
    type Remainder = &'de [u8];
    type Source = &'de [u8];

    fn pop(&mut self) -> Result<u8> {
        let (byte, rest) = self.rest.split_first().ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        // The last byte of a number; those before it have the high bit.
        if *byte < 0x80 {
            self.numbers_left = self.numbers_left.checked_sub(1).ok_or(Error::SerdeDeCustom)?;
        }
        Ok(*byte)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }

    fn try_take_n(&mut self, count: usize) -> Result<&'de [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    fn finalize(self) -> Result<&'de [u8]> {
        Ok(self.rest)
    }
}

/// The format of a message, and what follows its version.
fn without_version(bytes: &[u8], newest: Format) -> std::result::Result<(Format, &[u8]), String> {
    let (version, body) = bytes.split_first().ok_or("an empty message")?;
    Ok((wire::format_of(*version, newest)?, body))
}

/// What stands behind a message: what its sender understands. Whatever comes after that is of a later time.
fn told(rest: &[u8]) -> std::result::Result<Speaks, String> {
    if rest.is_empty() {
        return Ok(Speaks::silent());
    }
    let (speaks, _): (Speaks, _) = take(rest, 0)?;
    let fits = speaks.version.len() <= MAX_VERSION_BYTES && !speaks.version.contains(char::is_control);
    if fits { Ok(speaks) } else { Err("not a message: its sender's version is none".to_owned()) }
}

/// A value at the beginning of `body`, and what follows it.
fn take<'de, T: Deserialize<'de>>(
    body: &'de [u8],
    max_request_bytes: usize,
) -> std::result::Result<(T, &'de [u8]), String> {
    let numbers_left = MAX_NUMBERS + max_request_bytes / JSON_BYTES_PER_NUMBER;
    let mut deserializer = Deserializer::from_flavor(Bounded { rest: body, numbers_left });
    let value = T::deserialize(&mut deserializer).and_then(|value| Ok((value, deserializer.finalize()?)));
    value.map_err(|error| format!("not a message: {error}"))
}

/// The message in `bytes`, in a format up to `newest`.
///
/// # Errors
/// A text that says what is wrong.
pub(crate) fn decode<M: Message + DeserializeOwned>(bytes: &[u8], newest: Format) -> std::result::Result<M, String> {
    let (format, body) = without_version(bytes, newest)?;
    let (mut message, rest): (M, _) = take(body, MAX_REQUEST_BYTES)?;
    message.said(format, told(rest)?);
    Ok(message)
}

/// The request in `bytes`; `max_request_bytes` is the largest request of a client.
///
/// # Errors
/// A text that says what is wrong.
pub(super) fn decode_request(bytes: &[u8], max_request_bytes: usize) -> std::result::Result<Request, String> {
    let (format, body) = without_version(bytes, NEWEST)?;
    let (envelope, body) = take::<Envelope>(body, 0)?;
    // Of entries it is not known how much their leader takes.
    let mut largest = MAX_REQUEST_BYTES;
    if let Some((&FORWARD_TAG, commands)) = body.split_first() {
        largest = max_request_bytes;
        let (count, _) = take::<u64>(commands, 0)?;
        if count > MAX_FORWARDED_COMMANDS || commands.len() > max_request_bytes + FORWARD_MARGIN_BYTES {
            let bytes = commands.len();
            return Err(format!(
                "{count} forwarded commands in {bytes} bytes, more than --max-request of the leader allows"
            ));
        }
    }
    let (request, rest) = take::<PeerRequest>(body, largest)?;
    let mut message: Request = (envelope, request);
    message.said(format, told(rest)?);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::{Action, Command, Op, Txn};
    use crate::formats::OLDEST;
    use crate::network::wire::encode_request;
    use crate::raft_types::StartMark;

    fn envelope() -> Envelope {
        Envelope {
            cluster: None,
            from: "127.0.0.1:1,127.0.0.1:2".parse().unwrap(),
            from_raft: 7,
            start: StartMark { starts: 3, boot: u64::MAX },
            to: "127.0.0.1:3,127.0.0.1:4".parse().unwrap(),
            to_raft: None,
            to_start: Some(StartMark { starts: u64::MAX, boot: 9 }),
            echo: None,
            confirmed: None,
            log_time: None,
            mark: None,
            format: OLDEST,
            speaks: Speaks::own(),
        }
    }

    fn forward(commands: Vec<Command>) -> Vec<u8> {
        let commands = commands.into_iter().map(Arc::new).collect();
        encode_request(envelope(), PeerRequest::Forward { commands, timeout_ms: 5 })
    }

    fn txn(then: Vec<Op>) -> Command {
        Action::Txn(Txn { tests: Vec::new(), then, otherwise: Vec::new() }).into()
    }

    /// Issue 18, A6: 60 MiB of empty transactions took 2.5 GiB.
    #[test]
    fn what_would_take_many_times_its_bytes_is_refused() {
        let most = 8 << 20;
        assert!(decode_request(&forward(vec![txn(Vec::new()); 512]), most).is_ok());
        let error = decode_request(&forward(vec![txn(Vec::new()); 1025]), most).unwrap_err();
        assert!(error.contains("1025 forwarded commands"), "{error}");
        let large = |bytes: usize| {
            let pairs = vec![("k".into(), vec![b'x'; bytes].into())];
            forward(vec![Action::Set { pairs, ttl_ms: None, conditions: Vec::new() }.into()])
        };
        assert!(decode_request(&large(most), most).is_ok());
        assert!(decode_request(&large(most + (5 << 20)), most).is_err());
        // Two bytes each, which take 72.
        let ops = |count| forward(vec![txn(vec![Op::Get("".into()); count])]);
        assert!(decode_request(&ops(1024), most).is_ok());
        assert!(decode_request(&ops(3 << 20), most).is_err());
    }

    /// Issue 18, A6: an append of 80 MiB of tiny operations took more than a GiB.
    #[test]
    fn what_an_append_would_take_is_bounded_while_it_is_decoded() {
        use crate::network::wire::MAX_MESSAGE_BYTES;
        use std::mem::size_of;
        // The operation with the most memory for its numbers, with texts that take none beside it.
        let ops = vec![Op::Get("ab".into()); MAX_MESSAGE_BYTES / 4];
        let bytes = forward(vec![txn(ops)]);
        assert!(decode::<Request>(&bytes, NEWEST).is_err());
        let most = (MAX_NUMBERS + MAX_REQUEST_BYTES / JSON_BYTES_PER_NUMBER) / 2 * size_of::<Op>();
        assert!(most < 1 << 30, "{most} bytes");
    }

    /// The smallest pairs that a client can send, as many as fit into the largest request.
    #[test]
    fn whatever_a_client_may_store_is_decoded() {
        let pairs = (0..1_400_000_u32).map(|n| (compact_str::format_compact!("{n:x}"), "1".into())).collect();
        let bytes = forward(vec![Action::Set { pairs, ttl_ms: None, conditions: Vec::new() }.into()]);
        assert!(decode_request(&bytes, 16 << 20).is_ok());
    }

    #[test]
    fn the_tag_is_that_of_forward() {
        let head = 1 + postcard::to_stdvec(&envelope()).unwrap().len();
        assert_eq!(forward(Vec::new())[head], FORWARD_TAG);
    }
}
