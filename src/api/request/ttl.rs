//! How long a key lives (`ttl=`, `lease=`).

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::api::request::query;
use crate::api::response::error::ApiError;
use crate::command::{MAX_TTL, MIN_TTL};
use crate::duration::as_ms;

/// How long what is written lives.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct TtlParams {
    /// 1s to 87600h.
    #[serde(deserialize_with = "of_key")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$", example = "30s")]
    ttl: Option<Duration>,
    /// instead of ttl: as long as this lease is alive
    #[serde(deserialize_with = "lease")]
    #[param(minimum = 0)]
    lease: Option<u64>,
}

/// How long what is written lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// So many milliseconds; `None`: what the write says of it by itself.
    Ttl(Option<u64>),
    /// As long as this lease is alive.
    Lease(u64),
}

impl TtlParams {
    /// What was asked for.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`]: both.
    pub fn life(&self) -> Result<Life, ApiError> {
        match (self.ttl, self.lease) {
            (Some(_), Some(_)) => Err(both()),
            (ttl, None) => Ok(Life::Ttl(ttl.map(as_ms))),
            (None, Some(lease)) => Ok(Life::Lease(lease)),
        }
    }
}

/// The error of a time to live beside a lease.
pub fn both() -> ApiError {
    ApiError::BadRequest("ttl and lease are two ways to say how long it lives; give one of them".to_owned())
}

/// Reads `lease=`.
///
/// # Errors
/// The value is no number that an id could be.
pub fn lease<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    query::number(value, "the id of a lease; it is a number that POST /hraftd/lease answered")
}

fn of_key<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    query::duration_within(value, MIN_TTL, MAX_TTL)
}

/// Tells whether a key may live so long.
pub fn is_allowed(ttl: Duration) -> bool {
    (MIN_TTL..=MAX_TTL).contains(&ttl)
}
