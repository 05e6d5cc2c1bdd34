//! What concerns certificates and tokens. Whoever handles them calls this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Counter;

/// How a handshake ended, in the order of their numbers.
pub const HANDSHAKE_OUTCOMES: [&str; 2] = ["ok", "failed"];

/// Why a request was refused for want of a permission, in the order of their numbers.
pub const AUTH_REFUSALS: [&str; 5] = ["missing", "unknown", "expired", "not_granted", "cross_site"];

/// The ports at which plain text may be let in beside TLS, in the order of their numbers.
pub const PLAIN_PORTS: [&str; 2] = ["raft", "client"];

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

/// A port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainPort {
    /// Of nodes.
    Raft,
    /// Of clients.
    Client,
}

/// What an operator should mend; one at a time of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SecurityFault {
    /// Anybody may speak Raft.
    OpenRaftPort,
    /// The cluster secret's file cannot be used.
    Secrets,
    /// Nor the files of the certificate.
    CertificateFiles,
    /// The certificate is not good, or not for long.
    Certificate,
    /// The root tokens' file cannot be used.
    RootTokens,
    /// An authority of clients' certificates is not good, or not for long.
    ClientCa,
    /// Tokens travel in clear.
    TokensInClear,
    /// Nodes speak plain text with this one.
    PlainNodes,
    /// Clients speak plain text with this node.
    PlainClients,
}

/// The numbers of certificates and tokens. All are 0 until somebody counts.
#[derive(Debug, Default)]
pub struct SecurityNumbers {
    handshakes: [Counter; 2],
    refused: [Counter; 5],
    ends: [AtomicI64; 2],
    plain: [AtomicUsize; 2],
    tokens_in_clear: std::sync::atomic::AtomicBool,
    faults: Mutex<BTreeMap<SecurityFault, String>>,
    secrets: Mutex<Vec<String>>,
}

impl SecurityNumbers {
    /// A handshake has ended, at either port.
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

    /// A connection in plain text is open beside TLS, until this is dropped.
    pub fn plain(self: &Arc<Self>, port: PlainPort) -> PlainOpen {
        self.plain[port as usize].fetch_add(1, Relaxed);
        PlainOpen(self.clone(), port)
    }

    /// By [`PLAIN_PORTS`]: how many are open.
    pub fn plain_open(&self) -> [usize; 2] {
        self.plain.each_ref().map(|count| count.load(Relaxed))
    }

    /// Tokens would travel in clear to this node, from other machines.
    pub fn tokens_in_clear(&self) {
        self.tokens_in_clear.store(true, Relaxed);
    }

    /// Something is wrong, or with `None` not any more.
    pub fn fault(&self, which: SecurityFault, what: Option<String>) {
        let mut faults = self.faults.lock();
        match what {
            Some(what) => drop(faults.insert(which, what)),
            None => drop(faults.remove(&which)),
        }
    }

    /// The cluster secrets with these fingerprints are trusted, of which the first issues.
    pub fn trusts(&self, secrets: Vec<String>) {
        *self.secrets.lock() = secrets;
    }

    /// The fingerprints of the cluster secrets, of which the first issues.
    pub fn secrets(&self) -> Vec<String> {
        self.secrets.lock().clone()
    }

    /// What an operator should mend; `asks`: clients need tokens.
    pub fn faults(&self, asks: bool) -> Vec<(SecurityFault, String)> {
        let mut faults: Vec<_> = self.faults.lock().iter().map(|(which, what)| (*which, what.clone())).collect();
        if asks && self.tokens_in_clear.load(Relaxed) {
            let what = "its client port has no TLS and can be reached from other machines: tokens travel in clear";
            faults.push((SecurityFault::TokensInClear, format!("{what}; see --tls-auto")));
        }
        let [raft, client] = self.plain_open();
        if raft > 0 {
            let what = format!("{raft} connections of nodes are in plain text (--cluster-secret-optional)");
            faults.push((SecurityFault::PlainNodes, what));
        }
        if client > 0 {
            let what = format!("{client} connections of clients are in plain text (--tls-optional)");
            faults.push((SecurityFault::PlainClients, what));
        }
        faults
    }

    /// The same, without their kinds.
    pub fn warnings(&self, asks: bool) -> Vec<String> {
        self.faults(asks).into_iter().map(|(_, what)| what).collect()
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

/// A connection in plain text that is open.
#[derive(Debug)]
pub struct PlainOpen(Arc<SecurityNumbers>, PlainPort);

impl Drop for PlainOpen {
    fn drop(&mut self) {
        self.0.plain[self.1 as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_and_go() {
        let numbers = Arc::new(SecurityNumbers::default());
        numbers.tokens_in_clear();
        assert!(numbers.warnings(false).is_empty());
        let [raft, other, client] =
            [PlainPort::Raft, PlainPort::Raft, PlainPort::Client].map(|port| numbers.plain(port));
        numbers.fault(SecurityFault::Secrets, Some("a".to_owned()));
        numbers.fault(SecurityFault::Secrets, Some("b".to_owned()));
        let warnings = numbers.warnings(true);
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(warnings[0] == "b" && warnings[1].contains("in clear") && warnings[2].starts_with("2 connections"));
        drop((raft, other, client));
        numbers.fault(SecurityFault::Secrets, None);
        assert_eq!((numbers.plain_open(), numbers.warnings(false).len()), ([0, 0], 0));
    }
}
