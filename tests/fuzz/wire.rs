//! Messages of peers, whole and in their parts.

use bolero::check;
use serde::de::DeserializeOwned;

use super::wire::{Answer, Message, Request, SnapshotHead, decode, encode};
use crate::formats::NEWEST;
use crate::fuzz::{SOME, bounded};

/// A type in memory is at most so much larger than the bytes that it comes from, which may be one or two.
const FACTOR: usize = 300;

/// serde takes at most so much for a list before it has seen what is in it, and lists may be in lists.
const BASE: usize = 4 << 20;

fn message<T: DeserializeOwned + Message>(input: &[u8]) {
    bounded(input.len(), FACTOR, BASE, || match decode::<T>(input, NEWEST) {
        Ok(message) => {
            let once = encode(&message, NEWEST);
            let again = decode::<T>(&once, NEWEST).expect("what was encoded");
            assert_eq!(encode(&again, NEWEST), once);
        }
        Err(why) => assert!(!why.is_empty() && why.len() < 1000, "{why}"),
    });
}

#[test]
fn requests() {
    check!(name = "peer_requests").with_iterations(SOME).for_each(|input: &[u8]| message::<Request>(input));
}

#[test]
fn answers() {
    check!(name = "peer_answers").with_iterations(SOME).for_each(|input: &[u8]| message::<Answer>(input));
}

#[test]
fn heads_of_snapshots() {
    check!(name = "snapshot_heads").with_iterations(SOME).for_each(|input: &[u8]| message::<SnapshotHead>(input));
}
