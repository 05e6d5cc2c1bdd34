//! `DELETE /hraftd/key/{key}`: deletes one key.

use axum::body::Body;

use crate::api::access::{Caller, Head};
use crate::api::request::conditions::{self, CasParams, ConditionHeaders};
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::key_path::KeyPath;
use crate::api::request::query;
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Answer, Deleted, json};
use crate::api::service::Service;
use crate::api::{App, write};
use crate::command::{Action, Reply};

/// Deletes one key
///
/// It need not exist.
#[utoipa::path(
    delete,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(KeyPath, WriteParams, CasParams, ConditionHeaders, IdempotencyHeader),
    responses(
        (status = 200, description = "it is not there any more", body = Deleted),
        (status = 412, description = "a condition does not hold", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn delete<S: Service>(app: &App<S>, raw_key: &str, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (time, cas): (WriteParams, CasParams) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let conditions = conditions::of_write(head, &cas)?;
    let KeyPath { key } = KeyPath::parse(raw_key)?;
    Caller::of(head).demand_write(&key, &conditions)?;
    deadline.no_body(body, &app.body_memory).await?;
    let outcome = write::write(app, Action::Delete { key: key.clone(), conditions }, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Deleted(count) => {
            let body = Deleted::json(outcome.index, count);
            outcome.into_answer(Ok(json::response(body)))
        }
        _ => outcome.refused(app, &key),
    })
}
