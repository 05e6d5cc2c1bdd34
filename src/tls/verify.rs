//! Who is a node: a certificate of an authority that is trusted, looked at in both directions alike.
//!
//! Validity is checked at a fixed instant, so that no node's clock counts; what ends a certificate is that its secret is
//! deleted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use super::authority::{Authority, Kind, PEER_NAME, RAFT_ID_PREFIX};
use super::provider;
use crate::secret::SecretId;

/// 2030-01-01: within the validity of all authorities and leaves.
const INSTANT: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_893_456_000));

/// What nodes sign with.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[webpki::ring::ECDSA_P256_SHA256];

/// The node at the other end of a connection, by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its Raft id.
    pub raft_id: u64,
    /// The secret that its certificate follows from.
    pub secret: SecretId,
}

/// Verifies nodes, as clients and as servers.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    authorities: Vec<(SecretId, TrustAnchor<'static>)>,
}

/// Why a certificate is none of a node of this cluster. Both sides may log it: it has public fingerprints only.
#[derive(Debug)]
pub(super) struct Stranger {
    why: String,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Stranger {}

impl PeerVerifier {
    pub(super) fn new(authorities: &[Authority]) -> Self {
        Self { authorities: authorities.iter().map(|one| (one.secret(), one.anchor())).collect() }
    }

    /// The node that a certificate is of.
    ///
    /// # Errors
    /// [`Stranger`], as rustls has it.
    pub(super) fn identify(
        &self,
        certificate: &CertificateDer<'_>,
        usage: impl webpki::ExtendedKeyUsageValidator,
    ) -> Result<PeerIdentity, Error> {
        let stranger = |why: String| {
            let why = OtherError(Arc::new(Stranger { why }));
            Error::InvalidCertificate(CertificateError::Other(why))
        };
        let leaf = EndEntityCert::try_from(certificate).map_err(|_| stranger("no certificate of a node".to_owned()))?;
        let anchors: Vec<TrustAnchor<'_>> = self.authorities.iter().map(|(_, anchor)| anchor.clone()).collect();
        let path = leaf.verify_for_usage(ALGORITHMS, &anchors, &[], INSTANT, usage, None, None);
        let path = path.map_err(|error| match told_secret(leaf.issuer()) {
            Some(other) => stranger(format!("a certificate of the cluster secret {other} ({error})")),
            None => stranger(format!("a certificate of no cluster secret ({error})")),
        })?;
        if !leaf.valid_dns_names().any(|name| name == PEER_NAME) {
            return Err(stranger("a certificate without the name of a node".to_owned()));
        }
        let raft_id = leaf.valid_uri_names().find_map(|uri| uri.strip_prefix(RAFT_ID_PREFIX)?.parse().ok());
        let raft_id = raft_id.ok_or_else(|| stranger("a certificate without a Raft id".to_owned()))?;
        let anchor = &path.anchor().subject;
        let secret = self.authorities.iter().find(|(_, one)| one.subject == *anchor).map(|(id, _)| *id);
        let secret = secret.ok_or_else(|| stranger("a certificate of no cluster secret".to_owned()))?;
        Ok(PeerIdentity { raft_id, secret })
    }

    fn schemes() -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// The fingerprint in an issuer's name: what the other side says, whoever it is.
fn told_secret(issuer: &[u8]) -> Option<&str> {
    let prefix = Kind::Peers.subject();
    let text = std::str::from_utf8(issuer.get(issuer.windows(prefix.len()).position(|at| at == prefix.as_bytes())?..)?);
    let id = text.ok()?.get(prefix.len()..prefix.len() + 16)?;
    id.bytes().all(|c| c.is_ascii_hexdigit()).then_some(id)
}

fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

/// Nodes speak TLS 1.3 alone.
fn no_tls12() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.identify(end_entity, KeyUsage::server_auth()).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.identify(end_entity, KeyUsage::client_auth()).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}
