//! Reads a peer's answer: reqwest's errors and HTTP statuses as [`PeerError`]s, the body as a [`PeerReply`].

use super::wire::{self, Answer};
use crate::node::rpc::{PeerError, PeerReply, Refusal};

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

/// Reads the reply in an answer's body.
///
/// # Errors
/// * [`PeerError::Unreachable`]: HTTP status 503; the peer did nothing.
/// * [`PeerError::Refused`]: the peer refused, or another HTTP status says that this is no Raft port.
/// * [`PeerError::Lost`]: no whole answer came, or it cannot be read.
pub(super) async fn read_reply(response: reqwest::Response) -> Result<PeerReply, PeerError> {
    let status = response.status();
    if status == reqwest::StatusCode::SERVICE_UNAVAILABLE {
        return Err(PeerError::Unreachable("it is still loading its data, or has more to do than it can".to_owned()));
    }
    if !status.is_success() {
        let what = Refusal::Unreadable(format!("HTTP status {status}: is it a Raft port of hraftd?"));
        return Err(PeerError::Refused(what));
    }
    let bytes = response.bytes().await.map_err(|error| peer_error(&error))?;
    match wire::decode::<Answer>(&bytes) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(refusal)) => Err(PeerError::Refused(refusal)),
        Err(why) => Err(PeerError::Lost(format!("an unreadable answer: {why}"))),
    }
}
