//! Compares stored values with those that transactions name.
//!
//! A small request can name a large value, again and again, in a form of its own (`[` and a megabyte of spaces). The digest
//! of a large value's structure is therefore kept from the first comparison on: each version of a value is taken apart once.
//!
//! The kept digests are no part of the state: they change no reply, and two stores that differ in them are equal.

use imbl::OrdMap;

use super::same_json::{Digest, digest_json, same_json};
use crate::command::Key;
use crate::record::Record;

/// Values of more bytes are compared by their digests.
const LARGE_VALUE_BYTES: usize = 4 * 1024;

/// The most digests that are kept. At one more all are dropped.
const MAX_DIGESTS: usize = 1024;

/// Digests of large values, by key, with the index of the entry that wrote the value.
#[derive(Debug, Clone, Default)]
pub(super) struct Digests(OrdMap<Key, (u64, Option<Digest>)>);

impl PartialEq for Digests {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Digests {}

impl Digests {
    /// Compares a key's value with a JSON text, by structure.
    pub(super) fn same(&mut self, key: &Key, record: &Record, text: &[u8]) -> bool {
        if record.value().len() <= LARGE_VALUE_BYTES {
            return same_json(&record.json(), text);
        }
        if !record.is_bytes() && record.value() == text {
            return true;
        }
        digest_json(text).is_some_and(|digest| self.stored(key, record) == Some(digest))
    }

    fn stored(&mut self, key: &Key, record: &Record) -> Option<Digest> {
        let index = record.modify_index();
        // hraftd 0.1 kept no indexes: all its values have the same.
        let has_index = index > crate::record::Marks::UNKNOWN.modify_index;
        if has_index
            && let Some((of, digest)) = self.0.get(key)
            && *of == index
        {
            return *digest;
        }
        let digest = digest_json(&record.json());
        if has_index {
            if self.0.len() >= MAX_DIGESTS {
                self.0.clear();
            }
            self.0.insert(key.clone(), (index, digest));
        }
        digest
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
