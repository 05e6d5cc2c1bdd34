//! What clients are shown, and what is asked of them; replaced while a node runs.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;
use webpki::EndEntityCert;

use super::authority::{Authority, Leaf};
use super::{CLIENT_PROTOCOL, HTTP2_PROTOCOL, TlsError, pem, provider};

/// Sessions that can be taken up again, in this process's memory.
const MAX_SESSIONS: usize = 4096;

/// A certificate and its key, as clients are shown them.
pub struct ServerIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIdentity").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl ServerIdentity {
    /// The operator's: a chain and a key in PEM. Whether they fit is told by [`ClientTls::new`].
    ///
    /// # Errors
    /// Why the chain (`false`) or the key (`true`) cannot be read.
    pub fn given(chain: &[u8], key: &[u8]) -> Result<Self, (bool, TlsError)> {
        let chain = pem::certificates(chain).map_err(|error| (false, error))?;
        let key = pem::key(key).map_err(|error| (true, error))?;
        Ok(Self { chain, key })
    }

    /// One of the clients' authority, for these hosts, valid from a day ago for 30 days.
    ///
    /// # Errors
    /// A host that is neither a name nor an address, no random bytes, or a fault of this program.
    pub fn issued(authority: &Authority, hosts: &[String], now: SystemTime) -> Result<Self, TlsError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let Leaf { certificate, key } = authority.server(hosts, now)?;
        Ok(Self { chain: vec![certificate], key })
    }

    /// When it begins and ends to be valid.
    pub fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        pem::validity(self.chain.first()?)
    }

    /// True where it is for this host.
    pub fn is_for(&self, host: &str) -> bool {
        let Some(leaf) = self.chain.first().and_then(|leaf| EndEntityCert::try_from(leaf).ok()) else { return false };
        let name = rustls::pki_types::ServerName::try_from(host);
        name.is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

/// A client's certificate, which was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject alternative names: `URI:spiffe://…` and `DNS:…`. The common name never counts.
    pub names: Vec<String>,
    /// It is valid until then.
    pub not_after: SystemTime,
    /// Cancelled once its connection has to end, because it is valid no more or its authority is trusted no more.
    pub over: CancellationToken,
}

impl ClientCertificate {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, not_after) = pem::validity(certificate)?;
        let leaf = EndEntityCert::try_from(certificate).ok()?;
        let uris = leaf.valid_uri_names().map(|name| format!("URI:{name}"));
        let names = uris.chain(leaf.valid_dns_names().map(|name| format!("DNS:{name}"))).collect();
        Some(Self { names, not_after, over: CancellationToken::new() })
    }
}

/// What clients are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCa {
    roots: Vec<CertificateDer<'static>>,
    required: bool,
}

impl ClientCa {
    /// The authorities of a PEM file; `required` where a client must have a certificate of one of them.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn given(bytes: &[u8], required: bool) -> Result<Self, TlsError> {
        Ok(Self { roots: pem::certificates(bytes)?, required })
    }

    /// When the first of them ends to be valid.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.roots.iter().filter_map(|root| pem::validity(root)).map(|(_, end)| end).min()
    }
}

/// The keys of a node, for connections of clients.
#[derive(Debug)]
pub struct ClientTls {
    now: ArcSwap<Now>,
}

#[derive(Debug)]
struct Now {
    config: Arc<ServerConfig>,
    ca: Option<ClientCa>,
    valid: Option<(SystemTime, SystemTime)>,
    /// Ends connections once the authorities of clients are others.
    ends: CancellationToken,
}

impl ClientTls {
    /// Shows this certificate, and asks for one of these authorities.
    ///
    /// # Errors
    /// The key is not the certificate's, or rustls takes them not.
    pub fn new(identity: ServerIdentity, ca: Option<ClientCa>) -> Result<Self, TlsError> {
        Ok(Self { now: ArcSwap::from_pointee(Now::new(identity, ca, CancellationToken::new())?) })
    }

    /// Shows another from now on; sessions are forgotten. Where the authorities of clients are others, connections end
    /// after the request in hand.
    ///
    /// # Errors
    /// As [`new`](Self::new); all is then as it was.
    pub fn replace(&self, identity: ServerIdentity, ca: Option<ClientCa>) -> Result<(), TlsError> {
        let before = self.now.load_full();
        let is_other = before.ca != ca;
        let ends = if is_other { CancellationToken::new() } else { before.ends.clone() };
        self.now.store(Arc::new(Now::new(identity, ca, ends)?));
        if is_other {
            before.ends.cancel();
        }
        Ok(())
    }

    /// When the certificate begins and ends to be valid; `None` where that cannot be told.
    pub fn valid(&self) -> Option<(SystemTime, SystemTime)> {
        self.now.load().valid
    }

    pub(super) fn now(&self) -> (Arc<ServerConfig>, CancellationToken) {
        let now = self.now.load();
        (now.config.clone(), now.ends.clone())
    }
}

impl Now {
    fn new(identity: ServerIdentity, ca: Option<ClientCa>, ends: CancellationToken) -> Result<Self, TlsError> {
        let valid = identity.validity();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])?;
        let builder = match &ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for root in &ca.roots {
                    roots.add(root.clone())?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = if ca.required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::Given(error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(identity.chain, identity.key)?;
        config.alpn_protocols = vec![HTTP2_PROTOCOL.to_vec(), CLIENT_PROTOCOL.to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
        Ok(Self { config: Arc::new(config), ca, valid, ends })
    }
}
