//! Commands as `hraftd inspect DIR --entries` shows them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::command::{Action, Condition, Grants, Key, Leased, Op, Stamped, Test, TestOf, Value};

/// A command and when it was proposed.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    kind: &'static str,
    stamp_ms: u64,
    /// The client that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(flatten)]
    fields: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<u64>,
    #[serde(rename = "if", skip_serializing_if = "<[Condition]>::is_empty")]
    conditions: &'a [Condition],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Keys {
        keys: Pairs<'a>,
    },
    Put {
        key: &'a str,
        value: Shape<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        content_type: Option<&'a str>,
    },
    Key {
        key: &'a str,
    },
    Prefix {
        prefix: &'a str,
    },
    Incr {
        key: &'a str,
        by: i64,
    },
    /// Where `by` says who did it.
    IncrBy {
        key: &'a str,
        incr: i64,
    },
    Txn {
        tests: Vec<ShownTest<'a>>,
        then: Vec<ShownOp<'a>>,
        r#else: Vec<ShownOp<'a>>,
    },
    Acquire {
        lock: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<Shape<'a>>,
        wait_ms: u64,
    },
    Token {
        lock: &'a str,
        token: u64,
    },
    Ticket {
        lock: &'a str,
        ticket: u64,
    },
    Tick {
        most: u32,
    },
    Lease {
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<Shape<'a>>,
    },
    Nothing {},
    Raise {
        to: u32,
    },
    Quota {
        bytes: u64,
    },
    Authentication {
        on: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        anonymous: Option<Vec<String>>,
    },
    /// A token; nothing of its secret.
    Named {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        grants: Option<Vec<String>>,
    },
}

impl<'a> Shown<'a> {
    pub(super) fn new(stamped: &'a Stamped, by: Option<&'a str>) -> Self {
        let mut under = None;
        let (kind, fields, ttl_ms, conditions): (_, _, _, &[Condition]) = match &stamped.action {
            Action::Set { pairs, ttl_ms, conditions } => {
                ("set", Fields::Keys { keys: Pairs(pairs) }, *ttl_ms, conditions)
            }
            Action::Put { key, value, ttl_ms, conditions } => {
                let content_type = value.content_type.as_deref();
                ("put", Fields::Put { key, value: Shape::new(value), content_type }, *ttl_ms, conditions)
            }
            Action::Delete { key, conditions } => ("delete", Fields::Key { key }, None, conditions),
            Action::DeletePrefix { prefix } => ("delete_prefix", Fields::Prefix { prefix }, None, &[]),
            Action::Incr { key, by, ttl_ms, conditions } => {
                ("incr", Fields::Incr { key, by: *by }, *ttl_ms, conditions)
            }
            Action::Touch { key, ttl_ms, conditions } => ("touch", Fields::Key { key }, Some(*ttl_ms), conditions),
            Action::Txn(txn) => {
                let ops = |ops: &'a [Op]| ops.iter().map(ShownOp).collect();
                let tests = txn.tests.iter().map(ShownTest).collect();
                ("txn", Fields::Txn { tests, then: ops(&txn.then), r#else: ops(&txn.otherwise) }, None, &[])
            }
            Action::Acquire { name, ttl_ms, body, wait_ms } => {
                let body = body.as_deref().map(Shape::Json);
                ("acquire", Fields::Acquire { lock: name, body, wait_ms: *wait_ms }, Some(*ttl_ms), &[])
            }
            Action::Renew { name, token, ttl_ms } => {
                ("renew", Fields::Token { lock: name, token: *token }, *ttl_ms, &[])
            }
            Action::Release { name, token } => ("release", Fields::Token { lock: name, token: *token }, None, &[]),
            Action::Cancel { name, ticket } => ("cancel", Fields::Ticket { lock: name, ticket: *ticket }, None, &[]),
            Action::Tick { most } => ("tick", Fields::Tick { most: *most }, None, &[]),
            Action::Raise { to } => ("raise", Fields::Raise { to: to.0 }, None, &[]),
            Action::Quota { bytes } => ("quota", Fields::Quota { bytes: *bytes }, None, &[]),
            Action::Mark => ("mark", Fields::Nothing {}, None, &[]),
            Action::Grant { ttl_ms, body } => {
                ("grant", Fields::Lease { body: body.as_deref().map(Shape::Json) }, Some(*ttl_ms), &[])
            }
            Action::KeepAlive { lease, ttl_ms } => {
                under = Some(*lease);
                ("keep_alive", Fields::Nothing {}, *ttl_ms, &[])
            }
            Action::Revoke { lease } => {
                under = Some(*lease);
                ("revoke", Fields::Nothing {}, None, &[])
            }
            Action::Leased { lease, write } => {
                under = Some(*lease);
                leased(write)
            }
            Action::Authentication { on, anonymous, .. } => {
                let anonymous = anonymous.as_ref().map(Grants::texts);
                ("authentication", Fields::Authentication { on: *on, anonymous }, None, &[])
            }
            Action::PutToken { name, grants, ttl_ms, .. } => {
                ("put_token", Fields::Named { name, grants: Some(grants.texts()) }, *ttl_ms, &[])
            }
            Action::RotateToken { name, .. } => ("rotate_token", Fields::Named { name, grants: None }, None, &[]),
            Action::DeleteToken { name } => ("delete_token", Fields::Named { name, grants: None }, None, &[]),
        };
        let idempotency_key = stamped.retry.as_ref().map(|retry| retry.key.as_str());
        let fields = match (fields, by) {
            (Fields::Incr { key, by: incr }, Some(_)) => Fields::IncrBy { key, incr },
            (fields, _) => fields,
        };
        Self { kind, stamp_ms: stamped.stamp_ms, by, idempotency_key, fields, ttl_ms, lease: under, conditions }
    }
}

/// The kind, fields, time to live and conditions of a write under a lease.
fn leased(write: &Leased) -> (&'static str, Fields<'_>, Option<u64>, &[Condition]) {
    match write {
        Leased::Set { pairs, conditions } => ("set", Fields::Keys { keys: Pairs(pairs) }, None, conditions),
        Leased::Put { key, value, conditions } => {
            let content_type = value.content_type.as_deref();
            ("put", Fields::Put { key, value: Shape::new(value), content_type }, None, conditions)
        }
        Leased::Incr { key, by, conditions } => ("incr", Fields::Incr { key, by: *by }, None, conditions),
        Leased::Acquire { name, body, wait_ms } => {
            let body = body.as_deref().map(Shape::Json);
            ("acquire", Fields::Acquire { lock: name, body, wait_ms: *wait_ms }, None, &[])
        }
    }
}

struct ShownTest<'a>(&'a Test);

impl Serialize for ShownTest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0.of {
            TestOf::Holder(_) => map.serialize_entry("lock", self.0.key.as_str())?,
            TestOf::Alive(_) => {}
            _ => map.serialize_entry("key", self.0.key.as_str())?,
        }
        match &self.0.of {
            TestOf::Exists(exists) => map.serialize_entry("exists", exists)?,
            TestOf::ModifyIndex(index) => map.serialize_entry("modify_index", index)?,
            TestOf::CreateIndex(index) => map.serialize_entry("create_index", index)?,
            TestOf::Version(version) => map.serialize_entry("version", version)?,
            TestOf::Value(value) => map.serialize_entry("value", &Shape::Json(value))?,
            TestOf::Number(order, than) => map.serialize_entry(order.as_str(), &Shape::Json(than))?,
            TestOf::Holder(token) => map.serialize_entry("token", token)?,
            TestOf::Alive(lease) => map.serialize_entry("lease", lease)?,
        }
        map.end()
    }
}

