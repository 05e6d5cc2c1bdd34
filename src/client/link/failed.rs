//! Why an endpoint gave no answer that counts, and what is told of it in the end.

use hyper_util::client::legacy;

use super::answer::innermost;
use super::request::Request;
use crate::config::Endpoint;
use crate::exit::{EX_TEMPFAIL, EX_UNAVAILABLE, Exit};

/// How one request to one node ended that has no answer that counts.
#[derive(Debug)]
pub(in crate::client) enum Ended {
    /// Nothing was done.
    NotDone(String),
    /// It may have been done, or may still be.
    Unknown(String),
    /// It will not be answered otherwise: the end of the process.
    Final(Exit),
}

/// Why an endpoint gave no answer that counts.
pub(super) enum Failed {
    /// There was no connection: nothing was sent.
    Unreachable(String),
    /// It is of another cluster. Nothing was done.
    Foreign(String),
    /// Another may do better, or this one later. Nothing was done.
    Busy(String),
    /// It may have been done.
    Unknown(String),
    /// No other can do better.
    Final(Exit),
}

/// Why no endpoint gave one: the last reason of each kind.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    pub(super) unreachable: Option<String>,
    pub(super) foreign: Option<String>,
    pub(super) busy: Option<String>,
    pub(super) unknown: Option<String>,
}

impl Reasons {
    /// The end of the process.
    pub(super) fn end(self, is_write: bool) -> Exit {
        match self {
            Self { unknown: Some(why), .. } if is_write => unknown(&why),
            // What one that answers says is worth more than that another does not.
            Self { busy: Some(why), .. } | Self { unknown: Some(why), .. } => Exit::error(EX_TEMPFAIL, why),
            Self { foreign: Some(why), .. } => foreign(&why),
            Self { unreachable: why, .. } => unreachable(&why.unwrap_or_default()),
        }
    }

    /// The same, where all endpoints are of other clusters by now: whoever was busy before is gone.
    pub(super) fn elsewhere(self, is_write: bool) -> Exit {
        Self { busy: None, unknown: self.unknown.filter(|_| is_write), ..self }.end(is_write)
    }
}

pub(super) fn broken(endpoint: &Endpoint, error: &legacy::Error) -> Failed {
    let why = innermost(error);
    if error.is_connect() {
        return Failed::Unreachable(format!("{endpoint}: {why}"));
    }
    // A TLS port answers plain text with an alert.
    if !endpoint.tls && why.contains("invalid HTTP version") {
        return Failed::Unreachable(format!(
            "{endpoint}: it speaks no plain HTTP; is it TLS? Give --cacert FILE, or https://"
        ));
    }
    Failed::Unknown(format!("{endpoint}: the connection broke: {why}"))
}

pub(super) fn late(endpoint: &Endpoint) -> Failed {
    Failed::Unknown(format!("{endpoint}: it did not answer in time"))
}

pub(super) fn unreachable(why: &str) -> Exit {
    Exit::error(EX_UNAVAILABLE, format!("no node is reachable: {why}"))
}

pub(super) fn unknown(why: &str) -> Exit {
    Exit::error(EX_TEMPFAIL, format!("{why}. The outcome of this write is unknown: read before you repeat it"))
}

pub(super) fn foreign(why: &str) -> Exit {
    Exit::error(EX_UNAVAILABLE, format!("no node of the cluster that answered first is reachable: {why}"))
}

/// An answer of another cluster, to a request that was sent before it was known which one it is for.
pub(super) fn another(endpoint: &Endpoint, request: &Request, its: &str, ours: &str) -> Failed {
    let why = format!("{endpoint}: it is of the cluster {its}, and another answered first, {ours}");
    match request.is_write() {
        true => Failed::Final(Exit::error(EX_UNAVAILABLE, format!("{why}: this write may be done there"))),
        false => Failed::Foreign(why),
    }
}
