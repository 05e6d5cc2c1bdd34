//! Reads what other nodes answer: HTTP statuses as [`PeerError`]s, the body as a [`PeerReply`].
//!
//! Every body is limited in bytes here, and in time by the caller: an address that was handed in, with a join for example,
//! may lead to anybody.

use axum::http::{Response, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::wire::{self, Answer, MAX_MESSAGE_BYTES};
use crate::formats::NEWEST;
use crate::node::rpc::{PeerError, PeerReply, PeerRequest, Refusal};
use crate::node::{MAX_TEXT_BYTES, PAGE_EVENTS};

/// The most bytes of a reply that carries no values of clients.
pub(super) const MAX_SMALL_REPLY_BYTES: usize = 64 << 10;

/// The most bytes of a page of events: each has three texts at most.
const MAX_EVENTS_BYTES: usize = PAGE_EVENTS * (3 * MAX_TEXT_BYTES + 128);

/// The most bytes of a reply to `request`.
pub(super) fn max_reply_bytes(request: &PeerRequest) -> usize {
    match request {
        PeerRequest::Forward { .. } | PeerRequest::Read { .. } | PeerRequest::ReadBy { .. } => MAX_MESSAGE_BYTES,
        PeerRequest::Events { .. } => MAX_EVENTS_BYTES,
        PeerRequest::Append(_)
        | PeerRequest::Vote(_)
        | PeerRequest::PreVote(_)
        | PeerRequest::TransferLeader(_)
        | PeerRequest::ReadIndex { .. }
        | PeerRequest::WeakIndex
        | PeerRequest::Status
        | PeerRequest::Identify
        | PeerRequest::LeaderWatch
        | PeerRequest::IsLeaderGone(_)
        | PeerRequest::IsMember(_)
        | PeerRequest::Join { .. }
        | PeerRequest::Lead { .. }
        | PeerRequest::Remove { .. }
        | PeerRequest::Found(_)
        | PeerRequest::Vouch
        | PeerRequest::Marks(_)
        | PeerRequest::Examine
        | PeerRequest::Clock
        | PeerRequest::Witness { .. }
        | PeerRequest::AdminBy { .. }
        | PeerRequest::Acknowledged { .. }
        | PeerRequest::Forgotten { .. } => MAX_SMALL_REPLY_BYTES,
    }
}

/// Reads a body of at most `max_bytes`. The caller limits the time.
///
/// # Errors
/// [`PeerError::Lost`]: it is longer, or breaks off.
pub(super) async fn read_body(response: Response<Incoming>, max_bytes: usize) -> Result<Bytes, PeerError> {
    let too_long = || PeerError::Lost(format!("its answer has more than {max_bytes} bytes"));
    // What is announced is not reserved: it may never come.
    let mut body = response.into_body();
    if body.size_hint().exact().is_some_and(|length| length > max_bytes as u64) {
        return Err(too_long());
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| PeerError::Lost(error.to_string()))?;
        let Some(chunk) = frame.data_ref() else { continue };
        if chunk.len() > max_bytes - all.len() {
            return Err(too_long());
        }
        all.extend_from_slice(chunk);
    }
    Ok(all.freeze())
}

/// Reads the reply in an answer's body of at most `max_bytes`. The caller limits the time.
///
/// # Errors
/// * [`PeerError::Unreachable`]: HTTP status 503; the peer did nothing.
/// * [`PeerError::Refused`]: the peer refused, or another HTTP status says that this is no Raft port.
/// * [`PeerError::Lost`]: no whole answer came, it is too long, or it cannot be read.
pub(super) async fn read_reply(response: Response<Incoming>, max_bytes: usize) -> Result<PeerReply, PeerError> {
    let status = response.status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return Err(PeerError::Unreachable("it is still loading its data, or has more to do than it can".to_owned()));
    }
    if !status.is_success() {
        let what = Refusal::Unreadable(format!("HTTP status {status}: is it a Raft port of hraftd?"));
        return Err(PeerError::Refused(what));
    }
    let body = read_body(response, max_bytes).await?;
    match wire::decode::<Answer>(&body, NEWEST) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(refusal)) => Err(PeerError::Refused(refusal)),
        Err(why) => Err(PeerError::Lost(format!("an unreadable answer: {why}"))),
    }
}
