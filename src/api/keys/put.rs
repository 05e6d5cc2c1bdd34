//! `PUT /hraftd/key/{key}`: stores one value.

use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::{HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::WriteRequest;
use crate::api::access::{Caller, Head};
use crate::api::request::conditions::{CasParams, ConditionHeaders};
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::key_path::KeyPath;
use crate::api::request::ttl::{Life, TtlParams};
use crate::api::request::value;
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Answer, Done, etag, json};
use crate::api::service::Service;
use crate::api::{App, write};
use crate::command::{Action, Leased, Reply};

/// The parameter of this request alone.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct PutParams {
    /// the body is JSON, whatever its Content-Type
    json: bool,
}

/// Stores one value
///
/// JSON where the Content-Type or `json` says so; otherwise text where it is UTF-8, else bytes.
#[utoipa::path(
    put,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(KeyPath, WriteParams, TtlParams, CasParams, ConditionHeaders, IdempotencyHeader, PutParams),
    request_body(content(
        (serde_json::Value = "application/json"),
        (String = "text/plain"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "replaced", body = Done, headers(("ETag" = String))),
        (status = 201, description = "created", body = Done, headers(("ETag" = String))),
        (status = 409, description = "the lease has ended", body = Problem),
        (status = 412, description = "a condition does not hold", body = Problem),
        (status = 507, description = "keys and values would have more than the quota; nothing was done", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn put<S: Service>(app: &App<S>, raw_key: &str, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (WriteRequest { deadline, life, conditions }, PutParams { json }) = WriteRequest::parse(head)?;
    let KeyPath { key } = KeyPath::parse(raw_key)?;
    if !has_body(head) && body.is_end_stream() {
        return Err(no_body());
    }
    Caller::of(head).demand_write(&key, &conditions)?;
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    // In HTTP/2 the end of a body may come after the head, without a word of its length.
    if body.is_empty() && !has_body(head) {
        return Err(no_body());
    }
    let (content_type, most) = (head.headers.get(CONTENT_TYPE).cloned(), app.settings.max_value_bytes);
    let parse = move |body: &_| value::parse(body, content_type.as_ref().map(HeaderValue::as_bytes), json, most);
    let value = write::parsed(&body, parse).await?;
    let action = match life {
        Life::Ttl(ttl_ms) => Action::Put { key: key.clone(), value, ttl_ms, conditions },
        Life::Lease(lease) => Action::Leased { lease, write: Leased::Put { key: key.clone(), value, conditions } },
    };
    let outcome = write::write(app, action, head, &body, &deadline).await?;
    Ok(match outcome.reply {
        Reply::Put { created } => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let mut response = json::response_with(status, Done::at(outcome.index).json());
            etag(&mut response, outcome.index);
            outcome.into_answer(Ok(response))
        }
        _ => outcome.refused(app, &key),
    })
}

fn no_body() -> ApiError {
    ApiError::BadRequest(
        "this request has no body: send the value as one, as curl does with -d; with Content-Length: 0 an empty text is stored"
            .to_owned(),
    )
}

/// A client that forgot the value sends neither: that must not look as an empty text does.
fn has_body(head: &Head) -> bool {
    head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRANSFER_ENCODING)
}
