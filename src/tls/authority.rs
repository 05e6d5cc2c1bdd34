//! The authorities that follow from a cluster secret, and the certificates that they issue.
//!
//! Every node makes the same keys and the same certificates, byte for byte: there is nothing to hand out, to store or to
//! lose. A golden vector keeps it so.

use std::time::Duration;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::bigint::{NonZero, U256, U384};
use p256::elliptic_curve::{Curve, sec1::ToEncodedPoint};
use p256::pkcs8::EncodePrivateKey;
use p256::{NistP256, SecretKey};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::TlsError;
use crate::secret::{ClusterSecret, SecretId, random};

/// Bytes that a scalar is made of: so many more than it has that none is more likely than another (FIPS 186-5, A.2.1).
const SCALAR_BYTES: usize = 48;

/// Whom an authority vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nodes, to one another.
    Peers,
    /// Nodes, to clients.
    Clients,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Peers => "hraftd/v1/peers",
            Self::Clients => "hraftd/v1/clients",
        }
    }

    /// What the subject of the authority begins with; the fingerprint of its secret follows.
    pub(super) fn subject(self) -> &'static str {
        match self {
            Self::Peers => "hraftd peers ",
            Self::Clients => "hraftd clients ",
        }
    }
}

/// An authority, with its key.
pub struct Authority {
    secret: SecretId,
    issuer: Issuer<'static, Key>,
    certificate: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
}

/// A certificate and its key, as rustls takes them.
pub struct Leaf {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// A P-256 key whose signatures are the same each time (RFC 6979).
struct Key {
    signing: SigningKey,
    public: Vec<u8>,
}

impl Key {
    /// The key whose scalar is these bytes modulo n − 1, plus one.
    fn from_bytes(bytes: &[u8; SCALAR_BYTES]) -> Result<(Self, SecretKey), TlsError> {
        let most: U384 = NistP256::ORDER.wrapping_sub(&U256::ONE).resize();
        let most = Option::from(NonZero::new(most)).ok_or(TlsError::Key)?;
        let scalar: U256 = U384::from_be_slice(bytes).rem(&most).wrapping_add(&U384::ONE).resize();
        let bytes = Zeroizing::new(p256::elliptic_curve::bigint::Encoding::to_be_bytes(&scalar));
        let secret = SecretKey::from_slice(&*bytes).map_err(|_| TlsError::Key)?;
        let public = secret.public_key().to_encoded_point(false).as_bytes().to_vec();
        Ok((Self { signing: SigningKey::from(&secret), public }, secret))
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self.signing.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// The first bytes of the hash of a public key.
fn hash_of<const N: usize>(public: &[u8]) -> [u8; N] {
    let hash = Sha256::digest(public);
    std::array::from_fn(|at| hash[at])
}

/// A positive serial number.
fn serial(mut bytes: [u8; 16]) -> SerialNumber {
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

impl Authority {
    /// The authority of this kind that follows from a secret.
    ///
    /// # Errors
    /// A fault of this program.
    pub fn of(secret: &ClusterSecret, kind: Kind) -> Result<Self, TlsError> {
        let mut bytes = Zeroizing::new([0; SCALAR_BYTES]);
        secret.derive(kind.label(), &mut *bytes);
        let (key, _) = Key::from_bytes(&bytes)?;
        let id = secret.id();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("{}{id}", kind.subject()));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2049, 12, 31);
        params.serial_number = Some(serial(hash_of(&key.public)));
        params.key_identifier_method = KeyIdMethod::PreSpecified(hash_of::<20>(&key.public).to_vec());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.der().clone();
        let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|_| TlsError::Key)?.to_owned();
        Ok(Self { secret: id, issuer: Issuer::new(params, key), certificate, anchor })
    }

    /// The secret that it follows from.
    pub fn secret(&self) -> SecretId {
        self.secret
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// It, as what is trusted.
    pub(super) fn anchor(&self) -> TrustAnchor<'static> {
        self.anchor.clone()
    }

