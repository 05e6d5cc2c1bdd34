//! Nodes that clients reach by TLS and with a token: whoever connects to one of them by [`super::http`] does so by itself.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::node::hraftd;
use super::process::finish;

/// What clients trust and show at one address.
#[derive(Debug, Clone)]
struct Place {
    config: Arc<ClientConfig>,
    token: Option<String>,
}

static PLACES: RwLock<BTreeMap<String, Place>> = RwLock::new(BTreeMap::new());

/// What was refused for who the client is, or the server.
static REFUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What one of the program's tools prints, such as `hraftd secret FILE`.
pub fn tool(home: &Path, args: &[&str]) -> String {
    let end = finish(hraftd(home).args(args), Duration::from_secs(10));
    assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
    end.stdout
}

/// What a client trusts that trusts these CAs.
pub fn client_config(ca_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// From now on connections to these addresses trust these CAs; requests show this token.
pub fn secure(addrs: &[String], ca_pem: &str, token: Option<&str>) {
    let place = Place { config: client_config(ca_pem), token: token.map(str::to_owned) };
    let mut places = PLACES.write().unwrap_or_else(PoisonError::into_inner);
    places.extend(addrs.iter().map(|addr| (addr.clone(), place.clone())));
}

/// From now on they are in plain text again.
pub fn unsecure(addrs: &[String]) {
    PLACES.write().unwrap_or_else(PoisonError::into_inner).retain(|addr, _| !addrs.contains(addr));
}

/// What clients show at this address, where they show something.
pub fn token_of(addr: &str) -> Option<String> {
    PLACES.read().unwrap_or_else(PoisonError::into_inner).get(addr)?.token.clone()
}

/// What was refused so far for who the client is, or the server.
pub fn refused() -> Vec<String> {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

pub fn note_refused(what: String) {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

/// A connection, in plain text or under TLS.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// As clients reach this address.
    pub fn open(addr: &str, tcp: TcpStream) -> Result<Self, String> {
        let place = PLACES.read().unwrap_or_else(PoisonError::into_inner).get(addr).cloned();
        let Some(place) = place else { return Ok(Self::Plain(tcp)) };
        let name = ServerName::from(tcp.peer_addr().map_err(|error| format!("{addr}: {error}"))?.ip());
        let session = ClientConnection::new(place.config, name).map_err(|error| format!("{addr}: {error}"))?;
        let mut stream = StreamOwned::new(session, tcp);
        // Now, so that a refusal is told from a broken connection.
        while stream.conn.is_handshaking() {
            if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
                if is_tls {
                    note_refused(format!("{addr}: {error}"));
                }
                return Err(format!("TLS with {addr}: {error}"));
            }
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
