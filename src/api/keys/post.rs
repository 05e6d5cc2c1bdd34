//! `POST /hraftd/key`: stores many keys.

use axum::body::Body;

use super::WriteRequest;
use crate::api::access::Head;
use crate::api::request::conditions::{CasParams, ConditionHeaders};
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::json_body;
use crate::api::request::ttl::{Life, TtlParams};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::shapes;
use crate::api::response::{Answer, Done, etag, json};
use crate::api::service::Service;
use crate::api::{App, write};
use crate::command::{Action, Leased, Reply};

/// Stores keys
///
/// All of them or none, in one log entry. The body is one JSON object; its members become keys and
/// values.
#[utoipa::path(
    post,
    path = "/hraftd/key",
    tag = "keys",
    params(WriteParams, TtlParams, CasParams, ConditionHeaders, IdempotencyHeader),
    request_body(content = shapes::Pairs, description = "keys and values; any Content-Type"),
    responses(
        (status = 200, description = "stored", body = Done),
        (status = 409, description = "the lease has ended", body = Problem),
        (status = 412, description = "a condition does not hold", body = Problem),
        (status = 507, description = "keys and values would have more than the quota; nothing was done", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn post<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (WriteRequest { deadline, life, conditions }, ()) = WriteRequest::parse(head)?;
    // The pairs are slices of the body, so it keeps its memory until they are written.
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let most = app.settings.max_value_bytes;
    let pairs = write::parsed(&body, move |body| json_body::parse(body, most)).await?;
    let one = (pairs.len() == 1).then(|| pairs[0].0.clone());
    if !conditions.is_empty() && one.is_none() {
        return Err(ApiError::BadRequest(format!(
            "a condition is about one key, and there are {}; POST /hraftd/txn takes conditions on many",
            pairs.len()
        )));
    }
    let action = match life {
        Life::Ttl(ttl_ms) => Action::Set { pairs, ttl_ms, conditions },
        Life::Lease(lease) => Action::Leased { lease, write: Leased::Set { pairs, conditions } },
    };
    let outcome = write::write(app, action, head, &body, &deadline).await?;
    Ok(match outcome.reply {
        Reply::Done => {
            let mut response = json::response(Done::at(outcome.index).json());
            if one.is_some() {
                etag(&mut response, outcome.index);
            }
            outcome.into_answer(Ok(response))
        }
        _ => outcome.refused(app, one.as_deref().unwrap_or_default()),
    })
}
