//! How long a key lives (`ttl=`).

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::api::request::query;
use crate::duration::as_ms;

/// The shortest and the longest TTL of a key: ten years, leap days aside.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long what is written lives.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct TtlParams {
    /// 1s to 87600h.
    #[serde(deserialize_with = "of_key")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$", example = "30s")]
    ttl: Option<Duration>,
}

impl TtlParams {
    /// In milliseconds.
    pub fn ttl_ms(&self) -> Option<u64> {
        self.ttl.map(as_ms)
    }
}

fn of_key<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    query::duration_within(value, MIN_TTL, MAX_TTL)
}

/// Tells whether a key may live so long.
pub fn is_allowed(ttl: Duration) -> bool {
    (MIN_TTL..=MAX_TTL).contains(&ttl)
}
