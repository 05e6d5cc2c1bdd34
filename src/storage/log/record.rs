//! Records: what the log's frames hold, and what they do to its state.
//!
//! Payloads are postcard. A change to any of them needs a new
//! [`FORMAT_VERSION`](super::FORMAT_VERSION).

use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use crate::formats::Format;
use crate::raft_types::alias::{LogEntry, LogId, Vote};

/// The kind byte of a frame.
pub mod kind {
    /// A vote.
    pub const VOTE: u8 = 1;
    /// A log entry.
    pub const ENTRY: u8 = 2;
    /// The last committed log id.
    pub const COMMITTED: u8 = 3;
    /// Entries after a log id are gone.
    pub const TRUNCATE: u8 = 4;
    /// Entries up to a log id are gone.
    pub const PURGE: u8 = 5;
    /// The state of the log where a segment starts, so that older segments can go.
    pub const HEAD: u8 = 6;
    /// The log goes on in the next segment. That file's name was durable before.
    pub const NEXT: u8 = 7;
    /// The log was opened; always a batch of its own.
    pub const OPENED: u8 = 8;
    /// The log was closed cleanly; always a batch of its own.
    pub const STOPPED: u8 = 9;
    /// As `HEAD`, and the Raft id of the node whose log it is. Since version 3.
    pub const OWNED_HEAD: u8 = 10;
}

/// A record, decoded.
#[derive(Debug)]
pub enum LogRecord {
    /// A vote.
    Vote(Vote),
    /// A log entry.
    Entry(LogEntry),
    /// The last committed log id.
    Committed(Option<LogId>),
    /// Entries after this log id are gone; all of them, where there is none.
    Truncate(Option<LogId>),
    /// Entries up to this log id are gone.
    Purge(LogId),
    /// The state of the log where a segment starts.
    Head(Head),
    /// That, and the Raft id of the node whose log it is.
    OwnedHead(u64, Head),
    /// The log goes on in the next segment.
    Next,
    /// The log was opened.
    Opened,
    /// The log was closed cleanly.
    Stopped,
}

impl LogRecord {
    /// Decodes a payload whose frame was checked.
    ///
    /// # Errors
    /// The contradiction, in words for an operator.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, String> {
        let record = match kind {
            kind::VOTE => Self::Vote(whole(payload)?),
            kind::ENTRY => Self::Entry(whole(payload)?),
            kind::COMMITTED => Self::Committed(whole(payload)?),
            kind::TRUNCATE => Self::Truncate(whole(payload)?),
            kind::PURGE => Self::Purge(whole(payload)?),
            kind::HEAD => Self::Head(whole(payload)?),
            kind::NEXT => Self::Next,
            kind::OPENED => Self::Opened,
            kind::STOPPED => Self::Stopped,
            kind::OWNED_HEAD => {
                let (owner, head) = whole(payload)?;
                Self::OwnedHead(owner, head)
            }
            other => return Err(format!("a record of the unknown kind {other}")),
        };
        // Of every index it must be possible to tell the next.
        if record.ids().into_iter().flatten().any(|id| id.index == u64::MAX) {
            return Err("an index that no log comes to".to_owned());
        }
        Ok(record)
    }

    fn ids(&self) -> [Option<LogId>; 3] {
        match self {
            Self::Entry(entry) => [Some(entry.log_id), None, None],
            Self::Committed(id) | Self::Truncate(id) => [*id, None, None],
            Self::Purge(id) => [Some(*id), None, None],
            Self::Head(head) | Self::OwnedHead(_, head) => [head.committed, head.purged, head.last],
            Self::Vote(_) | Self::Next | Self::Opened | Self::Stopped => [None; 3],
        }
    }
}

fn whole<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes too many in a record", rest.len())),
        Err(error) => Err(format!("a record that cannot be decoded: {error}")),
    }
}

/// Encodes a payload at the end of `buf` and returns how many bytes it took.
pub fn encode(buf: Vec<u8>, payload: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(payload, buf).expect("every record type can be encoded, and memory does not refuse bytes")
}

/// Everything the log holds but the entries themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last committed log id that was saved.
    pub committed: Option<LogId>,
    /// Entries up to this one are gone.
    pub purged: Option<LogId>,
    /// The last entry, or the purge point where there is none.
    pub last: Option<LogId>,
}

impl Head {
    /// True if there is no entry after the purge point.
    pub fn has_no_entry(&self) -> bool {
        self.last == self.purged
    }

    /// True if an entry of this index may come next. An empty log that was never purged may start
    /// anywhere (openraft's storage suite does); otherwise there are no holes.
    pub fn accepts(&self, index: u64) -> bool {
        match &self.last {
            None => true,
            Some(last) => index == last.index + 1,
        }
    }

    /// Drops what comes after `after`; never below the purge point, never forward.
    pub fn truncate(&mut self, after: Option<LogId>) {
        if index(&after) < index(&self.purged) {
            self.last = self.purged;
        } else if index(&after) < index(&self.last) {
            self.last = after;
        }
    }

    /// Moves the purge point forward.
    pub fn purge(&mut self, upto: LogId) {
        if index(&self.purged) >= Some(upto.index) {
            return;
        }
        self.purged = Some(upto);
        if index(&self.last) <= Some(upto.index) {
            self.last = Some(upto);
        }
    }
}

/// The format that a node must understand to read these entries.
pub fn format(entries: &[LogEntry]) -> Format {
    let formats = entries.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::Normal(command) => Some(command.format()),
        _ => None,
    });
    formats.max().unwrap_or_default()
}

/// The index of a log id; `None` sorts before all.
pub fn index(id: &Option<LogId>) -> Option<u64> {
    id.as_ref().map(|id| id.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::log::tests::{id, vote};

    #[test]
    fn a_head_keeps_its_order() {
        let mut head = Head { vote: Some(vote(1)), ..Head::default() };
        assert!(head.accepts(5) && head.has_no_entry());
        head.last = Some(id(1, 9));
        assert!(head.accepts(10) && !head.accepts(9) && !head.accepts(11));
        head.truncate(Some(id(1, 12)));
        assert_eq!(head.last, Some(id(1, 9)));
        head.purge(id(1, 4));
        head.purge(id(1, 3));
        assert_eq!(head.purged, Some(id(1, 4)));
        head.truncate(Some(id(1, 2)));
        assert_eq!(head.last, Some(id(1, 4)));
        head.purge(id(2, 20));
        assert_eq!((head.last, head.has_no_entry()), (Some(id(2, 20)), true));
        head.truncate(None);
        assert_eq!(head.last, Some(id(2, 20)));
    }

    #[test]
    fn a_payload_is_decoded_whole_or_not_at_all() {
        let mut bytes = encode(Vec::new(), &vote(3));
        assert!(matches!(LogRecord::decode(kind::VOTE, &bytes), Ok(LogRecord::Vote(v)) if v == vote(3)));
        bytes.push(0);
        assert_eq!(LogRecord::decode(kind::VOTE, &bytes).unwrap_err(), "1 bytes too many in a record");
        assert!(LogRecord::decode(kind::VOTE, &bytes[..1]).is_err());
        assert!(LogRecord::decode(99, &[]).is_err());
    }
}
