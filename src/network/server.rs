//! The server side of the transport.
//!
//! Everything here is for other nodes: an unknown path gets a bare 404, a message that cannot be read
//! a refusal in words that the other side logs.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use bytes::BytesMut;
use http_body_util::{BodyExt, Limited};

use super::wire::{self, APPENDS_PATH, Answer, CALL_PATH, MAX_MESSAGE_BYTES, Request, SNAPSHOT_PATH};
use super::{appends, snapshot};
use crate::http::Excess;
use crate::network::limits::{Bounds, Incoming};
use crate::node::NodeSlot;
use crate::node::rpc::Refusal;

/// A message that does not arrive within this is given up.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The same on a connection beyond those that are taken: its place is for the next.
const MESSAGE_TIMEOUT_OF_EXCESS: Duration = Duration::from_secs(1);

/// What the routes are about.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) node: NodeSlot,
    pub(super) bounds: Arc<Bounds>,
}

/// The routes of the Raft address; 503 until the node is there.
pub fn router(node: NodeSlot) -> Router {
    Router::new()
        .route(CALL_PATH, post(call))
        .route(APPENDS_PATH, post(appends::accept))
        .route(SNAPSHOT_PATH, post(receive_snapshot))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(Port { node, bounds: Arc::default() })
}

/// One message of an excess connection is taken as any other: who shouts loudest must not silence a member.
async fn call(State(port): State<Port>, excess: Option<Extension<Excess>>, body: Body) -> Response {
    let Some(node) = port.node.node() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let within = if excess.is_some() { MESSAGE_TIMEOUT_OF_EXCESS } else { MESSAGE_TIMEOUT };
    let answer = match read(body, port.bounds.messages(), within).await {
        Ok(bytes) => match wire::decode::<Request>(&bytes) {
            Ok((envelope, request)) => node.answer(&envelope, request).await,
            Err(why) => Err(Refusal::Unreadable(why)),
        },
        Err(status) => return status.into_response(),
    };
    reply(&answer)
}

async fn receive_snapshot(State(port): State<Port>, body: Body) -> Response {
    let Some(node) = port.node.node() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let answer = snapshot::receive(node, body, port.bounds.messages(), MESSAGE_TIMEOUT).await;
    if let Err(refusal) = &answer {
        tracing::warn!("a snapshot was not received: {refusal}");
    }
    reply(&answer)
}

fn reply(answer: &Answer) -> Response {
    wire::encode(answer).into_response()
}

async fn read(body: Body, incoming: Incoming, within: Duration) -> Result<Bytes, StatusCode> {
    let gone = incoming.gone();
    tokio::select! {
        read = tokio::time::timeout(within, whole(body, incoming)) => read.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)),
        () = gone.cancelled() => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn whole(body: Body, mut incoming: Incoming) -> Result<Bytes, StatusCode> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > MAX_MESSAGE_BYTES {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut body = Limited::new(body, MAX_MESSAGE_BYTES);
    // Memory that is not written yet costs nothing.
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => return Err(StatusCode::BAD_REQUEST),
        };
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        all.reserve(data.len().max(announced.saturating_sub(all.len())));
        all.extend_from_slice(&data);
        incoming.keep(all.len()).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    }
    Ok(all.freeze())
}
