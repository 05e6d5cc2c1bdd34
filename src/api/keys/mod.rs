//! The key requests: `/hraftd/key` for many keys, `/hraftd/key/{key}` for one.
//!
//! Every answer, an error too, has `X-Hraftd-Index` and `X-Hraftd-Served-By`.

pub(super) mod delete;
pub(super) mod get;
pub(super) mod incr;
pub(super) mod listing;
pub(super) mod post;
pub(super) mod put;

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use serde::de::DeserializeOwned;

use crate::api::App;
use crate::api::access::Head;
use crate::api::admission::Pass;
use crate::api::methods;
use crate::api::request::conditions::{self, CasParams};
use crate::api::request::deadline::{Deadline, WriteParams};
use crate::api::request::query;
use crate::api::request::ttl::{Life, TtlParams};
use crate::api::response::Answer;
use crate::api::response::error::ApiError;
use crate::api::service::Service;
use crate::command::Condition;

/// The keys that a path under `/hraftd/key` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRoute<'a> {
    /// `/hraftd/key`: many keys.
    Many,
    /// `/hraftd/key/{key}`: what follows `/key/`, still encoded; may be empty.
    One(&'a str),
}

impl<'a> KeyRoute<'a> {
    /// The route of a raw path, or of what follows its `/hraftd`; `None`: it is about something
    /// else.
    pub fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/hraftd").unwrap_or(path).strip_prefix("/key")?;
        if rest.is_empty() { Some(Self::Many) } else { rest.strip_prefix('/').map(Self::One) }
    }
}

/// Handles a request that was taken on.
pub async fn handle<S: Service>(
    app: &Arc<App<S>>,
    route: KeyRoute<'_>,
    head: &Head,
    body: Body,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    // What is rare is boxed: a future has room for its largest branch, and is moved and zeroed for
    // each request.
    match (route, &head.method) {
        (KeyRoute::One(raw), &Method::GET) => get::get(app, raw, head, pass).await,
        (KeyRoute::One(raw), &Method::HEAD) => get::head(app, raw, head, pass).await,
        (KeyRoute::One(raw), &Method::PUT) => put::put(app, raw, head, body).await,
        (KeyRoute::One(raw), &Method::POST) => incr::post(app, raw, head, body).await,
        (KeyRoute::One(raw), &Method::DELETE) => delete::delete(app, raw, head, body).await,
        (KeyRoute::Many, &Method::POST) => post::post(app, head, body).await,
        (KeyRoute::Many, &(Method::GET | Method::HEAD)) => Box::pin(listing::get(app, head, pass)).await,
        (KeyRoute::Many, &Method::DELETE) => Box::pin(listing::delete::delete(app, head, body)).await,
        _ => methods::other_method(head).map(|response| app.answer_here(Ok(response))),
    }
}

/// The common part of writes that store something.
struct WriteRequest {
    deadline: Deadline,
    life: Life,
    conditions: Vec<Condition>,
}

impl WriteRequest {
    /// Reads the query and the conditions; `P` is what this write takes beside what all take.
    fn parse<P: DeserializeOwned>(head: &Head) -> Result<(Self, P), ApiError> {
        let (time, ttl, cas, params): (WriteParams, TtlParams, CasParams, P) = query::parse(head.uri.query())?;
        let conditions = conditions::of_write(head, &cas)?;
        Ok((Self { deadline: time.deadline(), life: ttl.life()?, conditions }, params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_keys() {
        for (path, route) in [
            ("/hraftd/key", Some(KeyRoute::Many)),
            ("/key", Some(KeyRoute::Many)),
            ("/hraftd/key/", Some(KeyRoute::One(""))),
            ("/hraftd/key/a/b//c%2F/", Some(KeyRoute::One("a/b//c%2F/"))),
            ("/key//", Some(KeyRoute::One("/"))),
            ("/key/../raft/stats", Some(KeyRoute::One("../raft/stats"))),
            ("/hraftdkey", None),
            ("/hraftd/hraftd/key", None),
            ("/keys", None),
            ("/HRAFTD/KEY", None),
            ("/hraftd", None),
            ("", None),
        ] {
            assert_eq!(KeyRoute::parse(path), route, "{path}");
        }
    }
}