    /// A leaf for a node to show to others. It is valid for as long as the authority: between nodes no clock counts.
    ///
    /// # Errors
    /// No random bytes, or a fault of this program.
    pub(super) fn peer(&self, raft_id: u64) -> Result<Leaf, TlsError> {
        let mut params = CertificateParams::default();
        let uri = Ia5String::try_from(format!("{RAFT_ID_PREFIX}{raft_id}"))?;
        params.subject_alt_names = vec![SanType::DnsName(PEER_NAME.try_into()?), SanType::URI(uri)];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2049, 12, 31);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, &format!("hraftd node of {}", self.secret))
    }

    /// A leaf for a node to show to clients, for these hosts: valid from a day before now for 30 days.
    ///
    /// # Errors
    /// A host that is neither a name nor an address, no random bytes, or a fault of this program.
    pub(super) fn server(&self, hosts: &[String], unix_seconds: u64) -> Result<Leaf, TlsError> {
        let mut params = CertificateParams::default();
        for host in hosts {
            let name = match host.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            };
            params.subject_alt_names.push(name);
        }
        let begin = unix_seconds.saturating_sub(SERVER_LEAF_BEFORE.as_secs());
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(begin);
        params.not_after = params.not_before + SERVER_LEAF_BEFORE + SERVER_LEAF_VALID;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, "hraftd")
    }

    fn issue(&self, mut params: CertificateParams, name: &str) -> Result<Leaf, TlsError> {
        let (key, secret) = Key::from_bytes(&*random()?)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial(*random()?));
        params.key_identifier_method = KeyIdMethod::PreSpecified(hash_of::<20>(&key.public).to_vec());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = secret.to_pkcs8_der().map_err(|_| TlsError::Key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()));
        Ok(Leaf { certificate, key })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// The one DNS name of all nodes' leaves: addresses are hints, so the dialled name is not compared.
pub(super) const PEER_NAME: &str = "peer.hraftd.internal";

/// What the URI of a leaf begins with; the Raft id of its node follows.
pub(super) const RAFT_ID_PREFIX: &str = "hraftd:raft:";

/// A leaf for clients is valid from so long ago: their clocks may be behind.
const SERVER_LEAF_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// So long it is valid from now on.
const SERVER_LEAF_VALID: Duration = Duration::from_secs(29 * 24 * 3600);

fn pem(what: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {what}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|c| char::from(*c)));
        pem.push('\n');
    }
    pem + &format!("-----END {what}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Generated;

    /// Bytes 0 to 31.
    const COUNTED: &str = "hrs_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypuvjm54q";

    fn hash(der: &[u8]) -> String {
        Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Nodes of all versions trust each other by these bytes: they may never change.
    #[test]
    fn certificates_are_what_they_always_were() {
        let secret = ClusterSecret::parse(COUNTED).unwrap();
        let peers = Authority::of(&secret, Kind::Peers).unwrap();
        let clients = Authority::of(&secret, Kind::Clients).unwrap();
        assert_eq!(peers.certificate(), Authority::of(&secret, Kind::Peers).unwrap().certificate());
        assert_eq!(hash(peers.certificate()), "8a59d9a58c899ba6e5749e67d2aea513b2d1708bb27136ca735f3ee7bffff7ab");
        assert_eq!(hash(clients.certificate()), "c7f66ad8f329432565e910dd7866710ebb9313535a17e12f967bd1bbc8be5699");
    }

    #[test]
    fn leaves_differ_each_time() {
        let authority = Authority::of(&ClusterSecret::generate().unwrap(), Kind::Peers).unwrap();
        let [a, b] = [0; 2].map(|_| authority.peer(7).unwrap());
        assert_ne!(a.certificate, b.certificate);
        assert_ne!(a.key.secret_der(), b.key.secret_der());
    }
}
