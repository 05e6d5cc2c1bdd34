//! Keys of an etcd, over its JSON gateway: all of one revision, whatever is written meanwhile.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use reqwest::{Client, header, redirect};
use serde::Deserialize;
use serde_json::{Value, json};

use super::import::Writer;
use super::item::{Content, Item};
use crate::client::link::innermost;
use crate::exit::{EX_FAILURE, EX_UNAVAILABLE, Exit};
use crate::node_id::HostPort;

/// An etcd answers within this time.
const WITHIN: Duration = Duration::from_secs(30);

/// The most bytes of an answer. A value of etcd has at most 1.5 MiB, as it comes.
const MAX_BYTES: usize = 256 << 20;

/// Keys of a page.
const PAGE: u64 = 500;

struct Etcd {
    client: Client,
    addr: HostPort,
}

#[derive(Deserialize)]
struct Page {
    header: Header,
    #[serde(default)]
    kvs: Vec<Kv>,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    count: Number,
}

/// Numbers of 64 bits are texts there.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(untagged)]
enum Number {
    Text(String),
    Plain(u64),
    #[default]
    None,
}

#[derive(Deserialize)]
struct Header {
    revision: Number,
}

#[derive(Deserialize)]
struct Kv {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    lease: Number,
}

impl Number {
    fn get(&self) -> u64 {
        match self {
            Self::Text(text) => text.parse().unwrap_or_default(),
            Self::Plain(number) => *number,
            Self::None => 0,
        }
    }
}

/// Reads all keys that begin as `from` says, and writes them. The slash after the port is not the prefix's.
pub(super) async fn import(writer: &mut Writer<'_>, from: &str) -> Result<(), Exit> {
    let bad = || Exit::usage(format!("--from {from}: not etcd://HOST:PORT or etcd://HOST:PORT/PREFIX"));
    let place = from.strip_prefix("etcd://").ok_or_else(bad)?;
    let (addr, prefix) = place.split_once('/').unwrap_or((place, ""));
    let addr = HostPort::from_str(addr).map_err(|_| bad())?;
    let client = Client::builder().no_proxy().timeout(WITHIN).redirect(redirect::Policy::none()).build();
    let client = client.map_err(|error| Exit::error(EX_FAILURE, format!("cannot make a client: {error}")))?;
    let etcd = Etcd { client, addr };
    let end = after_prefix(prefix.as_bytes());
    let mut begin = if prefix.is_empty() { vec![0] } else { prefix.as_bytes().to_vec() };
    let mut revision = 0;
    let mut ttls: HashMap<u64, Option<u64>> = HashMap::new();
    loop {
        let asked = json!({"key": BASE64.encode(&begin), "range_end": BASE64.encode(&end), "limit": PAGE,
            "revision": revision.to_string(), "serializable": false});
        let page: Page = serde_json::from_value(etcd.ask("/v3/kv/range", &asked).await?)
            .map_err(|error| Exit::error(EX_FAILURE, format!("{}: not as etcd answers: {error}", etcd.addr)))?;
        if revision == 0 {
            revision = page.header.revision.get();
            writer.progress.of = Some(page.count.get());
        }
        let mut items = Vec::new();
        for kv in &page.kvs {
            let bytes = |text: &str| {
                BASE64.decode(text).map_err(|error| Exit::error(EX_FAILURE, format!("{}: {error}", etcd.addr)))
            };
            let key = bytes(&kv.key)?;
            // The next page begins after it; so no key comes twice, and the import ends.
            if key < begin {
                return Err(does_not_go_on(&etcd.addr));
            }
            begin = key.iter().copied().chain([0]).collect();
            let key = String::from_utf8(key).map_err(|error| {
                let key = error.as_bytes().escape_ascii();
                Exit::error(EX_FAILURE, format!("the key \"{key}\" is no UTF-8, as keys here are"))
            })?;
            let lease = kv.lease.get();
            let ttl_ms = match (lease, ttls.get(&lease)) {
                (0, _) => None,
                (_, Some(ttl_ms)) => *ttl_ms,
                (_, None) => {
                    let ttl_ms = etcd.ttl_ms(lease).await?;
                    ttls.insert(lease, ttl_ms);
                    ttl_ms
                }
            };
            // It has ended since.
            if lease != 0 && ttl_ms.is_none() {
                continue;
            }
            let value = Bytes::from(bytes(&kv.value)?);
            let content =
                if std::str::from_utf8(&value).is_ok() { Content::Text(value) } else { Content::Bytes(value) };
            items.push(Item { key, content, content_type: None, ttl_ms });
        }
        writer.write(items).await?;
        if !page.more {
            return Ok(());
        }
        if page.kvs.is_empty() {
            return Err(does_not_go_on(&etcd.addr));
        }
    }
}

/// There is to be more, and no more comes.
fn does_not_go_on(addr: &HostPort) -> Exit {
    Exit::error(EX_FAILURE, format!("{addr}: not as etcd answers: its next page does not go on after the last one"))
}

/// The end of what begins so; a NUL is the end of all keys.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

impl Etcd {
    /// What is left of a lease; `None` where it has ended.
    async fn ttl_ms(&self, lease: u64) -> Result<Option<u64>, Exit> {
        let said = self.ask("/v3/lease/timetolive", &json!({"ID": lease.to_string()})).await?;
        let ttl = said["TTL"].as_str().and_then(|text| text.parse::<i64>().ok()).or_else(|| said["TTL"].as_i64());
        Ok(ttl.and_then(|ttl| u64::try_from(ttl).ok()).map(|seconds| seconds.saturating_mul(1_000)))
    }

    async fn ask(&self, path: &str, body: &Value) -> Result<Value, Exit> {
        let failed = |code, why: &dyn std::fmt::Display| Exit::error(code, format!("the etcd at {}: {why}", self.addr));
        let request = self.client.post(format!("http://{}{path}", self.addr)).body(body.to_string());
        let sent = request.header(header::CONTENT_TYPE, "application/json").send().await;
        let mut response = sent.map_err(|error| failed(EX_UNAVAILABLE, &innermost(&error)))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(EX_FAILURE, &innermost(&error)))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(failed(EX_FAILURE, &"its answer is too long"));
            }
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status.is_success() {
            true => Ok(said),
            false => {
                let why = said["message"].as_str().or(said["error"].as_str()).unwrap_or("it refused this");
                Err(failed(EX_FAILURE, &format!("{why} ({status})")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end() {
        assert_eq!(after_prefix(b"a/"), b"a0");
        assert_eq!(after_prefix(b"a\xff\xff"), b"b");
        assert_eq!(after_prefix(b""), b"\0");
        assert_eq!(after_prefix(b"\xff"), b"\0");
    }
}
