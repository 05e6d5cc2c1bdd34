//! Secrets and certificates: reads their files, and again while the node runs.
//!
//! At start a file that cannot be used is the end (78). Later what was is kept, and a warning says why.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use super::failure;
use super::reload::{Reloads, Why};
use crate::api::Sessions;
use crate::config::{Config, NamedFile, TlsCertificate, TlsSettings};
use crate::exit::Exit;
use crate::observe::{Certificate, SecurityFault, SecurityNumbers};
use crate::secret::{Access, ClusterSecret, FileError, FileWatch, SessionKey, parse_list};
use crate::tls::{Authority, ClientCa, ClientTls, Door, DoorLimits, Kind, Open, PeerTls, ServerIdentity, TlsError};

/// A certificate that follows from the cluster secret is renewed after this.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A certificate that is valid for fewer days, or for less than a third of its time, is warned of.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a node trusts and shows; nothing where it has no cluster secret.
#[derive(Debug, Default)]
pub(super) struct Security {
    /// For other nodes.
    pub(super) peers: Option<Arc<PeerTls>>,
    /// For clients.
    pub(super) clients: Option<Arc<ClientTls>>,
    /// For browsers.
    pub(super) sessions: Sessions,
    /// What all of it counts, and what is wrong with it.
    pub(super) numbers: Arc<SecurityNumbers>,
    plain_too: bool,
}

impl Security {
    /// Reads all files, and has `reloads` read them again.
    ///
    /// # Errors
    /// 78: a file cannot be used.
    pub(super) fn open(config: &Config, reloads: &Reloads, numbers: &Arc<SecurityNumbers>) -> Result<Self, Exit> {
        if config.root_tokens.is_some() && config.security.tls.is_none() && !config.http_bind.is_loopback() {
            numbers.tokens_in_clear();
        }
        let Some(file) = &config.security.cluster_secret else {
            let what = "its Raft port can be reached from other machines, and there is no cluster secret: who connects \
                        can read and write everything; see --cluster-secret-file";
            let is_open = !config.raft_bind.is_loopback();
            numbers.fault(SecurityFault::OpenRaftPort, is_open.then(|| what.to_owned()));
            return Ok(Self { numbers: numbers.clone(), ..Self::default() });
        };
        let bad = |why: String| Exit::config(format!("{}: {why}", file.label));
        let (watch, contents) = watch(&[(file, Access::Private)]).map_err(Exit::config)?;
        let secrets = secrets_of(&contents).map_err(|error| bad(error.to_string()))?;
        let fault = |error: TlsError| failure(error.to_string());
        // The Raft id is shown once it is known.
        let peers = PeerTls::new(&secrets, 0, config.security.cluster_secret_optional).map_err(fault)?;
        let peers = Arc::new(peers);
        let authority = Arc::new(ArcSwap::from_pointee(clients_authority(&secrets).map_err(fault)?));
        let sessions = Sessions::new(session_keys(&secrets));
        let following = (peers.clone(), authority.clone(), sessions.clone(), numbers.clone());
        reloads.add(read_secrets(watch, file.label.clone(), following));
        let ids: Vec<String> = peers.secrets().iter().map(ToString::to_string).collect();
        numbers.trusts(ids.clone());
        tracing::info!("nodes speak TLS; this one has the cluster secret {}", ids.join(" and "));
        if peers.is_optional() {
            tracing::warn!("--cluster-secret-optional: nodes without a cluster secret still get in, as anybody does");
        }
        let mut security =
            Self { peers: Some(peers), clients: None, sessions, numbers: numbers.clone(), plain_too: false };
        if let Some(tls) = &config.security.tls {
            security.clients = Some(clients(config, tls, authority, reloads, numbers)?);
            security.plain_too = tls.optional;
            if tls.optional {
                tracing::warn!("--tls-optional: clients that speak plain HTTP are still answered");
            }
        }
        Ok(security)
    }

    /// The door of the Raft port. Handshakes run on `threads`.
    pub(super) fn raft_door(&self, threads: Vec<Handle>) -> Option<Arc<Door>> {
        let peers = self.peers.clone()?;
        Some(Arc::new(Door::new(Open::Nodes(peers), DoorLimits::RAFT, threads, self.numbers.clone())))
    }

