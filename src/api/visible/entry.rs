//! `GET /hraftd/raft/entry/{index}`: when a recent entry came how far.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::admin::Params;
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{json, text};
use crate::api::service::Service;
use crate::node::{EntryView, NodeError};

/// A member that an entry was sent to.
#[derive(Serialize, ToSchema)]
pub struct EntryMember {
    id: String,
    /// When it was sent there, in milliseconds after `proposed`.
    #[schema(required = true)]
    sent_ms: Option<f64>,
    /// When the member had said that it is on its disk.
    #[schema(required = true)]
    flushed_ms: Option<f64>,
}

/// When an entry came how far, in milliseconds after it was handed to the log of the node that was asked.
#[derive(Serialize, ToSchema)]
pub struct EntryShape {
    index: u64,
    #[schema(required = true)]
    term: Option<u64>,
    /// The node that was asked.
    node: String,
    /// The leader of its term, as far as the node knows.
    #[schema(required = true)]
    leader: Option<String>,
    /// The member whose client wrote it, where that passed it on; known at the leader.
    #[schema(required = true)]
    passed_on_by: Option<String>,
    /// When it was handed to the log.
    #[schema(format = "date-time")]
    proposed: String,
    #[schema(required = true)]
    flushed_ms: Option<f64>,
    #[schema(required = true)]
    committed_ms: Option<f64>,
    #[schema(required = true)]
    applied_ms: Option<f64>,
    /// At the leader: each member that it was sent to.
    members: Vec<EntryMember>,
}

/// When a recent entry came how far
///
/// A node has the newest 4,096 at least. The leader knows of the others as well.
#[utoipa::path(get, path = "/hraftd/raft/entry/{index}", tag = "raft", params(("index" = u64, Path)), responses(
    (status = 200, description = "its times", body = EntryShape),
    (status = 404, description = "it is too old, or yet to come", body = Problem),
))]
pub async fn entry<S: Service>(
    State(app): State<Arc<App<S>>>,
    Path(index): Path<String>,
    _: Params<()>,
) -> Result<Response, ApiError> {
    let is_number = index.bytes().all(|byte| byte.is_ascii_digit());
    let index: u64 = index.parse().ok().filter(|_| is_number).ok_or_else(|| {
        ApiError::BadRequest(format!("{} is no index: a number, such as that in X-Hraftd-Index", text::quoted(&index)))
    })?;
    let Some(EntryView { term, leader, from, proposed, flushed_us, committed_us, applied_us, members }) =
        app.service.entry(index)
    else {
        let why = format!("nothing is known of entry {index}: it is too old, or yet to come, or of before this start");
        return Err(NodeError::NotFound(why).into());
    };
    let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
    let member = |(id, sent_us, flushed_us)| EntryMember { id, sent_ms: ms(sent_us), flushed_ms: ms(flushed_us) };
    let shape = EntryShape {
        index,
        term,
        node: app.service.id().to_string(),
        leader,
        passed_on_by: from,
        proposed: text::rfc3339_millis(proposed),
        flushed_ms: ms(flushed_us),
        committed_ms: ms(committed_us),
        applied_ms: ms(applied_us),
        members: members.into_iter().map(member).collect(),
    };
    Ok(json::response_of(StatusCode::OK, &shape))
}
