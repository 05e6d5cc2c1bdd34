//! A lease as clients see it.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::response::json;
use crate::api::response::stream::Pieces;
use crate::command::Key;
use crate::kv::{KvStore, Lease};

/// The forms of the keys of a lease.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what `LeaseShape` and `Names` write")]
enum KeysShape {
    Count(u64),
    Names(Vec<String>),
}

/// A lease that is alive.
#[derive(Serialize, ToSchema)]
pub struct LeaseShape<'a> {
    /// Its id.
    lease: u64,
    /// How long it still lasts unless it is kept alive, in milliseconds.
    ttl_ms: u64,
    /// The JSON that its holder shows.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    body: Option<&'a RawValue>,
    /// How many keys are attached; with `keys` their names.
    #[schema(value_type = KeysShape)]
    keys: usize,
    /// How many locks are held under it, or waited for.
    locks: usize,
}

impl<'a> LeaseShape<'a> {
    /// The lease at a moment of log time. One whose time is up is alive until a tick says otherwise.
    pub fn new(kv: &'a KvStore, id: u64, lease: &'a Lease, log_time_ms: u64) -> Self {
        let (keys, locks) = kv.counts_of_lease(id);
        Self {
            lease: id,
            ttl_ms: lease.deadline_ms.saturating_sub(log_time_ms),
            // Checked when the lease was made.
            body: lease.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()),
            keys,
            locks,
        }
    }

    /// Appends the object.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(out, self);
    }
}

/// How many names are taken out of the state at once.
const BATCH_NAMES: usize = 256;

/// A [`LeaseShape`] with the names of its keys, which may be a million, in pieces.
pub struct Names {
    kv: KvStore,
    id: u64,
    /// The last one that was written.
    after: Option<Key>,
    /// What comes before the names, until it is written, and what comes after them.
    before: Option<Vec<u8>>,
    behind: Vec<u8>,
}

impl Names {
    /// The lease at a moment of log time; `None` where there is none.
    pub fn new(kv: KvStore, id: u64, log_time_ms: u64) -> Option<Self> {
        let shape = LeaseShape::new(&kv, id, kv.lease(id)?, log_time_ms);
        let LeaseShape { lease, ttl_ms, body, keys: _, locks } = shape;
        let body = body.map_or("null", RawValue::get);
        let before = format!(r#"{{"lease":{lease},"ttl_ms":{ttl_ms},"body":{body},"keys":["#).into_bytes();
        let behind = format!(r#"],"locks":{locks}}}"#).into_bytes();
        Some(Self { kv, id, after: None, before: Some(before), behind })
    }
}

impl Pieces for Names {
    fn piece(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(before) = self.before.take() {
            out.extend_from_slice(&before);
        }
        let mut last = None;
        for (number, name) in self.kv.keys_of_lease(self.id, self.after.as_ref()).take(BATCH_NAMES).enumerate() {
            if number > 0 || self.after.is_some() {
                out.push(b',');
            }
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(&mut *out, name);
            last = Some((number, name.clone()));
        }
        if let Some((number, name)) = last {
            self.after = Some(name);
            if number + 1 == BATCH_NAMES {
                return true;
            }
        }
        out.extend_from_slice(&self.behind);
        false
    }
}

/// A lease is alive.
#[derive(Serialize, ToSchema)]
pub struct LeaseAnswer {
    /// Always true.
    ok: bool,
    msg: &'static str,
    /// The index of the log entry that did it.
    index: u64,
    /// Its id.
    lease: u64,
    /// How long it lasts unless it is kept alive, in milliseconds.
    ttl_ms: u64,
}

impl LeaseAnswer {
    pub fn response(status: StatusCode, index: u64, lease: u64, ttl_ms: u64) -> Response {
        json::response_of(status, &Self { ok: true, msg: "OK", index, lease, ttl_ms })
    }
}
