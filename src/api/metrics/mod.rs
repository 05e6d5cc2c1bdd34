//! `GET /metrics`: the numbers of this node for Prometheus (text format 0.0.4).
//!
//! Nothing is kept for it but atomics: the page is made when it is asked for. Label values are bounded: routes, codes,
//! members; nothing that a client sends becomes one.
//!
//! * `families`: all names, and what they are of.
//! * `requests`: what the client port counts.
//! * `page`: families as the crate `prometheus` has them.

mod families;
mod page;
mod requests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use prometheus::TextEncoder;

use super::App;
use super::admin::Params;
use super::response::error::ApiError;
use super::service::Service;
use crate::node::NodeError;

pub use requests::RequestNumbers;

/// Numbers for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "raft", responses(
    (status = 200, description = "text format 0.0.4", body = String, content_type = "text/plain")
))]
pub async fn metrics<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Result<Response, ApiError> {
    let numbers = app.service.numbers();
    let page = families::all(&numbers, &app.numbers, &app.settings.port, &app.settings.security);
    let text = TextEncoder::new().encode_to_string(&page.0);
    let text = text.map_err(|error| NodeError::Internal(format!("the numbers cannot be written: {error}")))?;
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