    /// The door of the client port; `idle`: how long a client that speaks plain text may say nothing.
    pub(super) fn client_door(&self, idle: Duration) -> Option<Arc<Door>> {
        let (nodes, tls, plain_too) = (self.peers.clone()?, self.clients.clone(), self.plain_too);
        let mut limits = DoorLimits::CLIENTS;
        if tls.is_none() || plain_too {
            limits.first_byte = idle;
        }
        // It is served by clients' threads.
        Some(Arc::new(Door::new(Open::Clients { nodes, tls, plain_too }, limits, Vec::new(), self.numbers.clone())))
    }

    /// `http` or `https`: what clients speak.
    pub(super) fn scheme(&self) -> &'static str {
        if self.clients.is_some() { "https" } else { "http" }
    }
}

type Contents = Vec<zeroize::Zeroizing<Vec<u8>>>;

/// Reads these files together, for the first time.
fn watch(files: &[(&NamedFile, Access)]) -> Result<(FileWatch, Contents), String> {
    let all = files.iter().map(|(file, access)| (file.path.clone(), *access)).collect();
    FileWatch::open(all).map_err(|error| told(files, &error))
}

/// An error of one of these files, with its flag.
fn told(files: &[(&NamedFile, Access)], (path, error): &(PathBuf, FileError)) -> String {
    let label = files.iter().find(|(file, _)| file.path == *path).map_or("", |(file, _)| &file.label);
    format!("{label}: {error}")
}

fn secrets_of(contents: &[zeroize::Zeroizing<Vec<u8>>]) -> Result<Vec<ClusterSecret>, FileError> {
    parse_list(contents.first().map_or(&[][..], |bytes| bytes))
}

fn clients_authority(secrets: &[ClusterSecret]) -> Result<Authority, TlsError> {
    Authority::of(secrets.first().ok_or(TlsError::Key)?, Kind::Clients)
}

fn session_keys(secrets: &[ClusterSecret]) -> Vec<SessionKey> {
    secrets.iter().map(SessionKey::of).collect()
}

/// Takes in secrets that have changed.
fn read_secrets(
    mut watch: FileWatch,
    label: String,
    (peers, authority, sessions, numbers): (Arc<PeerTls>, Arc<ArcSwap<Authority>>, Sessions, Arc<SecurityNumbers>),
) -> impl FnMut(Why) + Send {
    move |why| {
        let Some(read) = look(&mut watch, why) else { return };
        if why == Why::Signal && peers.is_optional() {
            peers.forget_seen();
        }
        let secrets = read.map_err(|(_, error)| error.to_string());
        let secrets = secrets.and_then(|contents| secrets_of(&contents).map_err(|error| error.to_string()));
        let done = secrets.and_then(|secrets| {
            let clients = clients_authority(&secrets).map_err(|error| error.to_string())?;
            peers.replace(&secrets).map_err(|error| error.to_string())?;
            authority.store(Arc::new(clients));
            sessions.replace(session_keys(&secrets));
            Ok(())
        });
        let ids: Vec<String> = peers.secrets().iter().map(ToString::to_string).collect();
        numbers.trusts(ids.clone());
        match &done {
            Ok(()) => tracing::info!("the cluster secrets are now {}; the first issues", ids.join(" and ")),
            Err(error) => tracing::warn!("{label}: {error}; the cluster secrets are still {}", ids.join(" and ")),
        }
        numbers.fault(
            SecurityFault::Secrets,
            done.err().map(|error| format!("{label}: {error}; the secrets stay as they were")),
        );
    }
}

fn look(watch: &mut FileWatch, why: Why) -> Option<Result<Contents, (PathBuf, FileError)>> {
    match why {
        Why::Time => watch.look(),
        Why::Signal => Some(watch.read_now()),
    }
}

