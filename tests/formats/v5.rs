//! The second format: as the first, in a cluster whose format was raised. A segment of the log, and a snapshot, say so.

use hraftd::command::{Action, Command};
use hraftd::formats::Format;
use openraft::EntryPayload;

use crate::content::{Content, entry};
use crate::v2;

fn raise(term: u64, index: u64) -> hraftd::raft_types::alias::LogEntry {
    entry(term, index, EntryPayload::Normal(Command::from(Action::Raise { to: Format(2) }).into()))
}

pub fn content() -> Content {
    let mut content = v2::content();
    // As soon as there is a leader; and once more, which changes nothing.
    content.first[1] = raise(1, 1);
    let last = content.second.last().map_or(0, |entry| entry.log_id.index);
    content.second.push(raise(3, last + 1));
    content
}
