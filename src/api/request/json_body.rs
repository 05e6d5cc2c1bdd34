//! The body of `POST /hraftd/key`: one JSON object, its members become keys and values.
//!
//! Values are kept as the bytes that were sent, without surrounding white space: no number is read,
//! so none changes. They are slices of the body, not copies.
//!
//! Hostile bodies: nesting is counted before anything is parsed, without recursion; white space,
//! brackets and keys cost time in proportion to the body, which is bounded.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::request::{json_error, key_path};
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::command::Key;
use crate::json;

/// How deep arrays and objects may nest; the body's own object is the first level.
pub(in crate::api) const MAX_DEPTH: usize = 128;

/// Some editors put it before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Parses and checks the body.
pub fn parse(body: &Bytes, max_value_bytes: usize) -> Result<Vec<(Key, Bytes)>, ApiError> {
    let json = text_of(body, MAX_DEPTH).map_err(bad)?;
    let members = members(json).map_err(|error| bad(json_error::why(&error)))?;
    check(&members, max_value_bytes)?;
    Ok(members
        .into_iter()
        .map(|(key, value)| (CompactString::from(key), body.slice_ref(value.get().as_bytes())))
        .collect())
}

/// Checks a body that is one JSON value; gives its text without the white space around it.
pub fn one(body: &Bytes) -> Result<Bytes, ApiError> {
    let bad = |why: String| ApiError::BadRequest(format!("the body must be one JSON value: {why}"));
    let json = text_of(body, MAX_DEPTH).map_err(bad)?;
    let value: &RawValue = serde_json::from_str(json).map_err(|error| bad(json_error::why(&error)))?;
    Ok(body.slice_ref(value.get().as_bytes()))
}

/// The JSON that a lock or a lease shows to others, or nothing.
pub fn shown(body: &Bytes, most: usize) -> Result<Option<Bytes>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let shown = one(body)?;
    if shown.len() > most {
        return Err(ApiError::TooLarge(format!(
            "the body has {} bytes, more than {most}, the limit of one value (--max-value)",
            shown.len()
        )));
    }
    Ok(Some(shown))
}

/// The body as text, where it is UTF-8 and nests no deeper than so; or what it is instead.
pub(in crate::api) fn text_of(body: &Bytes, most: usize) -> Result<&str, String> {
    let json = std::str::from_utf8(body)
        .map_err(|error| format!("it is not UTF-8 (from byte {} on); JSON always is", error.valid_up_to()))?;
    if json.starts_with(BYTE_ORDER_MARK) {
        return Err(
            "it begins with a byte order mark (EF BB BF), which JSON has not; save it as UTF-8 without".to_owned()
        );
    }
    match json::too_deep(body, most) {
        Some(at) => Err(format!("it nests deeper than {most} levels at byte {at}")),
        None => Ok(json),
    }
}

/// The members of an object, in order, repeated ones included.
pub(in crate::api) fn members(json: &str) -> serde_json::Result<Vec<Member<'_>>> {
    let mut parser = serde_json::Deserializer::from_str(json);
    let members = parser.deserialize_map(Members)?;
    parser.end().map(|()| members)
}

/// A name that comes more than once.
pub(in crate::api) fn repeated<'a>(members: &'a [Member<'_>]) -> Option<&'a str> {
    if members.len() < 2 {
        return None;
    }
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().map(|(name, _)| &**name).find(|name| !seen.insert(*name))
}

/// Refuses a value whose text is longer than its limit.
pub(in crate::api) fn check_value(key: &str, value: &RawValue, max_value_bytes: usize) -> Result<(), ApiError> {
    let length = value.get().len();
    if length <= max_value_bytes {
        return Ok(());
    }
    Err(ApiError::TooLarge(format!(
        "the value of {} has {length} bytes, more than {max_value_bytes}, the limit of one value (--max-value)",
        text::quoted(key)
    )))
}

fn check(members: &[Member<'_>], max_value_bytes: usize) -> Result<(), ApiError> {
    if members.is_empty() {
        return Err(bad("the object is empty".to_owned()));
    }
    for (key, value) in members {
        key_path::check(key)?;
        check_value(key, value, max_value_bytes)?;
    }
    match repeated(members) {
        Some(key) => Err(bad(format!("the key {} is repeated", text::quoted(key)))),
        None => Ok(()),
    }
}

fn bad(why: String) -> ApiError {
    ApiError::BadRequest(format!("the body must be one JSON object such as {{\"k1\":\"v1\"}}: {why}"))
}

/// A name, and the text of what it names.
pub(in crate::api) type Member<'a> = (Cow<'a, str>, &'a RawValue);

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(key)) = map.next_key()? {
            members.push((key, map.next_value()?));
        }
        Ok(members)
    }
}

