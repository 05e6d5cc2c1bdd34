//! Bodies that are read and written by hand, described.
//!
//! Two kinds stay by hand, and these types are never made:
//!
//! * What holds stored values: the byte writer copies them, which serde could not do without
//!   checking them again.
//! * What a transaction is asked for: its values are slices of the body, and messages name the
//!   place that is wrong.
#![expect(dead_code, reason = "they describe")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

use super::metadata::Meta;
use super::{Count, Done};

/// Keys and their values.
#[derive(ToSchema)]
pub struct Pairs(BTreeMap<String, Value>);

/// A key and its number.
#[derive(ToSchema)]
pub struct Number(BTreeMap<String, i64>);

/// `?incr` or `?touch`.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum NumberOrDone {
    Number(Number),
    Done(Done),
}

/// The forms of a key.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum KeyForms {
    Pairs(Pairs),
    Meta(Meta),
    /// With `raw`: any JSON but a string.
    Raw(Value),
}

/// Many keys.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum ListForms {
    Pairs(Pairs),
    /// With `keys`.
    Names(Vec<String>),
    /// With `meta`.
    Metas(Vec<Meta>),
    /// With `count`.
    Count(Count),
}

/// A transaction.
#[derive(ToSchema)]
pub struct TxnShape {
    /// All must hold; at most 1,024.
    #[schema(rename = "if", required = false)]
    tests: Vec<TestShape>,
    /// At most 1,024.
    then: Vec<OpShape>,
    /// At most 1,024.
    #[schema(rename = "else", required = false)]
    otherwise: Vec<OpShape>,
}

/// A condition: a key, and one or more of the others; or a lock and its token; or a lease.
#[derive(ToSchema)]
pub struct TestShape {
    #[schema(required = false, min_length = 1)]
    key: String,
    /// With `token`: this lock is held with it.
    #[schema(required = false, min_length = 1)]
    lock: String,
    #[schema(required = false)]
    token: u64,
    /// Alone: this lease is alive.
    #[schema(required = false)]
    lease: u64,
    #[schema(required = false)]
    exists: bool,
    /// 0: it does not exist.
    #[schema(required = false)]
    modify_index: u64,
    #[schema(required = false)]
    create_index: u64,
    #[schema(required = false)]
    version: u64,
    /// Compared by structure, numbers by their text.
    #[schema(required = false)]
    value: Value,
    /// The value is a number less than this; compared exactly.
    #[schema(required = false)]
    lt: f64,
    #[schema(required = false)]
    le: f64,
    #[schema(required = false)]
    gt: f64,
    #[schema(required = false)]
    ge: f64,
}

/// An operation: one of these; `ttl` with `set`, `incr` and `touch`, or `lease` with `set` and `incr`.
#[derive(ToSchema)]
pub struct OpShape {
    #[schema(required = false)]
    set: Pairs,
    #[schema(required = false)]
    incr: Number,
    /// Sets how long these keys live, those that exist.
    #[schema(required = false)]
    touch: Vec<String>,
    #[schema(required = false, min_length = 1)]
    delete: String,
    #[schema(required = false)]
    delete_prefix: String,
    #[schema(required = false, min_length = 1)]
    get: String,
    #[schema(required = false, pattern = "^[0-9]+(ms|s|m|h)$")]
    ttl: String,
    #[schema(required = false)]
    lease: u64,
    /// With `set`: the two keys really are `key` and `value`.
    #[schema(required = false)]
    literal: bool,
}

/// The results of a transaction.
#[derive(ToSchema)]
pub struct TxnAnswer {
    /// Always true.
    ok: bool,
    /// True: the conditions held, and `then` was run.
    succeeded: bool,
    index: u64,
    /// One for each operation that was run: `{"set":2}`, `{"n":1}`, `{"touched":1}`, `{"deleted":1}`, `{"cfg":…}` or
    /// `{}`; null for what a repeated request read the first time.
    results: Vec<Value>,
}
