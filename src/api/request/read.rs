//! The promise of a read (`level=`, `freshness=`, `min_index=`), and how long it may take.

use std::time::Duration;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::request::deadline::{self, Deadline};
use crate::api::request::query;
use crate::api::response::error::ApiError;
use crate::node::{NodeError, ReadLevel, ReadOptions};

/// How a read is served.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Linearizable,
    Weak,
    None,
    Strong,
    Auto,
}

impl From<Level> for ReadLevel {
    fn from(level: Level) -> Self {
        match level {
            // rqlite's word for it.
            Level::Linearizable | Level::Strong => Self::Linearizable,
            Level::Weak => Self::Weak,
            Level::None => Self::None,
            Level::Auto => Self::Auto,
        }
    }
}

/// The parameters of every read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// The promise of the read; `--read-level` where it is not given.
    level: Option<Level>,
    /// With `level=none`: 503 where the state may be older.
    #[serde(deserialize_with = "query::duration")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$", example = "1s")]
    freshness: Option<Duration>,
    /// Answer only once this index is applied.
    #[serde(deserialize_with = "query::index")]
    #[param(minimum = 0)]
    min_index: Option<u64>,
    /// How long the request may take; 10s where it is not given, at most 60s.
    #[serde(deserialize_with = "deadline::timeout")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$", example = "10s")]
    timeout: Option<Duration>,
    /// Tell where its time went, in the header `Server-Timing`.
    timing: bool,
}

impl ReadParams {
    /// The options and the deadline. `default` is the level where none is named; the deadline is
    /// counted from now.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`]: parameters that do not go together.
    pub fn resolve(&self, default: ReadLevel) -> Result<(ReadOptions, Deadline), ApiError> {
        let level = self.level.map_or(default, ReadLevel::from);
        if self.freshness.is_some() && !matches!(level, ReadLevel::None | ReadLevel::Auto) {
            return Err(ApiError::BadRequest(format!(
                "freshness bounds how old level=none may be; it means nothing with level={}",
                level.as_str()
            )));
        }
        let options = ReadOptions { level, freshness: self.freshness, min_index: self.min_index.unwrap_or(0) };
        Ok((options, Deadline::within(self.timeout)))
    }
}

/// Runs a read.
///
/// # Errors
/// Its own, and [`NodeError::Timeout`].
pub async fn in_time<T, E: From<NodeError>>(
    deadline: &Deadline,
    read: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    deadline.run(read).await.unwrap_or_else(|| {
        let why = format!("no answer within {deadline}; ?level=none reads this node's own copy");
        Err(NodeError::Timeout(why).into())
    })
}
