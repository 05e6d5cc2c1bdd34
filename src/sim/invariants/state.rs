//! The history of every key. Not an invariant of its own: reads are compared with it.

use std::collections::BTreeMap;

use super::Applied;
use crate::command::Key;
use crate::kv::Change;

/// The value of a key, and the index that last changed it.
pub type Held = Option<(Vec<u8>, u64)>;

#[derive(Debug, Default)]
pub struct State(BTreeMap<Key, BTreeMap<u64, Held>>);

impl State {
    pub fn applied(&mut self, applied: &Applied<'_>) {
        for event in applied.events {
            let (key, held) = match &event.change {
                Change::Set { key, record } => (key, Some((record.value().to_vec(), record.modify_index()))),
                Change::Deleted { key } | Change::Expired { key, .. } => (key, None),
                _ => continue,
            };
            self.0.entry(key.clone()).or_default().insert(applied.index(), held);
        }
    }

    /// The keys with this prefix and their values after this index was applied, in order.
    pub fn list(&self, prefix: &str, index: u64) -> impl Iterator<Item = (&Key, &[u8])> {
        let begin_so = self.0.range(Key::from(prefix)..).take_while(move |(key, _)| key.starts_with(prefix));
        begin_so.filter_map(move |(key, held)| {
            let (value, _) = held.range(..=index).next_back()?.1.as_ref()?;
            Some((key, &value[..]))
        })
    }

    /// The value of a key after this index was applied.
    pub fn at(&self, key: &str, index: u64) -> Held {
        self.0.get(key)?.range(..=index).next_back()?.1.clone()
    }
}
