//! What a node trusts and shows to other nodes, replaced while it runs.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use webpki::KeyUsage;

use super::authority::{Authority, Kind, Leaf};
use super::complaints::Complaints;
use super::verify::{PeerIdentity, PeerVerifier};
use super::{PEER_PROTOCOL, TlsError, provider};
use crate::secret::{ClusterSecret, SecretId};

/// Connections that follow from a deleted secret end after this: by then each node has long opened others, and what was
/// under way is done.
const DELETED_GRACE: Duration = Duration::from_secs(7);

/// An address that did not speak TLS is dialled in plain text for so long, while nodes migrate.
const PLAIN_REMEMBERED: Duration = Duration::from_secs(10);

/// Addresses of nodes that are remembered.
const MAX_KNOWN: usize = 4096;

/// The keys of a node, for connections with other nodes. Clones share nothing: hold it in an [`Arc`].
#[derive(Debug)]
pub struct PeerTls {
    now: ArcSwap<Now>,
    /// Serialises changes of `now`.
    changing: Mutex<()>,
    /// Changes whenever connections should be opened anew.
    generation: Arc<AtomicU64>,
    /// Plain text is spoken with those who know nothing else.
    optional: bool,
    /// Ends the connections that follow from a secret.
    ends: Mutex<HashMap<SecretId, CancellationToken>>,
    seen: Mutex<Seen>,
    pub(super) complaints: Complaints,
}

#[derive(Debug, Default)]
struct Seen {
    /// How often it was forgotten who speaks TLS.
    era: u64,
    /// Addresses from which a node came, or at which one was.
    addresses: HashSet<IpAddr>,
    /// Raft ids that were seen over TLS.
    raft_ids: HashSet<u64>,
    /// Addresses, as dialled, that do not speak TLS.
    plain: HashMap<String, SeenPlain>,
}

/// An address that spoke no TLS.
#[derive(Debug)]
struct SeenPlain {
    since: Instant,
    /// Ends the connections that were made to it in plain text since then, unasked.
    believed: Option<CancellationToken>,
}

/// What holds at a time.
#[derive(Debug)]
pub(super) struct Now {
    authorities: Arc<Vec<Authority>>,
    raft_id: u64,
    verifier: Arc<PeerVerifier>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

impl PeerTls {
    /// The keys that follow from these secrets, of which the first issues, for the node of this Raft id.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(secrets: &[ClusterSecret], raft_id: u64, optional: bool) -> Result<Self, TlsError> {
        let now = Now::new(authorities(secrets)?, raft_id)?;
        Ok(Self {
            now: ArcSwap::from_pointee(now),
            changing: Mutex::default(),
            generation: Arc::default(),
            optional,
            ends: Mutex::default(),
            seen: Mutex::default(),
            complaints: Complaints::default(),
        })
    }

    /// Trusts these secrets from now on, and no others; the first issues. Connections that follow from one that is gone end
    /// within 10 s.
    ///
    /// # Errors
    /// See [`TlsError`]; all is then as it was.
    pub fn replace(self: &Arc<Self>, secrets: &[ClusterSecret]) -> Result<(), TlsError> {
        let _changing = self.changing.lock();
        let before = self.now.load_full();
        let now = Now::new(authorities(secrets)?, before.raft_id)?;
        let (were, are) = (before.secrets(), now.secrets());
        self.now.store(Arc::new(now));
        let deleted: Vec<SecretId> = were.iter().filter(|id| !are.contains(id)).copied().collect();
        if were.first() != are.first() || !deleted.is_empty() {
            self.generation.fetch_add(1, Ordering::Release);
        }
        let mut ends = self.ends.lock();
        let ending: Vec<CancellationToken> = deleted.iter().filter_map(|id| ends.remove(id)).collect();
        drop(ends);
        if !ending.is_empty() {
            tokio::spawn(async move {
                tokio::time::sleep(DELETED_GRACE).await;
                ending.iter().for_each(CancellationToken::cancel);
            });
        }
        Ok(())
    }