fn clients(
    config: &Config,
    tls: &TlsSettings,
    authority: Arc<ArcSwap<Authority>>,
    reloads: &Reloads,
    numbers: &Arc<SecurityNumbers>,
) -> Result<Arc<ClientTls>, Exit> {
    let mut files = Vec::new();
    if let TlsCertificate::Files { cert, key } = &tls.certificate {
        files.extend([(cert.clone(), Access::Public), (key.clone(), Access::Private)]);
    }
    files.extend(tls.client_ca.iter().map(|ca| (ca.clone(), Access::Public)));
    let source = Source {
        files,
        hosts: hosts(config, tls),
        client_required: tls.client_required,
        has_ca: tls.client_ca.is_some(),
        authority,
    };
    let by_ref: Vec<_> = source.files.iter().map(|(file, access)| (file, *access)).collect();
    let (mut watch, mut contents) = watch(&by_ref).map_err(Exit::config)?;
    let (identity, ca) = source.read(&contents).map_err(Exit::config)?;
    for line in source.warnings(&identity) {
        tracing::warn!("{line}");
    }
    source.note(numbers, &identity, ca.as_ref());
    let clients = ClientTls::new(identity, ca).map_err(|error| Exit::config(source.says(&error)))?;
    let clients = Arc::new(clients);
    let (told, numbers) = (clients.clone(), numbers.clone());
    let (mut issued, mut issued_by) = (SystemTime::now(), source.authority.load().secret());
    reloads.add(move |why| {
        let is_auto = source.hosts.is_some();
        let now = SystemTime::now();
        // A clock that was put right counts, too.
        let age = now.duration_since(issued).unwrap_or_else(|error| error.duration());
        let by = source.authority.load().secret();
        let is_due = is_auto && (age >= RENEW_AFTER || by != issued_by);
        let read = look(&mut watch, why);
        if read.is_none() && !is_due {
            // Time alone brings its end near.
            numbers.fault(SecurityFault::Certificate, source.warning(clients.valid(), now));
            numbers
                .fault(SecurityFault::ClientCa, source.ca_warning(numbers.ends()[Certificate::ClientCa as usize], now));
            return;
        }
        let files: Vec<_> = source.files.iter().map(|(file, access)| (file, *access)).collect();
        let done = match read {
            None => Ok(()),
            Some(Ok(new)) => {
                contents = new;
                Ok(())
            }
            Some(Err(error)) => Err(self::told(&files, &error)),
        };
        let done = done.and_then(|()| source.read(&contents)).and_then(|(identity, ca)| {
            let warnings = source.warnings(&identity);
            if !is_auto && identity.validity().is_some_and(|(begin, end)| now < begin || end <= now) {
                return Err(format!("{}; the certificate that was is kept", warnings.join("; ")));
            }
            let numbers_of = (identity.validity(), ca.as_ref().and_then(ClientCa::not_after));
            clients.replace(identity, ca).map_err(|error| source.says(&error))?;
            source.note_ends(&numbers, numbers_of);
            Ok(warnings)
        });
        (issued, issued_by) = (now, by);
        let fault = done.as_ref().err().map(|error| format!("{error}; clients are shown the certificate that was"));
        numbers.fault(SecurityFault::CertificateFiles, fault);
        match done {
            Ok(warnings) => {
                tracing::info!("clients are shown a new certificate");
                warnings.iter().for_each(|line| tracing::warn!("{line}"));
            }
            Err(error) => tracing::warn!("{error}; clients are shown the certificate that was"),
        }
    });
    Ok(told)
}

/// The origin of the certificate that clients are shown.
struct Source {
    /// The certificate and the key, unless it follows from the cluster secret; then the clients' authorities, if any.
    files: Vec<(NamedFile, Access)>,
    /// The hosts of a certificate that follows from the cluster secret.
    hosts: Option<Vec<String>>,
    client_required: bool,
    has_ca: bool,
    authority: Arc<ArcSwap<Authority>>,
}

impl Source {
    fn read(&self, contents: &[zeroize::Zeroizing<Vec<u8>>]) -> Result<(ServerIdentity, Option<ClientCa>), String> {
        let label = |at: usize| self.files.get(at).map_or("", |(file, _)| &file.label);
        let bytes = |at: usize| contents.get(at).map_or(&[][..], |bytes| bytes);
        let (identity, ca_at) = match &self.hosts {
            Some(hosts) => {
                let issued = ServerIdentity::issued(&self.authority.load(), hosts, SystemTime::now());
                (issued.map_err(|error| format!("--tls-auto: {error}"))?, 0)
            }
            None => {
                let given = ServerIdentity::given(bytes(0), bytes(1));
                (given.map_err(|(is_key, error)| format!("{}: {error}", label(usize::from(is_key))))?, 2)
            }
        };
        let ca = self.has_ca.then(|| ClientCa::given(bytes(ca_at), self.client_required)).transpose();
        Ok((identity, ca.map_err(|error| format!("{}: {error}", label(ca_at)))?))
    }

