//! Decodes messages within bounds of what that allocates.
//!
//! A list of small elements takes up to 36 times as much memory as its bytes in a message. Such elements are mostly
//! structure: lengths, tags, numbers. Texts and values take what they are. So the structure of a message is limited to
//! [`MAX_STRUCTURE_BYTES`] and as many bytes as it has of texts and values, which no list of named things exceeds.

use postcard::de_flavors::Flavor;
use postcard::{Deserializer, Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::wire::{Request, VERSION};
use crate::node::rpc::{Envelope, PeerRequest};

/// Bytes of structure that any message may have.
const MAX_STRUCTURE_BYTES: usize = 4 << 20;

/// Commands that a follower forwards together; it sends half as many at most.
const MAX_FORWARDED_COMMANDS: u64 = 1024;

/// Bytes that a message of forwarded commands may have beyond the largest request: a batch is closed when it is larger than
/// a megabyte.
const FORWARD_MARGIN_BYTES: usize = 4 << 20;

/// The number of [`PeerRequest::Forward`] in the format.
const FORWARD_TAG: u8 = 4;

/// The rest of a message, and the bytes of structure that it may still have.
struct Bounded<'de> {
    rest: &'de [u8],
    structure_left: usize,
}

impl<'de> Flavor<'de> for Bounded<'de> {
    type Remainder = &'de [u8];
    type Source = &'de [u8];

    fn pop(&mut self) -> Result<u8> {
        self.structure_left = self.structure_left.checked_sub(1).ok_or(Error::SerdeDeCustom)?;
        let (byte, rest) = self.rest.split_first().ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }

    fn try_take_n(&mut self, count: usize) -> Result<&'de [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        self.structure_left = self.structure_left.saturating_add(count);
        Ok(taken)
    }

    fn finalize(self) -> Result<&'de [u8]> {
        Ok(self.rest)
    }
}

fn without_version(bytes: &[u8]) -> std::result::Result<&[u8], String> {
    match bytes.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((version, _)) => Err(format!("version {version} of the protocol; this node speaks {VERSION}")),
        None => Err("an empty message".to_owned()),
    }
}

/// A value at the beginning of `body`, and what follows it.
fn take<'de, T: Deserialize<'de>>(body: &'de [u8]) -> std::result::Result<(T, &'de [u8]), String> {
    let mut deserializer = Deserializer::from_flavor(Bounded { rest: body, structure_left: MAX_STRUCTURE_BYTES });
    let value = T::deserialize(&mut deserializer).and_then(|value| Ok((value, deserializer.finalize()?)));
    value.map_err(|error| format!("not a message: {error}"))
}

/// The message in `bytes`.
///
/// # Errors
/// A text that says what is wrong.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    take(without_version(bytes)?).map(|(message, _)| message)
}

/// The request in `bytes`; `max_request_bytes` is the largest request of a client.
///
/// # Errors
/// A text that says what is wrong.
pub(super) fn decode_request(bytes: &[u8], max_request_bytes: usize) -> std::result::Result<Request, String> {
    let (envelope, body) = take::<Envelope>(without_version(bytes)?)?;
    if let Some((&FORWARD_TAG, commands)) = body.split_first() {
        let (count, _) = take::<u64>(commands)?;
        if count > MAX_FORWARDED_COMMANDS || commands.len() > max_request_bytes + FORWARD_MARGIN_BYTES {
            let bytes = commands.len();
            return Err(format!(
                "{count} forwarded commands in {bytes} bytes, more than --max-request of the leader allows"
            ));
        }
    }
    take::<PeerRequest>(body).map(|(request, _)| (envelope, request))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::{Action, Command, Op, Txn};
    use crate::network::wire::encode;

    fn envelope() -> Envelope {
        Envelope {
            cluster: None,
            from: "127.0.0.1:1,127.0.0.1:2".parse().unwrap(),
            from_raft: 7,
            to: "127.0.0.1:3,127.0.0.1:4".parse().unwrap(),
            to_raft: None,
            echo: None,
            confirmed: None,
            log_time: None,
            mark: None,
        }
    }

    fn forward(commands: Vec<Command>) -> Vec<u8> {
        let commands = commands.into_iter().map(Arc::new).collect();
        encode(&(envelope(), PeerRequest::Forward { commands, timeout_ms: 5 }))
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

    /// The smallest pairs that a client can send, as many as fit into the largest request.
    #[test]
    fn whatever_a_client_may_store_is_decoded() {
        let pairs = (0..1_400_000_u32).map(|n| (compact_str::format_compact!("{n:x}"), "1".into())).collect();
        let bytes = forward(vec![Action::Set { pairs, ttl_ms: None, conditions: Vec::new() }.into()]);
        assert!(decode_request(&bytes, 16 << 20).is_ok());
    }

    #[test]
    fn the_tag_is_that_of_forward() {
        let head = encode(&envelope()).len();
        assert_eq!(forward(Vec::new())[head], FORWARD_TAG);
    }
}
