//! Reads what other nodes answer: reqwest's errors and HTTP statuses as [`PeerError`]s, the body as a [`PeerReply`].
//!
//! Every body is limited in bytes here, and in time by the caller: an address that was handed in, with a join for example,
//! may lead to anybody.

use bytes::{Bytes, BytesMut};
use reqwest::{Response, StatusCode};

use super::wire::{self, Answer, MAX_MESSAGE_BYTES};
use crate::formats::NEWEST;
use crate::node::rpc::{PeerError, PeerReply, PeerRequest, Refusal};

/// The most bytes of a reply that carries no values of clients.
pub(super) const MAX_SMALL_REPLY_BYTES: usize = 64 << 10;

/// The most bytes of a reply to `request`.
pub(super) fn max_reply_bytes(request: &PeerRequest) -> usize {
    match request {
        PeerRequest::Forward { .. } | PeerRequest::Read { .. } | PeerRequest::ReadBy { .. } => MAX_MESSAGE_BYTES,
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
        | PeerRequest::Witness { .. }
        | PeerRequest::AdminBy { .. }
        | PeerRequest::Forgotten { .. } => MAX_SMALL_REPLY_BYTES,
    }
}

/// Tells reqwest's errors apart by whether the request can have been received: only a failure to connect is
/// [`PeerError::Unreachable`].
pub(super) fn peer_error(error: &reqwest::Error) -> PeerError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() {
        PeerError::Unreachable(text)
    } else if error.is_timeout() {
        PeerError::Lost("it did not answer in time".to_owned())
    } else {
        PeerError::Lost(text)
    }
}

/// Reads a body of at most `max_bytes`. The caller limits the time.
///
/// # Errors
/// [`PeerError::Lost`]: it is longer, or breaks off.
pub(super) async fn read_body(mut response: Response, max_bytes: usize) -> Result<Bytes, PeerError> {
    let too_long = || PeerError::Lost(format!("its answer has more than {max_bytes} bytes"));
    // What is announced is not reserved: it may never come.
    if response.content_length().is_some_and(|length| length > max_bytes as u64) {
        return Err(too_long());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| peer_error(&error))? {
        if chunk.len() > max_bytes - body.len() {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads the reply in an answer's body of at most `max_bytes`. The caller limits the time.
///
/// # Errors
/// * [`PeerError::Unreachable`]: HTTP status 503; the peer did nothing.
/// * [`PeerError::Refused`]: the peer refused, or another HTTP status says that this is no Raft port.
/// * [`PeerError::Lost`]: no whole answer came, it is too long, or it cannot be read.
pub(super) async fn read_reply(response: Response, max_bytes: usize) -> Result<PeerReply, PeerError> {
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
