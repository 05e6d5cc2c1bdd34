//! The items of a listing: keys, and folders in place of the keys in them, in the order of their
//! bytes.

use std::collections::VecDeque;
use std::ops::Bound;

use compact_str::CompactString;

use crate::command::Key;
use crate::kv::KvStore;
use crate::record::Record;

/// How many items are taken out of the state at once.
const BATCH_ITEMS: usize = 256;

/// How many keys of a folder are passed one by one before the place behind it is looked up: most folders have few.
const PASSED_AT_ONCE: usize = 16;

/// A key with its record, or a folder.
pub type Item = (CompactString, Option<Record>);

/// Lists what is there; a clone goes on from the same place.
#[derive(Debug, Clone)]
pub struct Items {
    next: VecDeque<Item>,
    /// `None`: there is nothing after `next`.
    rest: Option<Range>,
}

#[derive(Debug, Clone)]
struct Range {
    kv: KvStore,
    prefix: CompactString,
    separator: Option<CompactString>,
    from: Bound<CompactString>,
}

impl Items {
    /// Those keys of a list that exist, in the order of their bytes.
    pub fn of_keys(kv: &KvStore, mut keys: Vec<Key>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        let item = |key: Key| kv.get(&key).cloned().map(|record| (key, Some(record)));
        Self { next: keys.into_iter().filter_map(item).collect(), rest: None }
    }

    /// The keys that begin with `prefix`, and come after `after`. With a separator, what has one in
    /// what follows the prefix is a folder up to there.
    pub fn with_prefix(kv: KvStore, prefix: &str, separator: Option<&str>, after: Option<&str>) -> Self {
        let separator = separator.map(CompactString::from);
        let from = match after {
            Some(after) if after >= prefix => match folder(after, prefix, separator.as_deref()) {
                // A folder comes before all that is in it: this one was listed.
                Some(listed) => past(listed).map(Bound::Included),
                None => Some(Bound::Excluded(after.into())),
            },
            _ => Some(Bound::Included(prefix.into())),
        };
        let rest = from.map(|from| Range { kv, prefix: prefix.into(), separator, from });
        Self { next: VecDeque::new(), rest }
    }
}

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        while self.next.is_empty()
            && let Some(range) = &mut self.rest
        {
            if !range.take(&mut self.next) {
                self.rest = None;
            }
        }
        self.next.pop_front()
    }
}

impl Range {
    /// Takes a batch; whether there may be more.
    fn take(&mut self, items: &mut VecDeque<Item>) -> bool {
        while items.len() < BATCH_ITEMS {
            let mut passed = 0;
            let mut is_all = true;
            for (key, record) in self.kv.range_from(&self.prefix, self.from.as_ref().map(CompactString::as_str)) {
                if let Some((folder, None)) = items.back()
                    && key.starts_with(folder.as_str())
                {
                    passed += 1;
                    if passed < PASSED_AT_ONCE {
                        continue;
                    }
                } else if items.len() < BATCH_ITEMS {
                    passed = 0;
                    items.push_back(match folder(key, &self.prefix, self.separator.as_deref()) {
                        Some(folder) => (folder.into(), None),
                        None => (key.clone(), Some(record.clone())),
                    });
                    continue;
                }
                is_all = false;
                break;
            }
            if is_all {
                return false;
            }
            // The last item is never that of a batch before: those were taken.
            match items.back() {
                Some((folder, None)) => match past(folder) {
                    Some(past) => self.from = Bound::Included(past),
                    None => return false,
                },
                Some((key, Some(_))) => self.from = Bound::Excluded(key.clone()),
                None => return false,
            }
        }
        true
    }
}

/// The folder under `prefix` that a key is in.
fn folder<'a>(key: &'a str, prefix: &str, separator: Option<&str>) -> Option<&'a str> {
    let (rest, separator) = (key.strip_prefix(prefix)?, separator?);
    let end = prefix.len() + rest.find(separator)? + separator.len();
    key.get(..end)
}

