//! The server side of the transport.
//!
//! Everything here is for other nodes: an unknown path gets a bare 404, a message that cannot be read
//! a refusal in words that the other side logs.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, Limited};

use super::wire::{self, APPENDS_PATH, Answer, CALL_PATH, MAX_MESSAGE_BYTES, Request, SNAPSHOT_PATH};
use super::{appends, snapshot};
use crate::node::Starting;
use crate::node::peers::Refusal;

/// A message that does not arrive within this is given up.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The routes of the Raft address; 503 until the node is there.
pub fn router(node: Starting) -> Router {
    Router::new()
        .route(CALL_PATH, post(call))
        .route(APPENDS_PATH, post(appends::accept))
        .route(SNAPSHOT_PATH, post(receive_snapshot))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(node)
}

async fn call(State(starting): State<Starting>, body: Body) -> Response {
    let Some(node) = starting.node() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let answer = match read(body).await {
        Ok(bytes) => match wire::decode::<Request>(&bytes) {
            Ok((envelope, request)) => node.answer(&envelope, request).await,
            Err(why) => Err(Refusal::Unreadable(why)),
        },
        Err(status) => return status.into_response(),
    };
    reply(&answer)
}

async fn receive_snapshot(State(starting): State<Starting>, body: Body) -> Response {
    let Some(node) = starting.node() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let answer = snapshot::receive(node, body, MESSAGE_TIMEOUT).await;
    if let Err(refusal) = &answer {
        tracing::warn!("a snapshot was not received: {refusal}");
    }
    reply(&answer)
}

fn reply(answer: &Answer) -> Response {
    wire::encode(answer).into_response()
}

async fn read(body: Body) -> Result<Bytes, StatusCode> {
    match tokio::time::timeout(MESSAGE_TIMEOUT, Limited::new(body, MAX_MESSAGE_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}
