//! What hraftd 0.1 wrote: a map of keys to JSON, and nothing else known of a key.

use bytes::Bytes;
use hraftd::command::{Command, Key};
use hraftd::raft_types::alias::LogEntry;

use super::content::{Content, entry, fill, id, membership};
use openraft::EntryPayload;

fn set(pairs: &[(&str, &str)]) -> EntryPayload<std::sync::Arc<Command>, u64, hraftd::raft_types::Member> {
    let pairs = pairs.iter().map(|(key, value)| (Key::from(*key), Bytes::from(value.to_string())));
    EntryPayload::Normal(Command::Set(pairs.collect()).into())
}

pub fn content() -> Content {
    // Long enough to fill segments.
    let fill = |index| entry(1, index, set(&[("fill", &fill(300))]));
    let first: Vec<LogEntry> = [
        entry(1, 0, membership(false)),
        entry(1, 1, EntryPayload::Blank),
        entry(1, 2, set(&[("purged", "true")])),
        entry(1, 3, set(&[("a", r#"{"x":[1,2.50,1e400]}"#), ("ключ/ß", "null"), ("b", r#""\u0000""#)])),
        entry(1, 4, EntryPayload::Normal(Command::Delete("b".into()).into())),
        entry(1, 5, membership(true)),
    ]
    .into_iter()
    .chain((6..12).map(fill))
    .collect();
    Content {
        first,
        truncated_after: 9,
        second: vec![entry(3, 10, EntryPayload::Blank), entry(3, 11, set(&[("z", "0")]))],
        snapshot: 3,
        purged: id(1, 2),
        committed: id(3, 10),
        saved_before: id(1, 3),
    }
}
