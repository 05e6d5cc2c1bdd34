//! `X-Hraftd-Cluster`: the cluster that a client means. A client of several addresses may find, at one of them, a node of
//! another cluster than it began with.
//!
//! Contract: a request that names a cluster has no effect in another, and none at a node that does not know yet where it
//! belongs. A node tells its cluster to those alone who send the header and are known, or where nobody is asked who he is.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

use super::caller::{Caller, Head};
use crate::api::App;
use crate::api::response::error::ApiError;
use crate::api::service::Service;
use crate::command::Principal;
use crate::node::NodeError;
use crate::raft_types::ClusterId;

/// The header of requests, and of their answers.
pub const NAME: &str = "X-Hraftd-Cluster";

/// What it may be: an id, or a question mark, which only asks for it.
pub const PATTERN: &str = "^([0-9a-f]{32}|[?])$";

const CLUSTER: HeaderName = HeaderName::from_static("x-hraftd-cluster");

/// Goes with a request that has the header, as an extension: what its answer is to tell.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<OnceLock<ClusterId>>);

impl Told {
    /// Notes that the request has the header, if it has.
    pub fn note(request: &mut Request) -> Option<Self> {
        let told = request.headers().contains_key(CLUSTER).then(Self::default)?;
        request.extensions_mut().insert(told.clone());
        Some(told)
    }

    /// Adds the header to the answer, where the client may know.
    pub fn tell(&self, response: &mut Response) {
        let id = self.0.get().and_then(|id| HeaderValue::try_from(id.to_string()).ok());
        response.headers_mut().extend(id.map(|id| (CLUSTER, id)));
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    This(ClusterId),
}

/// Refuses a request that is for another cluster. Who sent it must have been found out before.
///
/// # Errors
/// 400: the header makes no sense. 421: this node is of another cluster. 503: it is of none yet.
pub fn check<S: Service>(app: &App<S>, head: &Head) -> Result<(), ApiError> {
    let Some(told) = head.extensions.get::<Told>() else { return Ok(()) };
    let wanted = wanted(head)?;
    let own = app.service.cluster_id();
    let is_anonymous = matches!(Caller::of(head).by(), Some(Principal::Anonymous { .. }));
    if let Some(own) = own.filter(|_| !is_anonymous) {
        // It is the first to say so.
        let _ = told.0.set(own);
    }
    let Wanted::This(wanted) = wanted else { return Ok(()) };
    match own {
        Some(own) if own == wanted => Ok(()),
        Some(_) if is_anonymous => {
            Err(ApiError::OtherCluster(format!("this node is not of the cluster {wanted}; nothing was done")))
        }
        Some(own) => Err(ApiError::OtherCluster(format!(
            "this node is of the cluster {own}, and the request is for the cluster {wanted}; nothing was done"
        ))),
        None => Err(ApiError::Node(NodeError::NotReady(format!(
            "this node belongs to no cluster yet, or does not know it yet, and the request is for the cluster {wanted}"
        )))),
    }
}

fn wanted(head: &Head) -> Result<Wanted, ApiError> {
    let mut all = head.headers.get_all(CLUSTER).iter();
    let value = match (all.next(), all.next()) {
        (Some(value), None) => value.as_bytes(),
        _ => return Err(ApiError::BadRequest(format!("the header {NAME} is repeated; give it once"))),
    };
    if value == b"?" {
        return Ok(Wanted::Any);
    }
    let is_id = value.len() == 32 && value.iter().all(u8::is_ascii_hexdigit);
    let id = std::str::from_utf8(value).ok().filter(|_| is_id).and_then(|text| u128::from_str_radix(text, 16).ok());
    id.map(|id| Wanted::This(ClusterId(id))).ok_or_else(|| {
        ApiError::BadRequest(format!("the header {NAME} is neither the id of a cluster, 32 hexadecimal digits, nor ?"))
    })
}
