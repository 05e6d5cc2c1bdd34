//! The ends of a connection, while something long is under way on it.
//!
//! Where a node comes back under another address, what was sent to it at the old one is not answered by anybody. The kernel
//! notices after the time that a slow reader has, which is long. Two things tell it earlier: the name leads elsewhere, or
//! this node has the address no more that the connection begins at.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Extensions, Request};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Link;
use crate::network::resolver::Resolver;

/// A look-up that takes longer says nothing.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a connection begins and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    local: SocketAddr,
    peer: IpAddr,
}

impl Ends {
    /// # Errors
    /// The connection is broken.
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { local: stream.local_addr()?, peer: stream.peer_addr()?.ip().to_canonical() })
    }
}

/// The connection that a request is on.
#[derive(Debug)]
pub(in crate::network) struct Way {
    name: String,
    connection: CaptureConnection,
    resolver: Arc<Resolver>,
}

impl Link {
    /// What becomes of the connection of a request that is about to be sent.
    pub(in crate::network) fn way_of(&self, request: &mut Request<Body>) -> Way {
        let name = request.uri().host().unwrap_or_default().to_owned();
        Way { name, connection: capture_connection(request), resolver: self.resolver.clone() }
    }
}

impl Way {
    /// True where one end of the connection is nobody's address any more: this node has lost its own, or the name of the
    /// other leads elsewhere. False where that cannot be told.
    pub(in crate::network) async fn leads_nowhere(&self) -> bool {
        let Some(ends) = self.ends() else { return false };
        if is_lost(ends.local) {
            return true;
        }
        match timeout(LOOK_UP_TIMEOUT, self.resolver.look_up(&self.name)).await {
            Ok(Ok(found)) => leads_elsewhere(&found, ends.peer),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn ends(&self) -> Option<Ends> {
        let mut extras = Extensions::new();
        self.connection.connection_metadata().as_ref()?.get_extras(&mut extras);
        extras.get().copied()
    }
}

/// True where there are addresses of the peer's kind, and the peer's is none of them.
fn leads_elsewhere(found: &[SocketAddr], peer: IpAddr) -> bool {
    let mut alike =
        found.iter().map(|addr| addr.ip().to_canonical()).filter(|ip| ip.is_ipv4() == peer.is_ipv4()).peekable();
    alike.peek().is_some() && alike.all(|ip| ip != peer)
}

/// True where this host has the address no more.
fn is_lost(mut local: SocketAddr) -> bool {
    local.set_port(0);
    UdpSocket::bind(local).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_elsewhere_only_by_an_address_of_the_same_kind() {
        let found = |all: &[&str]| all.iter().map(|addr| addr.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let peer = "127.0.0.1".parse().unwrap();
        for same in [&[][..], &["127.0.0.1:1", "127.0.0.2:1"], &["[::ffff:127.0.0.1]:1"], &["[::1]:1"]] {
            assert!(!leads_elsewhere(&found(same), peer), "{same:?}");
        }
        assert!(leads_elsewhere(&found(&["127.0.0.2:1", "[::1]:1"]), peer));
    }

    #[test]
    fn an_address_that_this_host_has_is_not_lost() {
        assert!(!is_lost("127.0.0.1:80".parse().unwrap()));
        // Of the range for documentation: no host has it.
        assert!(is_lost("192.0.2.1:80".parse().unwrap()));
    }
}
