//! Parameters that requests share.
#![allow(dead_code)]

use utoipa::{IntoParams, ToSchema};

/// The key of a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct KeyPath {
    /// All that follows `/key/`, percent-decoded once; at most 4096 bytes of UTF-8.
    #[param(min_length = 1)]
    key: String,
}

/// The lock of a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct LockPath {
    /// As keys are named.
    #[param(min_length = 1)]
    name: String,
}

/// How a read is served.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Level {
    Linearizable,
    Weak,
    None,
    Strong,
    Auto,
}

/// What reads take.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// What the read promises; `--read-level` where it is not given.
    level: Option<Level>,
    /// With `level=none`: 503 where the state may be older.
    #[param(pattern = "^[0-9]+(ms|s|m|h)$", example = "1s")]
    freshness: Option<String>,
    /// Answer only once this index is applied.
    #[param(minimum = 0)]
    min_index: Option<u64>,
    /// How long the request may take; 10s where it is not given, at most 60s.
    #[param(pattern = "^[0-9]+(ms|s|m|h)$", example = "10s")]
    timeout: Option<String>,
}

/// What writes take.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WriteParams {
    /// How long the request may take; 10s where it is not given, at most 60s.
    #[param(pattern = "^[0-9]+(ms|s|m|h)$", example = "10s")]
    timeout: Option<String>,
}

/// What makes a write safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct RetryParams {
    /// 1 to 128 visible characters: the first outcome is kept and given again.
    #[param(rename = "Idempotency-Key", pattern = "^[!-~]{1,128}$")]
    idempotency_key: Option<String>,
}

/// Conditions on one key.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct ConditionHeaders {
    /// ETags of which one must be the key's, or `*`: it exists.
    #[param(rename = "If-Match", example = "\"17\"")]
    if_match: Option<String>,
    /// ETags of which none may be the key's, or `*`: it does not exist.
    #[param(rename = "If-None-Match", example = "*")]
    if_none_match: Option<String>,
}

/// A condition as a parameter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CasParams {
    /// The `modify_index` that the key must have; 0: it must not exist. Not together with the headers.
    #[param(minimum = 0)]
    cas: Option<u64>,
}

/// How long what is written lives.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TtlParams {
    /// 1s to 87600h.
    #[param(pattern = "^[0-9]+(ms|s|m|h)$", example = "30s")]
    ttl: Option<String>,
}

/// How long a change of the membership may take.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AdminParams {
    /// 60s where it is not given, and at most.
    #[param(pattern = "^[0-9]+(ms|s|m|h)$", example = "60s")]
    timeout: Option<String>,
}
