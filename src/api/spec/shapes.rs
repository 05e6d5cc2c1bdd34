//! What bodies look like.
#![allow(dead_code)]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Every error.
#[derive(ToSchema)]
pub struct Problem {
    /// Always false.
    ok: bool,
    code: Code,
    /// What happened, and what to do.
    msg: String,
    /// With 412: the key as it is, or null.
    #[schema(required = false)]
    current: Option<Meta>,
    /// With 409 of a lock: who holds it.
    #[schema(required = false)]
    holder: Option<LockShape>,
}

/// What kind of error.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    Compacted,
    PreconditionFailed,
    TooLarge,
    IdempotencyMismatch,
    Internal,
    NoLeader,
    NotReady,
    Removed,
    Overloaded,
    Timeout,
}

/// Done, and nothing more to say.
#[derive(ToSchema)]
pub struct Fine {
    /// Always true.
    ok: bool,
    msg: String,
}

/// A write is done.
#[derive(Serialize, ToSchema)]
pub struct Done {
    /// Always true.
    ok: bool,
    msg: String,
    /// Of the log entry that did it.
    index: u64,
}

/// Keys were deleted.
#[derive(ToSchema)]
pub struct Deleted {
    /// Always true.
    ok: bool,
    msg: String,
    /// Of the log entry that did it.
    index: u64,
    /// How many.
    deleted: u64,
}

/// Keys and their values.
#[derive(Serialize, ToSchema)]
pub struct Pairs(BTreeMap<String, Value>);

/// A key and its number.
#[derive(Serialize, ToSchema)]
pub struct Number(BTreeMap<String, i64>);

/// `?incr` or `?touch`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum NumberOrDone {
    Number(Number),
    Done(Done),
}

/// The forms of a key.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum KeyForms {
    Pairs(Pairs),
    Meta(Meta),
    /// With `raw`: any JSON but a string.
    Raw(Value),
}

/// A key with all that is known of it.
#[derive(Serialize, ToSchema)]
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
    /// What is left of its life, in milliseconds.
    #[schema(required = true)]
    ttl_ms: Option<u64>,
}

/// A lock that is held.
#[derive(ToSchema)]
pub struct LockShape {
    name: String,
    /// A fencing token: it only grows.
    token: u64,
    /// How long it is still held unless it is renewed, in milliseconds.
    ttl_ms: u64,
    /// What the holder shows.
    #[schema(required = true)]
    body: Option<Value>,
    /// How many wait for it.
    waiting: u64,
}

/// A lock that is held by who asked.
#[derive(ToSchema)]
pub struct LockAnswer {
    /// Always true.
    ok: bool,
    name: String,
    /// A fencing token: it only grows.
    token: u64,
    /// How long it is held unless it is renewed, in milliseconds.
    ttl_ms: u64,
}

/// Many keys.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ListForms {
    Pairs(Pairs),
    /// With `keys`.
    Names(Vec<String>),
    /// With `meta`.
    Metas(Vec<Meta>),
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

/// A condition: a key, and one or more of the others.
#[derive(ToSchema)]
pub struct TestShape {
    #[schema(min_length = 1)]
    key: String,
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
}

/// An operation: one of these, and `ttl` with `set` and `incr`.
#[derive(ToSchema)]
pub struct OpShape {
    #[schema(required = false)]
    set: Pairs,
    #[schema(required = false)]
    incr: Number,
    #[schema(required = false, min_length = 1)]
    delete: String,
    #[schema(required = false)]
    delete_prefix: String,
    #[schema(required = false, min_length = 1)]
    get: String,
    #[schema(required = false, pattern = "^[0-9]+(ms|s|m|h)$")]
    ttl: String,
}

/// What a transaction did.
#[derive(ToSchema)]
pub struct TxnAnswer {
    /// Always true.
    ok: bool,
    /// Whether the conditions held.
    succeeded: bool,
    index: u64,
    /// One for each operation that was run: `{"set":2}`, `{"n":1}`, `{"deleted":1}`, `{"cfg":…}` or `{}`; null for what a
    /// repeated request read the first time.
    results: Vec<Value>,
}

/// `GET /`.
#[derive(ToSchema)]
pub struct Index {
    name: String,
    version: String,
    routes: Vec<String>,
}

/// One node's own view; every number a string, as Go's hraftd has it.
#[derive(ToSchema)]
pub struct StatsShape {
    applied_index: String,
    commit_index: String,
    fsm_pending: String,
    /// A duration as Go prints it, `0` on the leader, `never`.
    last_contact: String,
    last_log_index: String,
    last_log_term: String,
    last_snapshot_index: String,
    last_snapshot_term: String,
    latest_configuration: Vec<MemberShape>,
    latest_configuration_index: String,
    num_peers: String,
    protocol_version: String,
    protocol_version_max: String,
    protocol_version_min: String,
    snapshot_version_max: String,
    snapshot_version_min: String,
    state: StateShape,
    term: String,
}

/// A member of the latest configuration.
#[derive(ToSchema)]
pub struct MemberShape {
    id: String,
    address: String,
    suffrage: Suffrage,
}

/// Whether a member votes.
#[derive(ToSchema)]
pub enum Suffrage {
    Voter,
    Nonvoter,
}

/// What a node is doing.
#[derive(ToSchema)]
pub enum StateShape {
    Leader,
    Follower,
    Candidate,
    Learner,
    Shutdown,
    Lost,
}

/// All members, asked at once.
#[derive(ToSchema)]
pub struct ClusterShape {
    current: ServerShape,
    #[schema(required = true)]
    leader: Option<ServerShape>,
    servers: Vec<ServerShape>,
    /// What an operator should mend.
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// One member.
#[derive(ToSchema)]
pub struct ServerShape {
    address: String,
    id: String,
    state: StateShape,
    suffrage: Suffrage,
}

/// `GET /hraftd/raft/state`.
#[derive(ToSchema)]
pub struct StateAnswer {
    ok: bool,
    msg: StateShape,
}

/// The node that was asked.
#[derive(ToSchema)]
pub struct NodeShape {
    #[schema(rename = "startTime", format = "date-time")]
    start_time: String,
    #[schema(rename = "nodeID")]
    node_id: String,
    hostname: String,
    #[schema(rename = "IP")]
    ip: String,
    version: String,
    /// Of the state that `digest` is of.
    #[schema(required = false)]
    applied_index: u64,
    /// Of the state: equal on all nodes at an index.
    #[schema(required = false, pattern = "^[0-9a-f]{16}$")]
    digest: String,
}

/// A node that asks to join.
#[derive(ToSchema)]
pub struct JoinShape {
    /// `HADDR,RADDR`.
    id: String,
    /// The Raft address in the id.
    #[schema(required = false)]
    addr: Option<String>,
}

/// A member, or a part of its id.
#[derive(ToSchema)]
pub struct NamedShape {
    #[schema(required = false)]
    id: Option<String>,
}
