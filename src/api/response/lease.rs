//! A lease as clients see it.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::response::json;
use crate::command::Key;
use crate::kv::{KvStore, Lease};

/// How the keys of a lease are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    Count,
    Names,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownKeys<'a> {
    Count(usize),
    Names(Vec<&'a Key>),
}

/// The forms of the keys of a lease.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes `ShownKeys`")]
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
    keys: ShownKeys<'a>,
    /// How many locks are held under it, or waited for.
    locks: usize,
}

impl<'a> LeaseShape<'a> {
    /// The lease at a moment of log time. One whose time is up is alive until a tick says otherwise.
    pub fn new(kv: &'a KvStore, id: u64, lease: &'a Lease, keys: Keys, log_time_ms: u64) -> Self {
        let (count, locks) = kv.counts_of_lease(id);
        Self {
            lease: id,
            ttl_ms: lease.deadline_ms.saturating_sub(log_time_ms),
            // Checked when the lease was made.
            body: lease.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()),
            keys: match keys {
                Keys::Count => ShownKeys::Count(count),
                Keys::Names => ShownKeys::Names(kv.keys_of_lease(id).collect()),
            },
            locks,
        }
    }

    /// Appends the object.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(out, self);
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
