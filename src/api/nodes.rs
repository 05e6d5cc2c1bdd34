//! Connections of other nodes at the client port: a node that joins, or looks who is there, before it is a member.
//!
//! They are let in by the cluster secret (see [`crate::tls`]), and may ask for nothing else.

use axum::extract::Request;
use axum::http::Method;

use super::response::error::ApiError;
use crate::tls::PeerIdentity;

/// What a node may ask here.
const ALLOWED: [(Method, &str); 3] =
    [(Method::POST, "/hraftd/raft/join"), (Method::GET, "/hraftd/raft/stats"), (Method::GET, "/hraftd/raft/node")];

/// The refusal of a request that came on another node's connection, and is none that a node makes.
pub(super) fn refuse(request: &Request) -> Option<ApiError> {
    request.extensions().get::<PeerIdentity>()?;
    let (method, path) = (request.method(), request.uri().path());
    match ALLOWED.iter().any(|allowed| allowed.0 == *method && allowed.1 == path) {
        true => None,
        false => Some(ApiError::no_route(path)),
    }
}
