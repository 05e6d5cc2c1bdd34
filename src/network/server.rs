//! The server side of the transport: the routes of the Raft port.
//!
//! Only other nodes call here. An unknown path gets a bare 404; a message that cannot be read gets a refusal in words,
//! which the other side logs.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::header::CONNECTION;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router, middleware};
use bytes::BytesMut;
use http_body_util::{BodyExt, Limited};

use super::port::{Port, check_sender};
use super::validate::{self, CommandLimits, Local};
use super::wire::{self, APPENDS_PATH, Answer, CALL_PATH, MAX_MESSAGE_BYTES, SNAPSHOT_PATH};
use super::{appends, decode, origin, snapshot};
use crate::formats::OLDEST;
use crate::http::Place;
use crate::network::limits::{DecodeTurn, Inbound};
use crate::node::rpc::{Envelope, PeerRequest, Refusal};
use crate::node::{Node, NodeSlot};
use crate::tls::PeerIdentity;

/// A message that does not arrive within this time is given up.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends a connection with its answer.
const CLOSE: [(HeaderName, &str); 1] = [(CONNECTION, "close")];

/// The routes of the Raft address; 503 until the node is there. Commands that other nodes forward must keep `limits`.
pub fn router(node: NodeSlot, limits: CommandLimits) -> Router {
    Router::new()
        .route(CALL_PATH, post(call))
        .route(APPENDS_PATH, post(appends::accept))
        .route(SNAPSHOT_PATH, post(receive_snapshot))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn(origin::refuse_browsers))
        .with_state(Port::new(node, limits))
}

/// Answers one message.
async fn call(
    State(port): State<Port>,
    place: Option<Extension<Place>>,
    peer: Option<Extension<PeerIdentity>>,
    body: Body,
) -> Response {
    let (mut stays, mut format) = (true, OLDEST);
    let answer: Answer = match read(body, port.limits.messages(), MESSAGE_TIMEOUT).await {
        Ok(bytes) => {
            let turn = port.limits.decode_turn(bytes.len()).await;
            match decode::decode_request(&bytes, port.command_limits.max_request_bytes) {
                Ok((envelope, request)) => {
                    drop(bytes);
                    format = envelope.format;
                    if let Err(why) = check_sender(peer.map(|Extension(peer)| peer), &envelope) {
                        port.limits.refused.note(&envelope.from, &why);
                        let refusal = port.limits.reply_room.encode(Err(Refusal::Unreadable(why)), format).await;
                        return (CLOSE, refusal).into_response();
                    }
                    if let Some(Extension(place)) = place {
                        stays = place.heard(port.node.node().and_then(|node| node.member_that_sent(&envelope)));
                    }
                    match port.node.node() {
                        Some(node) => answer(&port, node, &envelope, request, turn).await,
                        None => match port.node.answer_before(&request) {
                            Some(reply) => Ok(reply),
                            None => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
                        },
                    }
                }
                Err(why) => Err(Refusal::Unreadable(why)),
            }
        }
        Err(status) => return (status, CLOSE).into_response(),
    };
    // The place of a stranger's connection is for the next one.
    let ends = answer.is_err() || !stays;
    let body = port.limits.reply_room.encode(answer, format).await;
    if ends { (CLOSE, body).into_response() } else { body.into_response() }
}

async fn answer(port: &Port, node: &Node, envelope: &Envelope, request: PeerRequest, turn: DecodeTurn<'_>) -> Answer {
    if let Err(why) = validate::request(envelope, &request, &Local::of(node)) {
        port.limits.refused.note(&envelope.from, &why);
        return Err(Refusal::Unreadable(why));
    }
    drop(turn);
    let (commands, timeout_ms) = match request {
        PeerRequest::Forward { commands, timeout_ms } => (commands, timeout_ms),
        PeerRequest::LeaderWatch => return watch_leader(port, node, envelope).await,
        request => return node.answer(envelope, request).await,
    };
    let (commands, reasons) = validate::commands(commands, port.command_limits);
    for why in reasons.iter().flatten() {
        port.limits.refused.note(&envelope.from, why);
    }
    let reply = node.answer(envelope, PeerRequest::Forward { commands, timeout_ms }).await?;
    Ok(validate::merge(reply, reasons))
}

/// Answers a watch of the leader, which lasts. Each member has one: a new one takes the place of the old.
async fn watch_leader(port: &Port, node: &Node, envelope: &Envelope) -> Answer {
    if !node.has_member(envelope.from_raft) {
        return Err(Refusal::Unreadable("only a member may watch the leader".to_owned()));
    }
    let watch = port.limits.leader_watch(envelope.from_raft);
    tokio::select! {
        answer = node.answer(envelope, PeerRequest::LeaderWatch) => answer,
        () = watch.replaced.cancelled() => Err(Refusal::Unreadable("another watch took its place".to_owned())),
    }
}

async fn receive_snapshot(
    State(port): State<Port>,
    place: Option<Extension<Place>>,
    peer: Option<Extension<PeerIdentity>>,
    body: Body,
) -> Response {
    let Some(node) = port.node.node() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let (mut format, from) = (OLDEST, (place.map(|Extension(place)| place), peer.map(|Extension(peer)| peer)));
    let answer = snapshot::receive(node, body, &port.limits, from, MESSAGE_TIMEOUT, &mut format).await;
    if let Err(refusal) = &answer {
        tracing::warn!("a snapshot was not received: {refusal}");
    }
    wire::encode(&answer, format).into_response()
}

async fn read(body: Body, inbound: Inbound, within: Duration) -> Result<Bytes, StatusCode> {
    let gone = inbound.gone();
    tokio::select! {
        read = tokio::time::timeout(within, whole(body, inbound)) => read.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)),
        () = gone.cancelled() => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn whole(body: Body, mut inbound: Inbound) -> Result<Bytes, StatusCode> {
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
        inbound.keep(all.len()).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    }
    Ok(all.freeze())
}
