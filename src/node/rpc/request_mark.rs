//! How a request is known to its client.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// The most bytes of an id that is taken from a client; what is longer is cut.
pub const MAX_MARK_BYTES: usize = 128;

/// The most marks in a message.
pub const MAX_MARKS: usize = 512;

/// How a request is known to its client, and whether that wants to know where its time goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMark {
    /// `X-Request-Id`.
    pub request_id: Option<CompactString>,
    /// `traceparent`.
    pub traceparent: Option<CompactString>,
    /// Tell where its time went.
    pub timed: bool,
}

impl RequestMark {
    /// A client's text, cut to [`MAX_MARK_BYTES`]; `None` where it is empty, or not visible ASCII.
    pub fn text(given: &[u8]) -> Option<CompactString> {
        let cut = &given[..given.len().min(MAX_MARK_BYTES)];
        let is_visible = !cut.is_empty() && cut.iter().all(|byte| (b' '..=b'~').contains(byte));
        is_visible.then(|| CompactString::from_utf8_lossy(cut))
    }

    /// True for one that a node would send.
    pub fn is_bounded(&self) -> bool {
        let texts = [&self.request_id, &self.traceparent];
        texts.into_iter().flatten().all(|text| Self::text(text.as_bytes()).as_ref() == Some(text))
    }
}

/// Where the time of a write went, in microseconds. The parts follow one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// Until it was handed to Raft: its turn, and the batch before it.
    pub wait_us: u64,
    /// From there until it was handed to the leader's log.
    pub propose_us: u64,
    /// From there until it was on the leader's disk; where it was applied before that, until it was committed.
    pub flush_us: u64,
    /// From there until it was committed; 0 if that came first.
    pub quorum_us: u64,
    /// From there until the outcome was told.
    pub apply_us: u64,
}

impl Stages {
    /// All parts together.
    pub fn sum_us(&self) -> u64 {
        self.wait_us + self.propose_us + self.flush_us + self.quorum_us + self.apply_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_are_bounded() {
        assert_eq!(RequestMark::text(b"a b").as_deref(), Some("a b"));
        let long = RequestMark::text(&[b'x'; 10_000]);
        assert_eq!(long.as_ref().map(CompactString::len), Some(MAX_MARK_BYTES));
        for bad in [&b""[..], b"a\nb", b"\xff", "é".as_bytes()] {
            assert_eq!(RequestMark::text(bad), None);
        }
        assert!(RequestMark { request_id: long, ..RequestMark::default() }.is_bounded());
        assert!(!RequestMark { traceparent: Some("x".repeat(200).into()), ..RequestMark::default() }.is_bounded());
    }
}
