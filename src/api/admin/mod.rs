//! Requests that are not about keys: the node's own state, membership, the list of routes.
//!
//! These requests pass no admission: an operator is heard under any load.

pub(super) mod membership;
pub(super) mod probes;
pub(super) mod status;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::access::Caller;
use crate::api::request::query::{self, Parameters};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::{Fine, json};
use crate::api::service::Service;
use crate::api::{methods, page};
use crate::node::{Gate, NodeError};

/// The query of a request; nothing else may be in it.
pub struct Params<P>(pub P);

impl<P: Parameters, S: Sync> FromRequestParts<S> for Params<P> {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, ApiError> {
        query::parse(head.uri.query()).map(Self)
    }
}

/// `GET /`.
#[derive(Serialize, ToSchema)]
pub struct Index {
    name: &'static str,
    version: &'static str,
    routes: Vec<&'static str>,
}

/// Version and routes
#[utoipa::path(get, path = "/", tag = "raft", responses(
    (status = 200, description = "what there is", body = Index),
    (status = 303, description = "for a browser (Accept: text/html): the page is at ui/"),
))]
pub async fn index(_: Params<()>, headers: HeaderMap) -> Response {
    let index = Index { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), routes: methods::list() };
    let mut response = match page::is_for_browser(&headers) {
        true => page::lead_to("ui/"),
        false => json::response_of(StatusCode::OK, &index),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Tells whether the process serves
#[utoipa::path(get, path = "/hraftd/raft/health", tag = "raft", responses(
    (status = 200, description = "it does", body = String, content_type = "text/plain")
))]
pub async fn health(_: Params<()>) -> Response {
    let mut response = Response::new(Body::from("OK"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Tells whether key requests would be served
#[utoipa::path(get, path = "/hraftd/raft/ready", tag = "raft", responses(
    (status = 200, description = "they would", body = Fine),
    (status = 409, description = "two clusters use one address", body = Problem),
    (status = 503, description = "no leader, joining, recovering, or removed", body = Problem),
))]
pub async fn ready<S: Service>(
    State(app): State<Arc<App<S>>>,
    _: Params<()>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let ready = app.service.ready().await;
    // Whoever asks is told no more than that.
    if ready.is_err() && caller.by().is_none() && !matches!(app.service.gate(), Gate::Open) {
        return Err(NodeError::NotReady("not ready".to_owned()).into());
    }
    ready?;
    Ok(Fine::response())
}