struct ShownOp<'a>(&'a Op);

impl Serialize for ShownOp<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (ttl_ms, lease) = match self.0 {
            Op::Set { ttl_ms, .. } | Op::Incr { ttl_ms, .. } => (*ttl_ms, None),
            Op::SetLeased { lease, .. } | Op::IncrLeased { lease, .. } => (None, Some(*lease)),
            Op::Touch { ttl_ms, .. } => (Some(*ttl_ms), None),
            Op::Delete(_) | Op::DeletePrefix(_) | Op::Get(_) => (None, None),
        };
        match self.0 {
            Op::Set { pairs, .. } | Op::SetLeased { pairs, .. } => map.serialize_entry("set", &Pairs(pairs))?,
            Op::Incr { pairs, .. } | Op::IncrLeased { pairs, .. } => {
                let pairs: std::collections::BTreeMap<&str, i64> =
                    pairs.iter().map(|(key, by)| (key.as_str(), *by)).collect();
                map.serialize_entry("incr", &pairs)?;
            }
            Op::Touch { keys, .. } => {
                map.serialize_entry("touch", &keys.iter().map(Key::as_str).collect::<Vec<_>>())?;
            }
            Op::Delete(key) => map.serialize_entry("delete", key.as_str())?,
            Op::DeletePrefix(prefix) => map.serialize_entry("delete_prefix", prefix.as_str())?,
            Op::Get(key) => map.serialize_entry("get", key.as_str())?,
        }
        for (name, number) in [("ttl_ms", ttl_ms), ("lease", lease)] {
            if let Some(number) = number {
                map.serialize_entry(name, &number)?;
            }
        }
        map.end()
    }
}

/// Keys and JSON values.
pub(super) struct Pairs<'a>(pub(super) &'a [(Key, bytes::Bytes)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key.as_str(), &Shape::Json(value))?;
        }
        map.end()
    }
}

/// How a value is written.
enum Shape<'a> {
    Json(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> Shape<'a> {
    fn new(value: &'a Value) -> Self {
        if value.is_bytes { Self::Bytes(&value.data) } else { Self::Json(&value.data) }
    }
}

impl Serialize for Shape<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match self {
            // Within JSON's strings there are no raw newlines.
            Self::Json(value) => String::from_utf8_lossy(value).replace(['\n', '\r'], " "),
            Self::Bytes(bytes) => format!("{{\"base64\":\"{}\"}}", crate::record::base64(bytes)),
        };
        match RawValue::from_string(text) {
            Ok(value) => value.serialize(serializer),
            // The API stores only JSON; whoever studies a log by hand sees the bytes all the same.
            Err(_) => match self {
                Self::Json(value) | Self::Bytes(value) => String::from_utf8_lossy(value).serialize(serializer),
            },
        }
    }
}