    /// Shows this Raft id from now on.
    ///
    /// # Errors
    /// See [`TlsError`]; all is then as it was.
    pub fn speak_for(&self, raft_id: u64) -> Result<(), TlsError> {
        if self.now.load().raft_id == raft_id {
            return Ok(());
        }
        let _changing = self.changing.lock();
        let before = self.now.load_full();
        let now = Now::new(before.authorities.clone(), raft_id)?;
        self.now.store(Arc::new(now));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Changes whenever connections should be opened anew, because this node shows another certificate.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Public fingerprints of the secrets that are trusted; the first issues.
    pub fn secrets(&self) -> Vec<SecretId> {
        self.now.load().secrets()
    }

    /// True while nodes migrate: plain text is spoken with those who know nothing else.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// Forgets who was seen over TLS, and who was not: the operator says that some go back to plain text.
    pub fn forget_seen(&self) {
        let mut seen = self.seen.lock();
        (seen.raft_ids, seen.plain) = Default::default();
        seen.era += 1;
    }

    /// For [`admit`](Self::admit), as a handshake begins.
    pub(super) fn seen_era(&self) -> u64 {
        self.seen.lock().era
    }

    pub(super) fn now(&self) -> Arc<Now> {
        self.now.load_full()
    }

    /// The node that showed a certificate, as far as it is trusted now, and what ends its connections. A secret that was
    /// deleted during the handshake is none. `era`: when the handshake began. One of before the operator's word says nothing
    /// of how the node speaks now: its process may have ended meanwhile.
    pub(super) fn admit(
        &self,
        certificates: Option<&[CertificateDer<'static>]>,
        usage: KeyUsage,
        address: Option<IpAddr>,
        era: u64,
    ) -> Option<(PeerIdentity, CancellationToken)> {
        // Its order to a change: who is admitted here is found by the change, or finds it.
        let mut ends = self.ends.lock();
        let peer = self.now.load().verifier.identify(certificates?.first()?, usage).ok()?;
        let end = ends.entry(peer.secret).or_default().child_token();
        drop(ends);
        let mut seen = self.seen.lock();
        if seen.addresses.len() < MAX_KNOWN {
            seen.addresses.extend(address);
        }
        // A connection in plain text that was made to it before is left for one under TLS.
        let is_news = seen.era == era && seen.raft_ids.len() < MAX_KNOWN && seen.raft_ids.insert(peer.raft_id);
        if is_news && self.optional {
            self.generation.fetch_add(1, Ordering::Release);
        }
        Some((peer, end))
    }

    /// True for an address from which a node came, or at which one was.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        self.seen.lock().addresses.contains(&address)
    }

    /// Where an address, as dialled, was found to speak no TLS a moment ago: plain text may be spoken, until this ends. It may
    /// speak TLS by now; so others are dialled once that is forgotten, and what is under way has some time to end.
    pub fn plain_until(&self, address: &str, raft_id: Option<u64>) -> Option<CancellationToken> {
        let mut seen = self.seen.lock();
        if !self.optional || raft_id.is_some_and(|id| seen.raft_ids.contains(&id)) {
            return None;
        }
        let was = seen.plain.get_mut(address)?;
        let left = PLAIN_REMEMBERED.checked_sub(was.since.elapsed()).filter(|left| !left.is_zero())?;
        let until = was.believed.get_or_insert_with(|| {
            let (until, generation) = (CancellationToken::new(), self.generation.clone());
            let ends = until.clone();
            tokio::spawn(async move {
                tokio::time::sleep(left).await;
                generation.fetch_add(1, Ordering::Release);
                tokio::time::sleep(DELETED_GRACE).await;
                ends.cancel();
            });
            until
        });
        Some(until.clone())
    }

    /// An address spoke no TLS: true where plain text may be spoken instead.
    pub fn note_plain(&self, address: &str, raft_id: Option<u64>) -> bool {
        let mut seen = self.seen.lock();
        if !self.optional || raft_id.is_some_and(|id| seen.raft_ids.contains(&id)) {
            return false;
        }
        seen.plain.retain(|_, was| was.since.elapsed() < PLAIN_REMEMBERED);
        if seen.plain.len() < MAX_KNOWN {
            seen.plain.insert(address.to_owned(), SeenPlain { since: Instant::now(), believed: None });
        }
        true
    }

    /// The fingerprints in words.
    pub(super) fn own(&self) -> String {
        let all: Vec<String> = self.secrets().iter().map(ToString::to_string).collect();
        all.join(" and ")
    }
}

fn authorities(secrets: &[ClusterSecret]) -> Result<Arc<Vec<Authority>>, TlsError> {
    secrets.iter().map(|secret| Authority::of(secret, Kind::Peers)).collect::<Result<_, _>>().map(Arc::new)
}

impl Now {
    fn new(authorities: Arc<Vec<Authority>>, raft_id: u64) -> Result<Self, TlsError> {
        let verifier = Arc::new(PeerVerifier::new(&authorities));
        let leaf = authorities.first().ok_or(TlsError::Key)?.peer(raft_id)?;
        let (server, client) = configs(leaf, &verifier)?;
        Ok(Self { authorities, raft_id, verifier, server, client })
    }

    fn secrets(&self) -> Vec<SecretId> {
        self.authorities.iter().map(Authority::secret).collect()
    }
}

fn configs(leaf: Leaf, verifier: &Arc<PeerVerifier>) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), TlsError> {
    let chain = vec![leaf.certificate];
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(chain.clone(), leaf.key.clone_key())?;
    server.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
    // A session that is taken up again is not verified again.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_auth_cert(chain, leaf.key)?;
    client.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    Ok((Arc::new(server), Arc::new(client)))
}
