//! LargeValues values as they are sent, once for all watchers.
//!
//! Thousands of watchers may each have one waiting for a client that does not read; they share it.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::without_spaces::{compact, is_compact};
use crate::record::Record;

/// Values up to this are copied into the text of an event.
pub const SMALL_VALUE_BYTES: usize = 2 << 10;

/// The most values that are kept: the watchers of one event ask for its value at about the same
/// time.
const KEPT_VALUES: usize = 16;
const KEPT_BYTES: usize = 16 << 20;

/// Values that were rendered lately. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct LargeValues(Arc<Mutex<VecDeque<(Record, Bytes)>>>);

impl LargeValues {
    /// The value as JSON on one line.
    pub fn text(&self, record: &Record) -> Bytes {
        // A record is immutable, and kept here, so that its place is its name.
        let is_same = |kept: &Record| std::ptr::eq(kept.value(), record.value());
        let mut kept = self.0.lock();
        if let Some((_, text)) = kept.iter().find(|(kept, _)| is_same(kept)) {
            return text.clone();
        }
        // Under the lock: the others want the same one.
        let text = render(record);
        kept.push_back((record.clone(), text.clone()));
        while kept.len() > KEPT_VALUES || kept.iter().map(|(_, text)| text.len()).sum::<usize>() > KEPT_BYTES {
            kept.pop_front();
        }
        text
    }
}

fn render(record: &Record) -> Bytes {
    if record.is_bytes() {
        return Bytes::from(record.json().into_owned());
    }
    if is_compact(record.value()) {
        return record.shared_value();
    }
    let mut text = Vec::with_capacity(record.value().len());
    compact(&mut text, record.value());
    text.shrink_to_fit();
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Marks, Rare};

    fn record(value: &[u8], is_bytes: bool) -> Record {
        Record::new(Marks::UNKNOWN, &Rare { is_bytes, ..Rare::default() }, value)
    }

    #[test]
    fn it_is_rendered_once() {
        let large = LargeValues::default();
        let compact = record(b"[1,2]", false);
        assert_eq!(large.text(&compact).as_ptr(), compact.value().as_ptr(), "not copied at all");
        let spaced = record(b"[1,\n2]", false);
        let text = large.text(&spaced);
        assert_eq!(&text[..], b"[1,2]");
        assert_eq!(large.text(&spaced.clone()).as_ptr(), text.as_ptr());
        assert_eq!(&large.text(&record(b"\xff", true))[..], br#"{"base64":"/w=="}"#);
        assert_eq!(&large.text(&record(b"[1,\n2]", false))[..], b"[1,2]");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let large = LargeValues::default();
        for _ in 0..100 {
            large.text(&record(b"1 ", false));
        }
        assert_eq!(large.0.lock().len(), KEPT_VALUES);
        let mib = vec![b'1'; 6 << 20];
        for _ in 0..5 {
            large.text(&record(&mib, false));
        }
        assert_eq!(large.0.lock().len(), 2);
        let huge = vec![b'1'; 17 << 20];
        assert_eq!(large.text(&record(&huge, false)).len(), huge.len());
        assert!(large.0.lock().is_empty());
    }
}
