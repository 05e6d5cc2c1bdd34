//! Changes of the membership and of leadership.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};

use super::Params;
use crate::api::App;
use crate::api::access::Caller;
use crate::api::request::deadline::{AdminParams, Deadline};
use crate::api::request::{json_error, query};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Fine, text};
use crate::api::service::Service;
use crate::node::NodeError;
use crate::node_id::{HostPort, MAX_ID_BYTES, PublicId};
use crate::task;

/// The decimal Raft id of a process that asks to join.
const RAFT_ID: &str = "x-hraftd-raft-id";

/// A node that asks to join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinShape {
    /// `HADDR,RADDR`.
    id: String,
    /// The Raft address in the id.
    addr: Option<String>,
}

/// Makes a node a member
///
/// Answered once it is a voter, or a learner where it asked for that. Repeating it is safe.
#[utoipa::path(post, path = "/hraftd/raft/join", tag = "raft",
    params(AdminParams), request_body = JoinShape,
    responses(
        (status = 200, description = "it is a member", body = Fine),
        (status = 409, description = "it cannot be; the message says why", body = Problem),
        (status = 503, description = "no leader, or not ready", body = Problem),
        (status = 504, description = "not in time; it may still become one", body = Problem),
    )
)]
pub async fn join<S: Service>(
    State(app): State<Arc<App<S>>>,
    Params((time,)): Params<(AdminParams,)>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = time.deadline();
    let raft_id = raft_id(&headers)?;
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let wanted: JoinShape = object(&body, r#"{"id":"HADDR,RADDR"}"#)?;
    check_id(&wanted.id)?;
    let id: PublicId = wanted.id.parse().map_err(|error| ApiError::BadRequest(format!("id: {error}")))?;
    if let Some(addr) = &wanted.addr {
        let addr: HostPort = addr.parse().map_err(|error| ApiError::BadRequest(format!("addr: {error}")))?;
        if addr != id.raddr {
            let msg = format!("addr {addr} is not the Raft address in the id, {}; leave addr out", id.raddr);
            return Err(ApiError::BadRequest(msg));
        }
    }
    // It makes a task of its own of what must run to its end. Until then whom it dials is the asker's choice, and the asker's
    // to give up.
    match deadline.run(app.service.join(caller.by(), id, raft_id, deadline.at)).await {
        Some(result) => result.map(|()| Fine::response()).map_err(ApiError::from),
        None => Err(unknown_outcome()),
    }
}

fn raft_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(RAFT_ID) else { return Ok(None) };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(id) => Ok(Some(id)),
        None => Err(ApiError::BadRequest("the header X-Hraftd-Raft-Id is not a decimal number of 64 bits".to_owned())),
    }
}

/// A member, or a part of its id.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedShape {
    id: Option<String>,
}

/// The member that a request is about.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct IdParams {
    /// instead of a body
    #[serde(deserialize_with = "query::non_empty")]
    id: Option<String>,
}

impl IdParams {
    /// The member named here or in the body.
    fn or_body(self, body: &[u8]) -> Result<Option<String>, ApiError> {
        let id = match self.id {
            Some(id) if body.is_empty() => Some(id),
            Some(_) => return Err(ApiError::BadRequest("there is ?id= and a body; name the node once".to_owned())),
            None if body.is_empty() => None,
            None => object::<NamedShape>(body, r#"{"id":"HADDR,RADDR"} (or none, with ?id=)"#)?.id,
        };
        match id {
            Some(id) if id.is_empty() => Err(ApiError::BadRequest("the id is empty".to_owned())),
            Some(id) => check_id(&id).map(|()| Some(id)),
            None => Ok(None),
        }
    }
}

/// Refuses what is too long for an id or a part of one, before it is parsed, sent to the leader or logged.
fn check_id(id: &str) -> Result<(), ApiError> {
    if id.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("the id {} is too long: one has at most {MAX_ID_BYTES} bytes", text::quoted(id))))
}

/// The parameter of a removal alone.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ForceParams {
    /// also where the rest would be no quorum
    force: bool,
}

/// Removes a member
///
/// The id may be the full one, a client address, or a part that only one member has.
#[utoipa::path(delete, path = "/hraftd/raft/remove", tag = "raft",
    params(IdParams, ForceParams, AdminParams),
    request_body = Option<NamedShape>,
    responses(
        (status = 200, description = "it is no member any more", body = Fine),
        (status = 404, description = "no such member", body = Problem),
        (status = 409, description = "more than one is meant, or the rest would be no quorum", body = Problem),
        (status = 503, description = "no leader, or not ready", body = Problem),
        (status = 504, description = "not in time; it may still be removed", body = Problem),
    )
)]
pub async fn remove<S: Service>(
    State(app): State<Arc<App<S>>>,
    Params((id, ForceParams { force }, time)): Params<(IdParams, ForceParams, AdminParams)>,
    caller: Caller,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = time.deadline();
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let Some(wanted) = id.or_body(&body)? else {
        return Err(ApiError::BadRequest("name the node to remove: {\"id\":\"HADDR,RADDR\"} or ?id=".to_owned()));
    };
    let shared = app.clone();
    to_its_end(&deadline, async move { shared.service.remove(caller.by(), &wanted, force, deadline.at).await }).await
}

/// Moves leadership
///
/// To the member named, or to the one that has most of the log.
#[utoipa::path(post, path = "/hraftd/raft/leader", tag = "raft",
    params(IdParams, AdminParams),
    request_body = Option<NamedShape>,
    responses(
        (status = 200, description = "it leads", body = Fine),
        (status = 404, description = "no such member", body = Problem),
        (status = 409, description = "it cannot lead; the message says why", body = Problem),
        (status = 503, description = "no leader, or not ready", body = Problem),
        (status = 504, description = "not in time; it may still come to lead", body = Problem),
    )
)]
pub async fn leader<S: Service>(
    State(app): State<Arc<App<S>>>,
    Params((id, time)): Params<(IdParams, AdminParams)>,
    caller: Caller,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = time.deadline();
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let wanted = id.or_body(&body)?;
    let shared = app.clone();
    to_its_end(&deadline, async move { shared.service.lead(caller.by(), wanted.as_deref(), deadline.at).await }).await
}

fn object<T: DeserializeOwned>(body: &[u8], sample: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::BadRequest(format!("the body must be one JSON object {sample}: {}", json_error::why(&error)))
    })
}

/// Runs a change of the membership in a task of its own: half of one, because the client hung up,
/// helps nobody.
async fn to_its_end(
    deadline: &Deadline,
    change: impl Future<Output = Result<(), NodeError>> + Send + 'static,
) -> Result<Response, ApiError> {
    match deadline.run(task::spawn(change)).await {
        Some(Ok(result)) => result.map(|()| Fine::response()).map_err(ApiError::from),
        Some(Err(error)) => Err(NodeError::Internal(format!("a change of the membership ended badly: {error}")).into()),
        None => Err(unknown_outcome()),
    }
}

fn unknown_outcome() -> ApiError {
    NodeError::Timeout(
        "no answer in time: the change may be made or may still be; GET /hraftd/raft/cluster shows what came of it, and \
         repeating it is safe"
            .to_owned(),
    )
    .into()
}
