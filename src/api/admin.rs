//! What is not about keys: the node's own state, membership, and `GET /`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::api::request::body;
use crate::api::request::query::Query;
use crate::api::response::error::ApiError;
use crate::api::response::{json, text};
use crate::api::route::{LIST, Other};
use crate::api::service::Service;
use crate::api::{App, spec, timer, within};
use crate::node::{About, Cluster, ClusterServer, NodeError, State, Stats};
use crate::node_id::{HostPort, PublicId};
use crate::task;

/// The decimal Raft id of a process that asks to join.
const RAFT_ID: &str = "x-hraftd-raft-id";

/// Default and bound of `timeout=` on join and remove: a joiner has to catch up first.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn respond<S: Service>(
    app: &Arc<App<S>>,
    route: Other,
    head: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    if !route.takes(&head.method) {
        return Err(ApiError::method(&head.method, route.allow()));
    }
    match route {
        Other::Join => return join(app, head, body).await,
        Other::Remove => return remove(app, head, body).await,
        Other::Leader => return leader(app, head, body).await,
        _ => Query::parse(head.uri.query(), &[])?,
    };
    let mut out = Vec::with_capacity(1024);
    match route {
        Other::Stats => stats(&mut out, &app.service.stats()),
        Other::Cluster => cluster(&mut out, &app.service.cluster().await),
        Other::State => state(&mut out, app.service.state()),
        Other::Node => about(&mut out, &app.service.about()),
        Other::Health => return Ok(health()),
        Other::Ready => return ready(&**app),
        Other::OpenApi => return Ok(openapi()),
        Other::Index | Other::Join | Other::Remove | Other::Leader => index(&mut out),
    }
    Ok(json::response(out))
}

/// Whether the process serves
#[utoipa::path(get, path = "/hraftd/raft/health", tag = "raft", responses(
    (status = 200, description = "it does", body = String, content_type = "text/plain")
))]
pub(super) fn health() -> Response {
    let mut response = Response::new(Body::from("OK"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Whether key requests would be served
#[utoipa::path(get, path = "/hraftd/raft/ready", tag = "raft", responses(
    (status = 200, description = "they would", body = spec::Fine),
    (status = 409, description = "two clusters use one address", body = spec::Problem),
    (status = 503, description = "no leader, joining, recovering, or removed", body = spec::Problem),
))]
pub(super) fn ready<S: Service>(app: &App<S>) -> Result<Response, ApiError> {
    app.service.ready()?;
    Ok(json::ok())
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "raft", responses(
    (status = 200, description = "OpenAPI 3.1", body = serde_json::Value)
))]
pub(super) fn openapi() -> Response {
    json::response(spec::document())
}

/// What this node is doing
#[utoipa::path(get, path = "/hraftd/raft/state", tag = "raft", responses(
    (status = 200, description = "in one word", body = spec::StateAnswer)
))]
pub(super) fn state(out: &mut Vec<u8>, state: State) {
    json::plain(out, format_args!("{{\"ok\":true,\"msg\":\"{}\"}}", state.as_str()));
}

/// Version and routes
#[utoipa::path(get, path = "/", tag = "raft", responses(
    (status = 200, description = "what there is", body = spec::Index)
))]
pub(super) fn index(out: &mut Vec<u8>) {
    let mut object = json::Object::new(out);
    object.string("name", env!("CARGO_PKG_NAME"));
    object.string("version", env!("CARGO_PKG_VERSION"));
    json::array(object.name("routes"), LIST, |out, route| json::string(out, route));
    object.end();
}

/// This node's own view of Raft
///
/// Every value but the members is a string, in the order of Go's hraftd.
#[utoipa::path(get, path = "/hraftd/raft/stats", tag = "raft", responses(
    (status = 200, description = "as Go's hraftd has it", body = spec::StatsShape)
))]
pub(super) fn stats(out: &mut Vec<u8>, stats: &Stats) {
    let mut object = json::Object::new(out);
    object.quoted("applied_index", stats.applied_index);
    object.quoted("commit_index", stats.commit_index);
    object.quoted("fsm_pending", stats.fsm_pending);
    object.string(
        "last_contact",
        &match stats.last_contact {
            None => "never".to_owned(),
            // On the leader, without a unit.
            Some(Duration::ZERO) => "0".to_owned(),
            Some(ago) => text::go_duration(ago),
        },
    );
    object.quoted("last_log_index", stats.last_log_index);
    object.quoted("last_log_term", stats.last_log_term);
    object.quoted("last_snapshot_index", stats.last_snapshot_index);
    object.quoted("last_snapshot_term", stats.last_snapshot_term);
    json::array(object.name("latest_configuration"), &stats.latest_configuration, |out, server| {
        let mut object = json::Object::new(out);
        object.quoted("id", &server.id);
        object.quoted("address", &server.id.raddr);
        object.string("suffrage", suffrage(server.voter));
        object.end();
    });
    object.quoted("latest_configuration_index", stats.latest_configuration_index);
    object.quoted("num_peers", stats.num_peers);
    // Constants, for programs that read Go's hraftd.
    object.string("protocol_version", "3");
    object.string("protocol_version_max", "3");
    object.string("protocol_version_min", "0");
    object.string("snapshot_version_max", "1");
    object.string("snapshot_version_min", "0");
    object.string("state", stats.state.as_str());
    object.quoted("term", stats.term);
    object.end();
}

