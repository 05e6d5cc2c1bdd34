//! Probes for orchestrators: is the process alive, would it serve?

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Params;
use crate::api::App;
use crate::api::access::Caller;
use crate::api::response::Fine;
use crate::api::response::error::{ApiError, Problem};
use crate::api::service::Service;
use crate::node::NodeError;

/// Tells whether the process turns
///
/// It does while the threads of Raft and of clients have had their turn within five times the longest election timeout.
/// A quorum does not matter: to start a process again brings none back.
#[utoipa::path(get, path = "/livez", tag = "raft", responses(
    (status = 200, description = "it does", body = Fine),
    (status = 503, description = "threads stand still", body = Problem),
))]
pub async fn livez<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Result<Response, ApiError> {
    let (pulses, most) = &app.settings.alive;
    pulses.check(*most).await.map_err(NodeError::NotReady)?;
    Ok(Fine::response())
}

/// The same as `/livez`
#[utoipa::path(get, path = "/healthz", tag = "raft", responses(
    (status = 200, description = "it turns", body = Fine),
    (status = 503, description = "threads stand still", body = Problem),
))]
pub async fn healthz<S: Service>(app: State<Arc<App<S>>>, none: Params<()>) -> Result<Response, ApiError> {
    livez(app, none).await
}

/// How a probe is answered.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ReadyzParams {
    /// a line for each check
    verbose: bool,
}

/// Tells whether key requests would be served, and why not
///
/// As `/hraftd/raft/ready`; with `verbose` as text, a line for each check.
#[utoipa::path(get, path = "/readyz", tag = "raft", params(ReadyzParams), responses(
    (status = 200, description = "they would", content((Fine = "application/json"), (String = "text/plain"))),
    (status = 409, description = "two clusters use one address", body = Problem),
    (status = 503, description = "no leader, joining, recovering, or removed", body = Problem),
))]
pub async fn readyz<S: Service>(
    State(app): State<Arc<App<S>>>,
    Params((ReadyzParams { verbose },)): Params<(ReadyzParams,)>,
    caller: Caller,
) -> Result<Response, ApiError> {
    if !verbose {
        return super::ready(State(app), Params(()), caller).await;
    }
    let checks = app.service.checks();
    let mut text = String::new();
    for (name, outcome) in &checks {
        // Writing to memory does not fail.
        let _ = match outcome {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(why) => writeln!(text, "[-]{name} {}", why.replace('\n', " ")),
        };
    }
    let mut response = Response::new(Body::from(text));
    if checks.iter().any(|(_, outcome)| outcome.is_err()) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}