    /// Why the certificate, the key and the authorities cannot be used together.
    fn says(&self, error: &TlsError) -> String {
        let labels: Vec<&str> = self.files.iter().map(|(file, _)| file.label.as_str()).collect();
        match error {
            TlsError::Tls(rustls::Error::InconsistentKeys(_)) => {
                format!("{}: the key is not the certificate's", labels.join(" and "))
            }
            error => format!("{}: {error}", labels.join(" and ")),
        }
    }

    /// What clients may refuse.
    fn warnings(&self, identity: &ServerIdentity) -> Vec<String> {
        self.warning(identity.validity(), SystemTime::now()).into_iter().collect()
    }

    /// Why clients may refuse a certificate that is valid for this time.
    fn warning(&self, valid: Option<(SystemTime, SystemTime)>, now: SystemTime) -> Option<String> {
        let label = self.files.first().filter(|_| self.hosts.is_none()).map_or("--tls-auto", |(file, _)| &file.label);
        let (begin, end) = valid?;
        let Ok(left) = end.duration_since(now) else {
            return Some(format!("{label}: the certificate has expired: clients refuse it"));
        };
        if begin > now {
            return Some(format!("{label}: the certificate is not valid yet: clients refuse it"));
        }
        let third = end.duration_since(begin).unwrap_or_default() / 3;
        let is_short = self.hosts.is_none() && left < WARN_BEFORE.min(third);
        is_short.then(|| format!("{label}: the certificate expires in {} days", left.as_secs() / 86_400))
    }

    /// Why the authority of clients' certificates, which ends then (0: there is none), is not good, or not for long.
    fn ca_warning(&self, end: i64, now: SystemTime) -> Option<String> {
        let (NamedFile { label, .. }, _) = self.files.last()?;
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).ok().filter(|end| *end > 0)?);
        match end.duration_since(now) {
            Err(_) => {
                Some(format!("{label}: an authority has expired: certificates of clients that it issued are refused"))
            }
            Ok(left) if left < WARN_BEFORE => {
                Some(format!("{label}: an authority expires in {} days", left.as_secs() / 86_400))
            }
            Ok(_) => None,
        }
    }

    /// Has the metrics tell when these end, and `cluster` that it is soon.
    fn note(&self, numbers: &SecurityNumbers, identity: &ServerIdentity, ca: Option<&ClientCa>) {
        self.note_ends(numbers, (identity.validity(), ca.and_then(ClientCa::not_after)));
    }

    fn note_ends(
        &self,
        numbers: &SecurityNumbers,
        (valid, ca): (Option<(SystemTime, SystemTime)>, Option<SystemTime>),
    ) {
        let seconds = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        numbers.certificate_ends(Certificate::Server, valid.map_or(0, |(_, end)| seconds(end)));
        let (ca_end, now) = (ca.map_or(0, seconds), SystemTime::now());
        numbers.certificate_ends(Certificate::ClientCa, ca_end);
        numbers.fault(SecurityFault::Certificate, self.warning(valid, now));
        numbers.fault(SecurityFault::ClientCa, self.ca_warning(ca_end, now));
    }
}

/// The hosts by which clients call this node; `None` where the certificate is the operator's.
fn hosts(config: &Config, tls: &TlsSettings) -> Option<Vec<String>> {
    let TlsCertificate::Auto(names) = &tls.certificate else { return None };
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let told = [config.public_id.haddr.host.clone()].into_iter().chain(config.http_bind.host.clone());
    let usual = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut hosts = Vec::new();
    for host in told.chain([own]).chain(usual).chain(names.iter().cloned()) {
        let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
        let is_any = host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified());
        let is_name = rustls::pki_types::ServerName::try_from(host.as_str()).is_ok();
        if is_name && !is_any && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Some(hosts)
}