/// The least text that comes after all that begins with `prefix`.
fn past(prefix: &str) -> Option<CompactString> {
    let mut chars = prefix.chars();
    while let Some(last) = chars.next_back() {
        // A range of characters knows of the gap where surrogates would be.
        if let Some(next) = (last..=char::MAX).nth(1) {
            let mut past = CompactString::from(chars.as_str());
            past.push(next);
            return Some(past);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;

    fn store(keys: &[&str]) -> KvStore {
        let mut kv = KvStore::new();
        let pairs = keys.iter().map(|&key| (key.into(), "1".into())).collect();
        kv.apply(1, &Command::Set(pairs), &mut Vec::new());
        kv
    }

    fn names(items: Items) -> Vec<String> {
        items.map(|(name, _)| name.into()).collect()
    }

    #[test]
    fn what_comes_past_a_prefix() {
        for (prefix, wanted) in [
            ("a", Some("b")),
            ("app/", Some("app0")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("\u{7f}", Some("\u{80}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(past(prefix).as_deref(), wanted, "{prefix:?}");
        }
    }

    #[test]
    fn folders_are_listed_once_and_skipped_whole() {
        let keys = ["a", "a!", "a/", "a//b", "a/b", "a0", "b/c/d", "b/c/e", "b\u{10ffff}/x", "c"];
        let list = |prefix: &str, after: Option<&str>| {
            names(Items::with_prefix(store(&keys), prefix, Some("/"), after)).join(" ")
        };
        assert_eq!(list("", None), "a a! a/ a0 b/ b\u{10ffff}/ c");
        assert_eq!(list("a/", None), "a/ a// a/b");
        assert_eq!(list("b/", None), "b/c/");
        assert_eq!(list("x", None), "");
        for (after, wanted) in [
            ("a/", "a0 b/ b\u{10ffff}/ c"),
            ("a/b", "a0 b/ b\u{10ffff}/ c"),
            ("a/zz", "a0 b/ b\u{10ffff}/ c"),
            ("a!", "a/ a0 b/ b\u{10ffff}/ c"),
            ("b\u{10ffff}/", "c"),
            ("c", ""),
            ("", "a a! a/ a0 b/ b\u{10ffff}/ c"),
        ] {
            assert_eq!(list("", Some(after)), wanted, "{after}");
        }
        assert_eq!(list("b/", Some("a/x")), "b/c/", "after what is before the prefix");
        assert_eq!(list("b/", Some("c")), "", "after what is past the prefix");
        let items = Items::with_prefix(store(&["a::b", "a:c"]), "", Some("::"), None);
        assert_eq!(names(items), ["a::", "a:c"]);
    }

    #[test]
    fn batches_make_no_seam() {
        // Folders of so many keys are passed one by one, and by a look at what is behind them.
        for in_each in [1, PASSED_AT_ONCE - 1, PASSED_AT_ONCE, PASSED_AT_ONCE + 1, 3 * PASSED_AT_ONCE] {
            let keys = (0..BATCH_ITEMS + 9).flat_map(|folder| {
                (0..in_each).map(move |key| format!("{folder:05}/{key:02}")).chain([format!("{folder:05}0")])
            });
            let keys: Vec<String> = keys.collect();
            let refs: Vec<&str> = keys.iter().map(String::as_str).collect();
            let wanted: Vec<String> =
                (0..BATCH_ITEMS + 9).flat_map(|folder| [format!("{folder:05}/"), format!("{folder:05}0")]).collect();
            assert_eq!(names(Items::with_prefix(store(&refs), "", Some("/"), None)), wanted, "{in_each}");
        }
        for count in [0, 1, BATCH_ITEMS - 1, BATCH_ITEMS, BATCH_ITEMS + 1, 3 * BATCH_ITEMS] {
            let keys: Vec<String> = (0..count).map(|number| format!("k{number:05}")).collect();
            let refs: Vec<&str> = keys.iter().map(String::as_str).collect();
            assert_eq!(names(Items::with_prefix(store(&refs), "k", None, None)), keys);
            let folders: Vec<String> = keys.iter().map(|key| format!("{key}/x")).collect();
            let refs: Vec<&str> = folders.iter().map(String::as_str).collect();
            assert_eq!(names(Items::with_prefix(store(&refs), "", Some("/"), None)).len(), count);
        }
    }

    #[test]
    fn a_list_of_keys() {
        let kv = store(&["a", "b", "c"]);
        assert_eq!(names(Items::of_keys(&kv, ["c", "x", "a", "c"].map(Key::from).to_vec())), ["a", "c"]);
    }
}
