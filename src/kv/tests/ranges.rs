//! Ranges of keys: where one begins, and where it goes on.

use super::*;

/// `after` before the prefix, the prefix itself, a key, between keys, past all.
#[test]
fn a_range_goes_on_after_what_is_named() {
    let letters = ["", "a", "b", "c"];
    let words: Vec<String> =
        letters.iter().flat_map(|a| letters.iter().map(move |b| format!("{a}{b}"))).filter(|w| !w.is_empty()).collect();
    let mut kv = Kv::default();
    for word in words.iter().step_by(2) {
        kv.at(1, set(word, "1", None));
    }
    let mut found_some = 0;
    for prefix in words.iter().map(String::as_str).chain([""]) {
        for after in words.iter().map(|word| Some(word.as_str())).chain([None, Some(""), Some("zz")]) {
            let found: Vec<&str> = kv.kv.range(prefix, after).map(|(key, _)| key.as_str()).collect();
            let all = kv.kv.iter().map(|(key, _)| key.as_str());
            let wanted: Vec<&str> =
                all.filter(|key| key.starts_with(prefix) && after.is_none_or(|after| *key > after)).collect();
            assert_eq!(found, wanted, "{prefix:?} after {after:?}");
            found_some += usize::from(!found.is_empty());
        }
    }
    assert!(found_some > 50, "{found_some} ranges had something: no test");
}

#[test]
fn a_count_is_that_of_the_range() {
    let letters = ["", "a", "b", "c", "é"];
    let words = letters.iter().flat_map(|a| letters.iter().map(move |b| format!("{a}{b}")));
    let words: Vec<String> = words.flat_map(|ab| letters.iter().map(move |c| format!("{ab}{c}"))).collect();
    let mut kv = Kv::default();
    for (at, word) in words.iter().enumerate().filter(|(_, word)| !word.is_empty()) {
        for number in 0..at % 40 {
            kv.at(1, set(&format!("{word}{number}"), "1", None));
        }
    }
    for prefix in words.iter().map(String::as_str).chain(["d", "a1", "ab3", "A"]) {
        assert_eq!(kv.kv.count(prefix), kv.kv.range(prefix, None).count(), "{prefix:?}");
    }
    assert!(kv.kv.count("a") > 200);
}
