//! A key with its metadata:
//! `{"key","value","version","create_index","modify_index","content_type","ttl_ms"}`.

use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::response::json;
use crate::record::Record;

/// A key with all that is known of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `write` writes: serde would check the value again to copy it")]
pub struct Meta {
    key: String,
    /// Bytes that are no JSON are `{"base64":"…"}`.
    #[schema(required = true)]
    value: Value,
    /// How often it was written since it was created.
    #[schema(minimum = 1)]
    version: u64,
    create_index: u64,
    /// Its ETag.
    modify_index: u64,
    content_type: String,
    /// The rest of its life, in milliseconds.
    #[schema(required = true)]
    ttl_ms: Option<u64>,
    /// The lease that it is attached to, if there is one.
    #[schema(required = false)]
    lease: u64,
}

/// Appends the object. `log_time_ms` is now.
pub fn write(out: &mut Vec<u8>, key: &str, record: &Record, log_time_ms: u64) {
    let mut object = json::Object::new(out);
    object.string("key", key);
    object.name("value").extend_from_slice(&record.json());
    json::plain(object.name("version"), record.version());
    json::plain(object.name("create_index"), record.create_index());
    json::plain(object.name("modify_index"), record.modify_index());
    object.string("content_type", content_type(record));
    match record.deadline_ms() {
        // What is due is there until a tick drops it.
        Some(deadline_ms) => json::plain(object.name("ttl_ms"), deadline_ms.saturating_sub(log_time_ms)),
        None => object.name("ttl_ms").extend_from_slice(b"null"),
    }
    if let Some(lease) = record.lease() {
        json::plain(object.name("lease"), lease);
    }
    object.end();
}

/// The object alone.
pub fn object(key: &str, record: &Record, log_time_ms: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.value().len() + key.len() + 160);
    write(&mut out, key, record, log_time_ms);
    out
}

/// The object of a key as it is, or null: what a refused condition shows.
pub fn current(key: &str, record: Option<&Record>, log_time_ms: u64) -> Box<RawValue> {
    record.map_or_else(|| RawValue::NULL.to_owned(), |record| json::raw(object(key, record, log_time_ms)))
}

/// The Content-Type of the value with `?raw`: what the client said, where that fits what `?raw`
/// sends.
pub fn content_type(record: &Record) -> &str {
    let given = record.content_type();
    if record.is_bytes() {
        given.unwrap_or("application/octet-stream")
    } else if record.value().first() == Some(&b'"') {
        // It comes unquoted, so it is no JSON.
        given.filter(|given| !is_json(given)).unwrap_or("text/plain; charset=utf-8")
    } else {
        given.unwrap_or("application/json")
    }
}

/// Tells whether a content type is JSON: `application/json`, or anything with `+json`.
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    is("application/json") || is("text/json") || essence.to_ascii_lowercase().ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Marks, Rare};

    fn record(value: &[u8], is_bytes: bool, content_type: Option<&str>) -> Record {
        let rare = Rare { is_bytes, content_type: content_type.map(Into::into), ..Rare::default() };
        Record::new(Marks { create_index: 3, modify_index: 9, version: 2 }, &rare, value)
    }

    #[test]
    fn all_is_shown() {
        let shown = |record: &Record| String::from_utf8(object("k\"", record, 1000)).unwrap();
        assert_eq!(
            shown(&record(b"[1, 2]", false, None)),
            r#"{"key":"k\"","value":[1, 2],"version":2,"create_index":3,"modify_index":9,"content_type":"application/json","ttl_ms":null}"#
        );
        assert!(shown(&record(b"1", false, None).with_deadline(Some(1234))).ends_with("\"ttl_ms\":234}"));
        assert!(shown(&record(b"1", false, None).with_deadline(Some(999))).ends_with("\"ttl_ms\":0}"));
        assert!(shown(&record(b"\xff", true, None)).contains(r#""value":{"base64":"/w=="}"#));
    }

    #[test]
    fn content_types() {
        for (value, is_bytes, given, shown) in [
            ("1", false, None, "application/json"),
            ("{}", false, Some("application/x+json"), "application/x+json"),
            ("\"a\"", false, None, "text/plain; charset=utf-8"),
            ("\"a\"", false, Some("application/JSON; charset=utf-8"), "text/plain; charset=utf-8"),
            ("\"a\"", false, Some("text/html"), "text/html"),
            ("\u{1}", true, None, "application/octet-stream"),
            ("\u{1}", true, Some("image/png"), "image/png"),
        ] {
            assert_eq!(content_type(&record(value.as_bytes(), is_bytes, given)), shown, "{value} {given:?}");
        }
    }
}
