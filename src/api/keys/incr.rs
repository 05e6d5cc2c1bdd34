//! `POST /hraftd/key/{key}`: adds to an integer, or sets how long a key lives.

use axum::body::Body;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::WriteRequest;
use crate::api::access::{Caller, Head};
use crate::api::request::conditions::{CasParams, ConditionHeaders};
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::key_path::KeyPath;
use crate::api::request::ttl::{Life, TtlParams};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::shapes;
use crate::api::response::{Answer, Done, etag, json};
use crate::api::service::Service;
use crate::api::{App, write};
use crate::command::{Action, Leased, Need, Reply};

/// The parameters of this request alone.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct IncrParams {
    /// what to add; this or touch
    incr: Option<i64>,
    /// with ttl: how long the key lives from now on
    touch: bool,
}

/// Adds to an integer, or sets how long a key lives
///
/// `?incr=5` answers `{"key":6}`; a key that is not there counts as 0. `?touch&ttl=30s` changes
/// neither value nor version.
#[utoipa::path(
    post,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(KeyPath, WriteParams, TtlParams, CasParams, ConditionHeaders, IdempotencyHeader, IncrParams),
    responses(
        (status = 200, description = "done", body = shapes::NumberOrDone, headers(("ETag" = String))),
        (status = 404, description = "no such key to touch", body = Problem),
        (status = 409, description = "the value is not an integer, or the sum is none of 64 bits, or the lease has ended", body = Problem),
        (status = 412, description = "a condition does not hold", body = Problem),
        (status = 507, description = "keys and values would have more than the quota; nothing was done", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn post<S: Service>(app: &App<S>, raw_key: &str, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (WriteRequest { deadline, life, conditions }, params) = WriteRequest::parse(head)?;
    let KeyPath { key } = KeyPath::parse(raw_key)?;
    let bad = |what: &str| Err(ApiError::BadRequest(what.to_owned()));
    let action = match (params, life) {
        (IncrParams { incr: Some(by), touch: false }, Life::Ttl(ttl_ms)) => {
            Action::Incr { key: key.clone(), by, ttl_ms, conditions }
        }
        (IncrParams { incr: Some(by), touch: false }, Life::Lease(lease)) => {
            Action::Leased { lease, write: Leased::Incr { key: key.clone(), by, conditions } }
        }
        (IncrParams { incr: None, touch: true }, Life::Ttl(Some(ttl_ms))) => {
            Action::Touch { key: key.clone(), ttl_ms, conditions }
        }
        (IncrParams { incr: None, touch: true }, _) => {
            return bad("touch sets how long a key lives: it needs ttl=");
        }
        (IncrParams { incr: Some(_), touch: true }, _) => return bad("incr and touch are two requests"),
        (IncrParams { incr: None, touch: false }, _) => {
            return bad(
                "POST of one key takes ?incr=5 or ?touch&ttl=30s; PUT stores a value, and so does POST /hraftd/key \
                 with {\"key\":value}",
            );
        }
    };
    Caller::of(head).demand_action(&action)?;
    deadline.no_body(body, &app.body_memory).await?;
    let outcome = write::write(app, action, head, &[], &deadline).await?;
    let tagged = |mut response: Response, index: u64| {
        etag(&mut response, index);
        Ok(response)
    };
    Ok(match outcome.reply {
        Reply::Number(number) => {
            let mut out = Vec::with_capacity(key.len() + 32);
            let mut object = json::Object::new(&mut out);
            json::plain(object.name(&key), number);
            object.end();
            let index = outcome.index;
            outcome.into_answer(tagged(json::response(out), index))
        }
        Reply::Touched { modify_index } => {
            let body = json::response(Done::at(outcome.index).json());
            // When somebody else changed it last is for those who may read it.
            let may_know = Caller::of(head).may(Need::Read(&key));
            outcome.into_answer(if may_know { tagged(body, modify_index) } else { Ok(body) })
        }
        _ => outcome.refused(app, &key),
    })
}
