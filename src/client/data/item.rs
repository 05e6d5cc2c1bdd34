//! A key as a line of JSON has it: `{"key","value" | "json" | "base64","content_type","ttl_ms","lease"}`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::pages::Shown;
use crate::quote::{is_escaped, json_escaped};

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON, as it was sent.
    Json(Bytes),
    /// A text.
    Text(Bytes),
    /// Bytes that are no JSON.
    Bytes(Bytes),
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) content: Content,
    pub(super) content_type: Option<String>,
    pub(super) ttl_ms: Option<u64>,
}

/// A line, to be read. What else it has is a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    /// There, though it may be null.
    #[serde(default, deserialize_with = "there")]
    value: Option<Box<RawValue>>,
    json: Option<String>,
    base64: Option<String>,
    content_type: Option<String>,
    ttl_ms: Option<u64>,
    /// The lease is not made: its keys live as long as it would have when they were read.
    #[serde(default, rename = "lease")]
    _lease: Option<u64>,
}

fn there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// A line, to be written.
#[derive(Serialize)]
struct Written<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

/// The types of values that were given none.
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == JSON || essence == "text/json" || essence.ends_with("+json")
}

/// Appends the line of a key.
pub(super) fn write(out: &mut Vec<u8>, shown: &Shown) {
    let text = shown.value.get();
    // Bytes are shown as an object; JSON that looks so has a type of JSON.
    let encoded: Option<Encoded> =
        (!is_json_type(&shown.content_type)).then(|| serde_json::from_str(text).ok()).flatten();
    let natural = match (&encoded, text.starts_with('"')) {
        (Some(_), _) => BYTES,
        (None, true) => TEXT,
        (None, false) => JSON,
    };
    // One key a line: JSON that was sent on several is a text. So is JSON that could steer a terminal: it stays as it was sent.
    let is_json = is_json_type(&shown.content_type);
    let (value, json) = match text.contains(|c| matches!(c, '\n' | '\r') || is_json && is_escaped(c)) {
        _ if encoded.is_some() => (None, None),
        true => (None, Some(text)),
        false => (Some(&*shown.value), None),
    };
    let written = Written {
        key: &shown.key,
        value,
        json,
        base64: encoded.as_ref().map(|encoded| encoded.base64.as_str()),
        content_type: Some(shown.content_type.as_str()).filter(|given| *given != natural),
        ttl_ms: shown.ttl_ms,
        lease: shown.lease,
    };
    let line = serde_json::to_string(&written).unwrap_or_default();
    out.extend_from_slice(json_escaped(&line).as_bytes());
    out.push(b'\n');
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(line: &[u8]) -> Result<Item, String> {
    let Line { key, value, json, base64, content_type, ttl_ms, .. } =
        serde_json::from_slice(line).map_err(|error| wrong(line, &error))?;
    let content = match (value, json, base64) {
        (Some(value), None, None) => Content::Json(Bytes::from(value.get().to_owned())),
        (None, Some(json), None) => {
            serde_json::from_str::<&RawValue>(&json).map_err(|error| format!("json is not one JSON value: {error}"))?;
            Content::Json(Bytes::from(json))
        }
        (None, None, Some(text)) => {
            let bytes = BASE64.decode(text).map_err(|error| format!("base64: {error}"))?;
            match content_type.is_none() && std::str::from_utf8(&bytes).is_ok() {
                true => Content::Text(Bytes::from(bytes)),
                false => Content::Bytes(Bytes::from(bytes)),
            }
        }
        _ => return Err("a line has one of value, json and base64".to_owned()),
    };
    if content_type.as_ref().is_some_and(|given| HeaderValue::from_str(given).is_err()) {
        return Err("content_type has characters that no type has".to_owned());
    }
    Ok(Item { key, content, content_type, ttl_ms })
}

/// What is wrong with a line that cannot be read.
fn wrong(line: &[u8], error: &serde_json::Error) -> String {
    let Ok(members) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(line) else {
        let sample = r#"a line is one JSON object, such as {"key":"a","value":1}"#;
        return match serde_json::from_slice::<&RawValue>(line) {
            Ok(_) => format!("it is no object; {sample}"),
            Err(_) if error.is_eof() => format!("it ends too soon; {sample}"),
            Err(broken) => format!("it is no JSON at character {}; {sample}", broken.column()),
        };
    };
    let is = |value: &RawValue, wanted: &str| match wanted {
        "a text" => serde_json::from_str::<String>(value.get()).is_ok(),
        _ => serde_json::from_str::<u64>(value.get()).is_ok(),
    };
    for (name, value) in &members {
        let wanted = match name.as_str() {
            "value" => continue,
            "key" | "json" | "base64" | "content_type" => "a text",
            "ttl_ms" | "lease" => "a whole number from 0 on",
            _ => {
                let known = "a line has key, one of value, json and base64, and maybe content_type, ttl_ms and lease";
                return format!("{name:?} is no name that a line has; {known}");
            }
        };
        // These may be there with nothing.
        if !is(value, wanted) && (name == "key" || value.get() != "null") {
            return format!("{name} is not {wanted}");
        }
    }
    if members.contains_key("key") { "a name comes twice".to_owned() } else { "it has no key".to_owned() }
}

impl Item {
    /// `"key":value`, where many keys can be written in one request as this.
    pub(super) fn plain(&self) -> Option<(String, &Bytes)> {
        match (&self.content, &self.content_type, self.ttl_ms) {
            (Content::Json(json), None, None) => serde_json::to_string(&self.key).ok().map(|key| (key, json)),
            _ => None,
        }
    }

    /// The bytes of its value.
    pub(super) fn len(&self) -> usize {
        match &self.content {
            Content::Json(bytes) | Content::Text(bytes) | Content::Bytes(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: &str, content_type: &str) -> String {
        let value = RawValue::from_string(value.to_owned()).unwrap();
        let shown = Shown { key: "k".into(), value, content_type: content_type.into(), ttl_ms: None, lease: None };
        let mut out = Vec::new();
        write(&mut out, &shown);
        String::from_utf8(out).unwrap()
    }

    fn json(text: &str) -> Content {
        Content::Json(Bytes::from(text.to_owned()))
    }

    #[test]
    fn what_is_written_is_read() {
        for (value, content_type, written, content) in [
            ("2.50", JSON, r#"{"key":"k","value":2.50}"#, json("2.50")),
            ("null", JSON, r#"{"key":"k","value":null}"#, json("null")),
            (r#""\u00e9""#, TEXT, r#"{"key":"k","value":"\u00e9"}"#, json(r#""\u00e9""#)),
            (r#""<p>""#, "text/html", r#"{"key":"k","value":"<p>","content_type":"text/html"}"#, json(r#""<p>""#)),
            ("\"\u{202e}\"", TEXT, "{\"key\":\"k\",\"value\":\"\\u202e\"}", json("\"\\u202e\"")),
            ("[\"\u{9b}\"]", JSON, "{\"key\":\"k\",\"json\":\"[\\\"\\u009b\\\"]\"}", json("[\"\u{9b}\"]")),
            ("[1,\n2]", JSON, r#"{"key":"k","json":"[1,\n2]"}"#, json("[1,\n2]")),
            (
                r#"{"base64":"/w=="}"#,
                BYTES,
                r#"{"key":"k","base64":"/w=="}"#,
                Content::Bytes(Bytes::from_static(b"\xff")),
            ),
            (r#"{"base64":"/w=="}"#, JSON, r#"{"key":"k","value":{"base64":"/w=="}}"#, json(r#"{"base64":"/w=="}"#)),
        ] {
            let line = line(value, content_type);
            assert_eq!(line, format!("{written}\n"));
            assert_eq!(read(line.trim_end().as_bytes()).unwrap().content, content, "{line}");
        }
    }

    #[test]
    fn what_is_no_line_is_told() {
        for bad in ["", "{}", r#"{"key":"k"}"#, r#"{"key":"k","value":1,"json":"1"}"#, r#"{"key":"k","value":1,"x":1}"#]
        {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        for (bad, why) in [
            (r#"{"key":1,"value":1}"#, "key is not a text"),
            (r#"{"key":null,"value":1}"#, "key is not a text"),
            (r#"{"key":"k","value":1,"ttl_ms":"x"}"#, "ttl_ms is not a whole number from 0 on"),
            (r#"{"key":"k","value":1,"ttl_ms":-1}"#, "ttl_ms is not a whole number from 0 on"),
            (r#"{"key":"k","value":1,"lease":1.5}"#, "lease is not a whole number from 0 on"),
            (r#"{"key":"k","base64":1}"#, "base64 is not a text"),
            (r#"{"value":1}"#, "it has no key"),
            (r#"{"key":"k","value":1,"x":1}"#, "\"x\" is no name that a line has; a line has key, "),
            (r#"{"key":"k","key":"k","value":1}"#, "a name comes twice"),
            (r#"{"key":"k","value":}"#, "it is no JSON at character 20; a line is one JSON object, "),
            (r#"{"key":"k""#, "it ends too soon; "),
            ("[1]", "it is no object; "),
            ("garbage", "it is no JSON at character 1; "),
            (r#"{"key":"k","value":1} 2"#, "it is no JSON at character 23; "),
        ] {
            let told = read(bad.as_bytes()).unwrap_err();
            assert!(told.starts_with(why), "{bad}: {told}");
        }
        for bad in ["1,\\\"b\\\":2", "1 2", "", "{", "tru"] {
            let why = read(format!("{{\"key\":\"k\",\"json\":\"{bad}\"}}").as_bytes()).unwrap_err();
            assert!(why.starts_with("json is not one JSON value: "), "{bad}: {why}");
        }
        let why = read(br#"{"key":"k","value":1,"content_type":"text/\u0000"}"#).unwrap_err();
        assert!(why.starts_with("content_type has "), "{why}");
        assert!(read(br#"{"key":"k","base64":"%"}"#).unwrap_err().starts_with("base64: "));
    }
}
