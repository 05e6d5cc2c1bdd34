//! `DELETE /hraftd/key?prefix=…`: deletes many keys.

use axum::body::Body;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::bad;
use crate::api::access::{Caller, Head};
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::{conditions, key_path, query};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Answer, json};
use crate::api::service::Service;
use crate::api::{App, write};
use crate::command::{Action, Need, Reply};

/// Which keys to delete.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct DeleteParams {
    /// how the keys begin
    #[param(value_type = String, required = true)]
    prefix: Option<String>,
    /// needed with an empty prefix
    all: bool,
}

/// Keys that begin with a prefix were deleted.
#[derive(Serialize, ToSchema)]
pub struct DeletedPrefix {
    /// Always true.
    ok: bool,
    msg: &'static str,
    /// How many.
    deleted: u64,
    /// The index of the log entry that did it.
    index: u64,
}

/// Deletes all keys that begin so
#[utoipa::path(
    delete,
    path = "/hraftd/key",
    tag = "keys",
    params(DeleteParams, WriteParams, IdempotencyHeader),
    responses(
        (status = 200, description = "they are not there any more", body = DeletedPrefix),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn delete<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (DeleteParams { prefix, all }, time): (_, WriteParams) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let prefix = match (prefix.as_deref(), all) {
        (None, _) => return bad("say which keys: prefix=app/; a single one is DELETE /hraftd/key/{key}"),
        (Some(""), false) => return bad("an empty prefix= is all keys; add all where that is what you want"),
        (Some(prefix), true) if !prefix.is_empty() => return bad("all is for an empty prefix=; give one of them"),
        (Some(prefix), _) => prefix,
    };
    key_path::check_prefix(prefix)?;
    conditions::none(head, "POST /hraftd/txn takes conditions on many")?;
    Caller::of(head).demand(Need::WriteAll(prefix))?;
    deadline.no_body(body, &app.body_memory).await?;
    let action = Action::DeletePrefix { prefix: prefix.into() };
    let outcome = write::write(app, action, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Deleted(deleted) => {
            let body = DeletedPrefix { ok: true, msg: "OK", deleted, index: outcome.index };
            outcome.into_answer(Ok(json::response_of(StatusCode::OK, &body)))
        }
        _ => outcome.refused(app, ""),
    })
}