/// All members, asked at once
#[utoipa::path(get, path = "/hraftd/raft/cluster", tag = "raft", responses(
    (status = 200, description = "who leads, and what each says it is doing", body = spec::ClusterShape)
))]
pub(super) fn cluster(out: &mut Vec<u8>, cluster: &Cluster) {
    let mut object = json::Object::new(out);
    server(object.name("current"), &cluster.current);
    match &cluster.leader {
        Some(leader) => server(object.name("leader"), leader),
        None => object.name("leader").extend_from_slice(b"null"),
    }
    json::array(object.name("servers"), &cluster.servers, server);
    if !cluster.warnings.is_empty() {
        json::array(object.name("warnings"), &cluster.warnings, |out, warning| json::string(out, warning));
    }
    object.end();
}

fn server(out: &mut Vec<u8>, server: &ClusterServer) {
    let mut object = json::Object::new(out);
    object.quoted("address", &server.id.raddr);
    object.quoted("id", &server.id);
    object.string("state", server.state.as_str());
    object.string("suffrage", suffrage(server.voter));
    object.end();
}

fn suffrage(voter: bool) -> &'static str {
    if voter { "Voter" } else { "Nonvoter" }
}

/// The node that was asked
#[utoipa::path(get, path = "/hraftd/raft/node", tag = "raft", responses(
    (status = 200, description = "who it is, and a digest of its state", body = spec::NodeShape)
))]
pub(super) fn about(out: &mut Vec<u8>, about: &About) {
    let mut object = json::Object::new(out);
    object.string("startTime", &text::rfc3339(about.start_time));
    object.quoted("nodeID", &about.id);
    object.string("hostname", &about.hostname);
    object.string("IP", &about.id.raddr.host);
    object.string("version", env!("CARGO_PKG_VERSION"));
    if let Some((digest, index)) = about.digest {
        json::plain(object.name("applied_index"), index);
        object.quoted("digest", format_args!("{digest:016x}"));
    }
    object.end();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinBody {
    id: String,
    addr: Option<String>,
}

/// Makes a node a member
///
/// Answered once it is a voter, or a learner where it asked for that. Repeating it is safe.
#[utoipa::path(post, path = "/hraftd/raft/join", tag = "raft",
    params(spec::AdminParams), request_body = spec::JoinShape,
    responses(
        (status = 200, description = "it is a member", body = spec::Fine),
        (status = 409, description = "it cannot be; the message says why", body = spec::Problem),
        (status = 503, description = "no leader, or not ready", body = spec::Problem),
        (status = 504, description = "not in time; it may still become one", body = spec::Problem),
    )
)]
pub(super) async fn join<S: Service>(app: &Arc<App<S>>, head: &Parts, body: Body) -> Result<Response, ApiError> {
    let query = Query::parse(head.uri.query(), &["timeout"])?;
    let (timeout, deadline) = time_for(&query)?;
    let raft_id = raft_id(&head.headers)?;
    let (body, _room) = whole(app, body, timeout, deadline).await?;
    let wanted: JoinBody = object(&body, r#"{"id":"HADDR,RADDR"}"#)?;
    let id: PublicId = wanted.id.parse().map_err(|error| ApiError::BadRequest(format!("id: {error}")))?;
    if let Some(addr) = &wanted.addr {
        let addr: HostPort = addr.parse().map_err(|error| ApiError::BadRequest(format!("addr: {error}")))?;
        if addr != id.raddr {
            let msg = format!("addr {addr} is not the Raft address in the id, {}; leave addr out", id.raddr);
            return Err(ApiError::BadRequest(msg));
        }
    }
    let task = app.clone();
    to_its_end(deadline, async move { task.service.join(id, raft_id, deadline).await }).await
}

fn raft_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(RAFT_ID) else { return Ok(None) };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(id) => Ok(Some(id)),
        None => Err(ApiError::BadRequest("the header X-Hraftd-Raft-Id is not a decimal number of 64 bits".to_owned())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedBody {
    id: Option<String>,
}

/// The node that a request names, in its query or in its body.
fn named(query: &Query<'_>, body: &[u8]) -> Result<Option<String>, ApiError> {
    let id = match query.value("id")? {
        Some(id) if body.is_empty() => Some(id.to_owned()),
        Some(_) => return Err(ApiError::BadRequest("there is ?id= and a body; name the node once".to_owned())),
        None if body.is_empty() => None,
        None => object::<NamedBody>(body, r#"{"id":"HADDR,RADDR"} (or none, with ?id=)"#)?.id,
    };
    match id {
        Some(id) if id.is_empty() => Err(ApiError::BadRequest("the id is empty".to_owned())),
        id => Ok(id),
    }
}

/// Removes a member
///
/// The id may be the full one, a client address, or a part that only one member has.
#[utoipa::path(delete, path = "/hraftd/raft/remove", tag = "raft",
    params(
        spec::AdminParams,
        ("id" = Option<String>, Query, description = "instead of a body"),
        ("force" = Option<bool>, Query, description = "also where the rest would be no quorum"),
    ),
    request_body = Option<spec::NamedShape>,
    responses(
        (status = 200, description = "it is no member any more", body = spec::Fine),
        (status = 404, description = "no such member", body = spec::Problem),
        (status = 409, description = "more than one is meant, or the rest would be no quorum", body = spec::Problem),
        (status = 503, description = "no leader, or not ready", body = spec::Problem),
        (status = 504, description = "not in time; it may still be removed", body = spec::Problem),
    )
)]
pub(super) async fn remove<S: Service>(app: &Arc<App<S>>, head: &Parts, body: Body) -> Result<Response, ApiError> {
    let query = Query::parse(head.uri.query(), &["id", "force", "timeout"])?;
    let (timeout, deadline) = time_for(&query)?;
    let force = query.switch("force")?;
    let (body, _room) = whole(app, body, timeout, deadline).await?;
    let Some(wanted) = named(&query, &body)? else {
        return Err(ApiError::BadRequest("name the node to remove: {\"id\":\"HADDR,RADDR\"} or ?id=".to_owned()));
    };
    let task = app.clone();
    to_its_end(deadline, async move { task.service.remove(&wanted, force, deadline).await }).await
}

/// Moves leadership
///
/// To the member named, or to the one that has most of the log.
#[utoipa::path(post, path = "/hraftd/raft/leader", tag = "raft",
    params(spec::AdminParams, ("id" = Option<String>, Query, description = "instead of a body")),
    request_body = Option<spec::NamedShape>,
    responses(
        (status = 200, description = "it leads", body = spec::Fine),
        (status = 404, description = "no such member", body = spec::Problem),
        (status = 409, description = "it cannot lead; the message says why", body = spec::Problem),
        (status = 503, description = "no leader, or not ready", body = spec::Problem),
        (status = 504, description = "not in time; it may still come to lead", body = spec::Problem),
    )
)]
pub(super) async fn leader<S: Service>(app: &Arc<App<S>>, head: &Parts, body: Body) -> Result<Response, ApiError> {
    let query = Query::parse(head.uri.query(), &["id", "timeout"])?;
    let (timeout, deadline) = time_for(&query)?;
    let (body, _room) = whole(app, body, timeout, deadline).await?;
    let wanted = named(&query, &body)?;
    let task = app.clone();
    to_its_end(deadline, async move { task.service.lead(wanted.as_deref(), deadline).await }).await
}

