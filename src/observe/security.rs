//! What concerns certificates and tokens. Whoever handles them calls this.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::Counter;

/// How a handshake ended, in the order of their numbers.
pub const HANDSHAKE_OUTCOMES: [&str; 2] = ["ok", "failed"];

/// Why a request was refused for want of a permission, in the order of their numbers.
pub const AUTH_REFUSALS: [&str; 5] = ["missing", "unknown", "expired", "not_granted", "cross_site"];

/// The certificates whose end is told, in the order of their numbers.
pub const CERTIFICATES: [&str; 2] = ["server", "client_ca"];

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The connection is encrypted.
    Ok,
    /// It came to nothing.
    Failed,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthRefusal {
    /// It brought no token.
    Missing,
    /// Nobody has this token, or not any more.
    Unknown,
    /// The token has expired.
    Expired,
    /// The token does not permit it.
    NotGranted,
    /// A page of another site sent it.
    CrossSite,
}

/// A certificate that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// That of this node's client port.
    Server,
    /// The authority of clients' certificates.
    ClientCa,
}

/// The numbers of certificates and tokens. All are 0 until somebody counts.
#[derive(Debug, Default)]
pub struct SecurityNumbers {
    handshakes: [Counter; 2],
    refused: [Counter; 5],
    ends: [AtomicI64; 2],
}

impl SecurityNumbers {
    /// A handshake at the client port has ended.
    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].one();
    }

    /// A request was refused.
    pub fn refused(&self, why: AuthRefusal) {
        self.refused[why as usize].one();
    }

    /// A certificate is in use that ends at this time, in seconds since 1970.
    pub fn certificate_ends(&self, which: Certificate, at_unix_secs: i64) {
        self.ends[which as usize].store(at_unix_secs, Relaxed);
    }

    /// By [`HANDSHAKE_OUTCOMES`].
    pub fn handshakes(&self) -> [u64; 2] {
        self.handshakes.each_ref().map(Counter::get)
    }

    /// By [`AUTH_REFUSALS`].
    pub fn refusals(&self) -> [u64; 5] {
        self.refused.each_ref().map(Counter::get)
    }

    /// When each of [`CERTIFICATES`] ends, in seconds since 1970; 0 where there is none.
    pub fn ends(&self) -> [i64; 2] {
        self.ends.each_ref().map(|end| end.load(Relaxed))
    }
}
