//! TLS: who belongs to the cluster, and what clients are shown.
//!
//! * [`Authority`] is what follows from a cluster secret. [`PeerTls`] holds what a node trusts and shows to other nodes, and
//!   replaces it while it runs. [`verify`] decides who is a node.
//! * [`ClientTls`] is what clients are shown.
//! * [`of_client`] is what a client of this program trusts and shows.
//! * [`Door`] is what a connection passes before its first request, at either port; [`dial`] is the other side of it.
//!
//! Between nodes: TLS 1.3 alone, certificates on both sides, no tickets and no sessions, and no clock. There is no way
//! around: a node with a secret speaks plain text to nobody, unless the operator migrates ([`PeerTls::is_optional`]).
//!
//! Knows nothing of HTTP, Raft or flags. It is the network's: nothing below imports it, so that the simulation has none.

mod authority;
mod clients;
mod complaints;
mod dial;
mod door;
mod handshakes;
mod peers;
mod pem;
#[cfg(test)]
mod tests;
mod trust;
mod verify;
mod wire;

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use thiserror::Error;

pub use authority::{Authority, Kind};
pub use clients::{ClientCa, ClientCertificate, ClientTls, ServerIdentity};
pub use dial::{DialError, PeerStream, dial};
pub use door::{Admitted, Door, DoorLimits, Open};
pub use handshakes::RoomLimits;
pub use peers::PeerTls;
pub use trust::of_client;
pub use verify::PeerIdentity;
pub use wire::Wire;

/// What nodes speak, at either port (ALPN).
pub const PEER_PROTOCOL: &[u8] = b"hraftd-peer/1";

/// What clients speak (ALPN).
const CLIENT_PROTOCOL: &[u8] = b"http/1.1";

/// What clients speak if they can (ALPN).
const HTTP2_PROTOCOL: &[u8] = b"h2";

/// The first byte of a TLS connection: a handshake record.
const HANDSHAKE: u8 = 0x16;

/// Sent by a node that takes a connection of another, once it has verified it: nothing is sent to one that has not. So a
/// refusal comes before a request, which then cannot have been received.
const WELCOME: u8 = 0x06;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A key that cannot be; a fault of this program.
    #[error("a key cannot be made")]
    Key,
    /// The system gives no random bytes.
    #[error("{0}")]
    Random(#[from] io::Error),
    /// A certificate cannot be written.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// rustls refuses it.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// Certificates or keys of the operator's that cannot be used.
    #[error("{0}")]
    Given(String),
}

/// The algorithms of this process.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}