fn time_for(query: &Query<'_>) -> Result<(Duration, Instant), ApiError> {
    let timeout = query.timeout(MEMBERSHIP_TIMEOUT, MEMBERSHIP_TIMEOUT)?;
    Ok((timeout, Instant::now() + timeout))
}

async fn whole<S: Service>(
    app: &App<S>,
    body: Body,
    timeout: Duration,
    deadline: Instant,
) -> Result<body::Held<'_>, ApiError> {
    let read = body::read(body, app.settings.max_request_bytes, &app.room);
    within(pin!(timer(deadline)), read).await.unwrap_or_else(|| {
        let msg = format!("the request body did not arrive within {}", text::go_duration(timeout));
        Err(ApiError::RequestTimeout(msg))
    })
}

fn object<T: DeserializeOwned>(body: &[u8], sample: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::BadRequest(format!("the body must be one JSON object {sample}: {}", text::brief(error)))
    })
}

/// Runs a change of the membership in a task of its own: half of one, because the client hung up, helps nobody.
async fn to_its_end(
    deadline: Instant,
    change: impl Future<Output = Result<(), NodeError>> + Send + 'static,
) -> Result<Response, ApiError> {
    let change = task::spawn(change);
    match within(pin!(timer(deadline)), change).await {
        Some(Ok(result)) => result.map(|()| json::ok()).map_err(ApiError::from),
        Some(Err(error)) => Err(NodeError::Internal(format!("a change of the membership ended badly: {error}")).into()),
        None => Err(NodeError::Timeout(
            "no answer in time: the change may be made or may still be; GET /hraftd/raft/cluster shows what came of it, and \
             repeating it is safe"
                .to_owned(),
        )
        .into()),
    }
}