/// A member's name, borrowed from the body unless it has escapes (serde's own `Cow` always copies).
struct Name<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(body: &str) -> Result<Vec<(Key, Bytes)>, ApiError> {
        parse(&Bytes::copy_from_slice(body.as_bytes()), 1000)
    }

    #[test]
    fn values_stay_as_sent() {
        let values = [
            "null",
            "true",
            "\"\"",
            "\"\\u00e9\\/\\ud83d\\ude00 é\"",
            "\"\\ud800\"",
            "123456789012345678901234567890.10",
            "-0",
            "1E+400",
            "0.1000000000000000000000001e-7",
            "[]",
            "{}",
            "[1, 2 ,\n3]",
            "{ \"a\" : [ { } ], \"a\":1 }",
            "\"]]]]\\\"[[[\"",
        ];
        for value in values {
            for body in [format!("{{\"k\":{value}}}"), format!(" \r\n\t{{ \"k\" :\n {value} \t}}\n ")] {
                let found = pairs(&body).unwrap_or_else(|error| panic!("{body}: {error:?}"));
                assert_eq!(found, [(Key::from("k"), Bytes::copy_from_slice(value.as_bytes()))], "{body}");
            }
        }
    }

    #[test]
    fn keys_are_unescaped_and_keep_their_order() {
        let found = pairs(r#"{"z":1,"\u0061\/\n":2,"é":3," ":4}"#).unwrap();
        let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["z", "a/\n", "é", " "]);
    }

    #[test]
    fn values_are_slices_of_the_body() {
        let body = Bytes::from_static(b"{\"k\": \"0123456789\"}");
        let value = parse(&body, 1000).unwrap().remove(0).1;
        assert!(body.as_ptr_range().contains(&value.as_ptr()));
    }

    #[test]
    fn bad_bodies() {
        let long_key = format!("{{\"{}\":1}}", "k".repeat(4097));
        let brackets = "[".repeat(200_000);
        let closed = format!("{{\"k\":{}{}}}", "[".repeat(128), "]".repeat(128));
        let cases = [
            ("", "ends too early"),
            ("   ", "ends too early"),
            ("{}", "empty"),
            ("[]", "it is an array, not a JSON object"),
            ("1", "it is a number"),
            ("null", "it is null"),
            ("\"k\"", "it is a text"),
            ("k=v", "line 1 column 1"),
            ("{\"k\"}", "line 1 column 5"),
            ("{\"k\":}", "line 1 column 6"),
            ("{\"k\":1", "ends too early"),
            ("{\"k\":1,}", "comma before a closing bracket"),
            ("{\"k\":1}x", "follows after its end"),
            ("{\"k\":1}{\"k\":1}", "follows after its end"),
            ("{\"k\":1\n \"l\":2}", "line 2"),
            ("{\"k\":NaN}", "line 1"),
            ("{\"k\":Infinity}", "line 1"),
            ("{\"k\":01}", "number"),
            ("{\"k\":1.}", "number"),
            ("{\"k\":+1}", "line 1"),
            ("{\"k\":.5}", "line 1"),
            ("{'k':1}", "line 1"),
            ("{k:1}", "line 1"),
            ("{1:1}", "line 1"),
            ("{\"k\":'v'}", "line 1"),
            ("{\"k\":\"a\nb\"}", "control character"),
            ("{\"k\":\"\\x\"}", "escape"),
            ("{\"k\":1}//c", "follows after its end"),
            ("\u{feff}{\"k\":1}", "byte order mark"),
            ("{\"\":1}", "empty"),
            ("{\"k\":1,\"l\":2,\"k\":3}", "\"k\" is repeated"),
            ("{\"k\":1,\"\\u006b\":3}", "\"k\" is repeated"),
            ("{\"\\ud800\":1}", "line 1"),
            (&long_key, "4096"),
            (&brackets, "128 levels at byte 128"),
            (&closed, "128 levels at byte 132"),
        ];
        for (body, part) in cases {
            match pairs(body) {
                Err(ApiError::BadRequest(msg)) => assert!(msg.contains(part), "{body:.40}: {msg}"),
                other => panic!("{body:.40}: {other:?}"),
            }
        }
        let Err(ApiError::BadRequest(msg)) = parse(&Bytes::from_static(b"{\"k\":\"\xff\"}"), 1000) else { panic!() };
        assert!(msg.contains("from byte 6"), "{msg}");
    }

    #[test]
    fn what_is_refused_is_not_sent_back_whole() {
        let Err(ApiError::BadRequest(msg)) = pairs(&format!("\"{}\"", "v".repeat(100_000))) else { panic!() };
        assert!(msg.len() < 400 && msg.contains("it is a text"), "{msg}");
    }

    #[test]
    fn nesting_to_the_limit_is_kept() {
        let value = format!("{}{}", "[".repeat(127), "]".repeat(127));
        assert_eq!(pairs(&format!("{{\"k\":{value}}}")).unwrap()[0].1, value);
        assert!(pairs(&format!("{{\"k\":\"{}\"}}", "[".repeat(900))).is_ok());
    }

    #[test]
    fn value_limit_counts_the_json_text() {
        let value = format!("\"{}\"", "v".repeat(998));
        assert!(pairs(&format!("{{\"k\":   {value}  }}")).is_ok());
        match pairs(&format!("{{\"a\":1,\"k\":{}}}", value.replacen('v', "vv", 1))) {
            Err(ApiError::TooLarge(msg)) => {
                assert!(msg.contains("\"k\"") && msg.contains("1000") && msg.contains("--max-value"), "{msg}");
            }
            other => panic!("{other:?}"),
        }
    }
}
