//! Appends on the wire: an HTTP request that asks to use its connection for something else (RFC 9110, 7.8), then
//! messages both ways.
//!
//! No request head, no pool and no task stand between two messages; a message is one system call on either side.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use openraft::raft::AppendEntriesRequest;
use reqwest::Client;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, FramedRead, LengthDelimitedCodec};

use super::client::{peer_error, read_answer};
use super::server::Port;
use super::wire::{self, APPENDS_PATH, APPENDS_PROTOCOL, AppendAnswer, AppendMessage, MAX_MESSAGE_BYTES};
use crate::network::limits::{Bounded, Bounds};
use crate::node::rpc::{AppendStream, BoxFuture, PeerError, Refusal, StampedOutcome, Target};
use crate::node::{Node, NodeIdentity};
use crate::raft_types::TypeConfig;

/// A leader closes what it does not need much earlier; this is for one whose host is gone.
const SILENCE: Duration = Duration::from_secs(120);

/// An answer that is not taken within this will not be missed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

type Frames<S, C> = FramedRead<ReadHalf<S>, C>;

fn framed<S: AsyncRead + AsyncWrite, C: Decoder>(socket: S, codec: C) -> (Frames<S, C>, WriteHalf<S>) {
    let (read, write) = split(socket);
    (FramedRead::new(read, codec), write)
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().little_endian().max_frame_length(MAX_MESSAGE_BYTES).new_codec()
}

/// A leader's side of one connection.
struct Way<S> {
    me: Arc<NodeIdentity>,
    target: Target,
    answers: Frames<S, LengthDelimitedCodec>,
    requests: WriteHalf<S>,
}

/// A connection to this node that takes appends.
pub(crate) fn way<S: AsyncRead + AsyncWrite + Send + 'static>(
    me: Arc<NodeIdentity>,
    target: Target,
    socket: S,
) -> Box<dyn AppendStream> {
    let (answers, requests) = framed(socket, codec());
    Box::new(Way { me, target, answers, requests })
}

/// Asks a node to take appends; `None` where it is of a version that does not.
pub(super) async fn open(
    client: Client,
    me: Arc<NodeIdentity>,
    target: Target,
    within: Duration,
) -> Result<Option<Box<dyn AppendStream>>, PeerError> {
    let opened = async {
        let asked = client
            .post(format!("http://{}{APPENDS_PATH}", target.id.raddr))
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, APPENDS_PROTOCOL)
            .send();
        let response = asked.await.map_err(|error| peer_error(&error))?;
        match response.status().as_u16() {
            101 => Ok(Some(response.upgrade().await.map_err(|error| peer_error(&error))?)),
            404 => Ok(None),
            _ => Err(match read_answer(response).await {
                Err(error) => error,
                Ok(reply) => PeerError::Lost(format!("an answer to another question: {reply:?}")),
            }),
        }
    };
    let opened = timeout(within, opened).await.unwrap_or_else(|_| Err(PeerError::Lost("no answer".to_owned())))?;
    Ok(opened.map(|socket| way(me, target, socket)))
}

impl<S: AsyncRead + AsyncWrite + Send> AppendStream for Way<S> {
    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move {
            let frame = wire::encode_framed(&(self.me.envelope(&self.target), request));
            self.requests.write_all(&frame).await.map_err(|error| PeerError::Lost(error.to_string()))
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<StampedOutcome, PeerError>> {
        Box::pin(async move {
            match self.answers.next().await {
                Some(Ok(frame)) => match wire::decode::<AppendAnswer>(&frame) {
                    Ok(Ok(outcome)) => Ok(outcome),
                    Ok(Err(refusal)) => Err(PeerError::Refused(refusal)),
                    Err(why) => Err(PeerError::Lost(format!("an unreadable answer: {why}"))),
                },
                Some(Err(error)) => Err(PeerError::Lost(error.to_string())),
                None => Err(PeerError::Lost("it closed the connection".to_owned())),
            }
        })
    }
}

/// A follower's side: the connection is a stream of appends from here on.
pub(super) async fn accept(State(port): State<Port>, mut request: Request) -> Response {
    let Some(node) = port.node.node() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    if request.headers().get(UPGRADE).is_none_or(|to| to != APPENDS_PROTOCOL) {
        return StatusCode::UPGRADE_REQUIRED.into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let node = node.clone();
    tokio::spawn(async move {
        match upgrade.await {
            Ok(socket) => {
                answer(node, TokioIo::new(socket), &port.bounds).await;
            }
            Err(error) => tracing::debug!(%error, "no stream of appends"),
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade"), (UPGRADE, APPENDS_PROTOCOL)]).into_response()
}

/// Answers until the leader closes, a message cannot be taken, or Raft stops.
pub(crate) async fn answer<S: AsyncRead + AsyncWrite + Send + 'static>(node: Node, socket: S, bounds: &Arc<Bounds>) {
    let codec = Bounded { codec: codec(), incoming: bounds.stream() };
    let gone = codec.incoming.gone();
    let (frames, mut answers) = framed(socket, codec);
    let requests = stream::unfold((frames, gone), |(mut frames, gone)| async move {
        let next = tokio::select! {
            biased;
            next = timeout(SILENCE, frames.next()) => next,
            () = gone.cancelled() => return None,
        };
        let message = match next {
            Ok(Some(Ok(frame))) => wire::decode::<AppendMessage>(&frame),
            Ok(Some(Err(error))) => Err(error.to_string()),
            Ok(None) | Err(_) => return None,
        };
        Some((message.map_err(Refusal::Unreadable), (frames, gone)))
    });
    let mut outcomes = pin!(node.receive_appends(Box::pin(requests)));
    let mut stopped = pin!(node.failed());
    loop {
        let outcome: Option<AppendAnswer> = tokio::select! {
            outcome = outcomes.next() => outcome,
            _ = &mut stopped => Some(Err(Refusal::Stopped)),
        };
        let Some(outcome) = outcome else { return };
        let ends = !matches!(outcome, Ok((Ok(_), _)));
        let frame = wire::encode_framed(&outcome);
        let sent = timeout(ANSWER_TIMEOUT, answers.write_all(&frame)).await;
        if ends || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
