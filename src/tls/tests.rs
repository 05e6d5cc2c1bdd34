//! Handshakes between nodes over loopback.

use std::net::SocketAddr;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use webpki::KeyUsage;

use super::authority::PEER_NAME;
use super::verify::PeerVerifier;
use super::*;
use crate::secret::{ClusterSecret, Generated};

const PATIENCE: Duration = Duration::from_secs(30);

fn secrets<const N: usize>() -> [ClusterSecret; N] {
    [(); N].map(|()| ClusterSecret::generate().unwrap())
}

fn keys(secrets: &[ClusterSecret], raft_id: u64) -> Arc<PeerTls> {
    Arc::new(PeerTls::new(secrets, raft_id, false).unwrap())
}

/// A Raft port: its address, and what its door says of each connection.
async fn port(tls: &Arc<PeerTls>) -> (SocketAddr, mpsc::UnboundedReceiver<Option<Admitted>>) {
    port_within(tls, DoorLimits::RAFT).await
}

async fn port_within(
    tls: &Arc<PeerTls>,
    limits: DoorLimits,
) -> (SocketAddr, mpsc::UnboundedReceiver<Option<Admitted>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let threads = vec![tokio::runtime::Handle::current()];
    let door = Arc::new(Door::new(Open::Nodes(tls.clone()), limits, threads, Arc::default()));
    let (say, said) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            let (door, say) = (door.clone(), say.clone());
            tokio::spawn(async move { say.send(door.admit(stream, from).await) });
        }
    });
    (address, said)
}

async fn call(tls: &Arc<PeerTls>, at: SocketAddr, raft_id: Option<u64>) -> Result<PeerStream, DialError> {
    dial(tls, TcpStream::connect(at).await.unwrap(), raft_id).await
}

/// Issue 18: 600 half ClientHellos a second had new clients wait for 7 s.
#[tokio::test]
async fn half_first_words_keep_nobody_out() {
    let [secret] = secrets();
    let tls = keys(from_ref(&secret), 9);
    // Who has a handshake's place keeps it.
    let long = Duration::from_secs(3600);
    let handshakes = RoomLimits { places: 4, strangers: 4, grace: long };
    let limits = DoorLimits { handshakes, handshake: long, ..DoorLimits::RAFT };
    let (at, mut said) = port_within(&tls, limits).await;
    let mut half = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(&[HANDSHAKE, 3, 1, 2, 0, 1]).await.unwrap();
        half.push(stream);
    }
    let here = keys(from_ref(&secret), 7);
    let _stream = timeout(PATIENCE, call(&here, at, Some(9))).await.unwrap().unwrap();
    assert!(timeout(PATIENCE, said.recv()).await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn nodes_of_one_secret_know_each_other() {
    let [old, new] = secrets();
    let (here, there) = (keys(from_ref(&old), 7), keys(&[new, old.clone()], 9));
    // It shows a certificate of a secret that is not known here.
    assert!(call(&here, port(&there).await.0, None).await.is_err());
    there.replace(from_ref(&old)).unwrap();
    let (at, mut said) = port(&there).await;
    let mut stream = call(&here, at, Some(9)).await.unwrap();
    let mut admitted = said.recv().await.unwrap().unwrap();
    assert_eq!(admitted.peer, Some(PeerIdentity { raft_id: 7, secret: old.id() }));
    assert_eq!(stream.raft_id(), 9);
    stream.write_all(b"there").await.unwrap();
    stream.flush().await.unwrap();
    let mut bytes = [0; 5];
    admitted.wire.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"there");
    admitted.wire.write_all(b"back!").await.unwrap();
    admitted.wire.flush().await.unwrap();
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"back!");
    let another = call(&here, at, Some(8)).await.unwrap_err();
    assert!(matches!(another, DialError::AnotherNode { wanted: 8, found: 9 }));
}

#[tokio::test]
async fn a_node_of_another_secret_is_refused_in_words() {
    let [ours, others] = secrets();
    let (at, mut said) = port(&keys(from_ref(&ours), 1)).await;
    let refused = call(&keys(&[others], 2), at, None).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("a certificate of the cluster secret {}", ours.id())), "{refused}");
    assert!(said.recv().await.unwrap().is_none());
}

/// Trusts the port, and shows no certificate of its own, or one that it made itself.
fn intruder(trusted: &ClusterSecret, shows: Option<&ClusterSecret>) -> Arc<ClientConfig> {
    let authority = Authority::of(trusted, Kind::Peers).unwrap();
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(PeerVerifier::new(&[authority]));
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match shows.map(|secret| Authority::of(secret, Kind::Peers).unwrap().peer(3).unwrap()) {
        Some(leaf) => config.with_client_auth_cert(vec![leaf.certificate], leaf.key).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
    Arc::new(config)
}

type Raw = tokio_rustls::client::TlsStream<TcpStream>;

async fn raw(config: &Arc<ClientConfig>, at: SocketAddr) -> io::Result<Raw> {
    let name = ServerName::try_from(PEER_NAME).unwrap();
    TlsConnector::from(config.clone()).connect(name, TcpStream::connect(at).await?).await
}

#[tokio::test]
async fn a_certificate_is_asked_for_and_verified() {
    let [ours, others] = secrets();
    let (at, mut said) = port(&keys(from_ref(&ours), 1)).await;
    for shows in [None, Some(&others)] {
        // In TLS 1.3 the client is done before it is verified: what it sends then is read by nobody.
        if let Ok(mut stream) = raw(&intruder(&ours, shows), at).await {
            let _ = stream.write_all(b"POST /raft/v1/call HTTP/1.1\r\n\r\n").await;
            let heard = timeout(PATIENCE, stream.read_u8()).await.unwrap();
            assert!(heard.is_err(), "{heard:?}");
        }
        assert!(said.recv().await.unwrap().is_none());
    }
    assert!(raw(&intruder(&ours, Some(&ours)), at).await.is_ok());
    assert!(said.recv().await.unwrap().is_some());
}

/// A session that is taken up again would not be verified again.
#[tokio::test]
async fn no_session_is_taken_up_again() {
    let [ours] = secrets();
    let (at, _said) = port(&keys(from_ref(&ours), 1)).await;
    let config = intruder(&ours, Some(&ours));
    for _ in 0..3 {
        let mut stream = raw(&config, at).await.unwrap();
        // Tickets come with the first bytes.
        assert_eq!(stream.read_u8().await.unwrap(), WELCOME);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn plain_text_gets_a_plain_refusal_unless_nodes_migrate() {
    let [ours] = secrets();
    let optional = Arc::new(PeerTls::new(from_ref(&ours), 1, true).unwrap());
    for (tls, is_let_in) in [(keys(from_ref(&ours), 1), false), (optional.clone(), true)] {
        let (at, mut said) = port(&tls).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"POST /raft/v1/call HTTP/1.1\r\n\r\n").await.unwrap();
        if is_let_in {
            assert!(matches!(said.recv().await.unwrap().unwrap().wire, Wire::Plain(..)));
            continue;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("speaks TLS"), "{answer}");
        assert!(said.recv().await.unwrap().is_none());
    }
    // Who was seen over TLS is never again spoken to in plain text.
    assert!(optional.note_plain("10.0.0.1:1", Some(5)) && optional.plain_until("10.0.0.1:1", Some(5)).is_some());
    let (at, _said) = port(&keys(from_ref(&ours), 5)).await;
    call(&optional, at, Some(5)).await.unwrap();
    assert!(optional.plain_until("10.0.0.1:1", Some(5)).is_none() && !optional.note_plain("10.0.0.1:1", Some(5)));
    // But once the operator says that some go back: a handshake that began before that says nothing.
    let certificates = [Authority::of(&ours, Kind::Peers).unwrap().peer(5).unwrap().certificate];
    let admit = |era| optional.admit(Some(&certificates), KeyUsage::client_auth(), None, era).is_some();
    let era = optional.seen_era();
    optional.forget_seen();
    assert!(admit(era) && optional.note_plain("10.0.0.1:1", Some(5)));
    assert!(admit(optional.seen_era()) && !optional.note_plain("10.0.0.1:1", Some(5)));
    let strict = keys(&[ours], 1);
    assert!(!strict.note_plain("10.0.0.1:1", None) && strict.plain_until("10.0.0.1:1", None).is_none());
}

#[tokio::test]
async fn who_speaks_no_tls_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let [ours] = secrets();
    assert!(matches!(call(&keys(&[ours], 1), at, None).await, Err(DialError::NotTls)));
}

#[tokio::test]
async fn half_a_handshake_has_its_time_and_no_more() {
    let [ours] = secrets();
    let (at, mut said) = port(&keys(&[ours], 1)).await;
    let began = std::time::Instant::now();
    let mut silent = TcpStream::connect(at).await.unwrap();
    let mut half = TcpStream::connect(at).await.unwrap();
    half.write_all(&[HANDSHAKE, 3, 1, 2, 0, 1]).await.unwrap();
    for _ in 0..2 {
        assert!(timeout(PATIENCE, said.recv()).await.unwrap().unwrap().is_none());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
}

/// Connections that follow from a deleted secret end, in both directions, and those of another stay.
#[tokio::test]
async fn a_deleted_secret_ends_its_connections() {
    let [old, new] = secrets();
    let (here, there) = (keys(&[old.clone(), new.clone()], 1), keys(&[old.clone(), new.clone()], 2));
    let (at, mut said) = port(&there).await;
    let mut of_old = call(&here, at, Some(2)).await.unwrap();
    let mut admitted_old = said.recv().await.unwrap().unwrap();
    let generation = here.generation();
    here.replace(&[new.clone(), old.clone()]).unwrap();
    there.replace(&[new.clone(), old.clone()]).unwrap();
    assert_ne!(here.generation(), generation, "connections are opened anew");
    let mut of_new = call(&here, at, Some(2)).await.unwrap();
    let mut admitted_new = said.recv().await.unwrap().unwrap();
    assert_eq!(admitted_new.peer.map(|peer| peer.secret), Some(new.id()));
    let began = std::time::Instant::now();
    here.replace(from_ref(&new)).unwrap();
    there.replace(&[new]).unwrap();
    assert!(timeout(PATIENCE, of_old.read_u8()).await.unwrap().is_err());
    assert!(timeout(PATIENCE, admitted_old.wire.read_u8()).await.unwrap().is_err());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    of_new.write_all(b"x").await.unwrap();
    of_new.flush().await.unwrap();
    assert_eq!(admitted_new.wire.read_u8().await.unwrap(), b'x');
    // Nobody gets in with the old one.
    assert!(call(&keys(&[old], 3), at, None).await.is_err());
}

/// A node that has just got its secret may be dialled in plain text for a while: not for ever.
#[tokio::test(start_paused = true)]
async fn connections_in_plain_text_are_made_anew_once_tls_is_spoken() {
    let [ours] = secrets();
    let optional = || Arc::new(PeerTls::new(from_ref(&ours), 1, true).unwrap());
    let (here, address) = (optional(), "10.0.0.1:1");
    assert!(here.note_plain(address, Some(2)));
    let asked = here.generation();
    // It is dialled twice more, unasked, and may speak TLS by now.
    let believed = [(); 2].map(|()| here.plain_until(address, Some(2)).unwrap());
    assert_eq!(here.generation(), asked);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(here.generation(), asked + 1, "once");
    assert!(here.plain_until(address, Some(2)).is_none(), "it is asked");
    assert!(!believed[0].is_cancelled(), "what is under way has time");
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(believed.iter().all(|until| until.is_cancelled()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(here.generation(), asked + 1, "only what was believed is dialled anew");
    tokio::time::resume();
    // It is seen over TLS before that: as a caller.
    assert!(here.note_plain(address, Some(2)) && here.plain_until(address, Some(2)).is_some());
    let (at, mut said) = port(&here).await;
    for _ in 0..2 {
        call(&keys(from_ref(&ours), 2), at, Some(1)).await.unwrap();
        said.recv().await.unwrap().unwrap();
        assert_eq!(here.generation(), asked + 2, "once for each node");
    }
    assert!(here.plain_until(address, Some(2)).is_none());
}

#[test]
fn the_validity_of_a_certificate_is_read() {
    let [ours] = secrets();
    let authority = Authority::of(&ours, Kind::Clients).unwrap();
    let day = 24 * 3600;
    let at = |days: u64| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(days * day);
    assert_eq!(pem::validity(authority.certificate()), Some((at(18_262), at(29_219))));
    let hosts = ["localhost".to_owned(), "::1".to_owned()];
    let identity = ServerIdentity::issued(&authority, &hosts, at(20_000)).unwrap();
    assert_eq!(identity.validity(), Some((at(19_999), at(20_029))));
    assert!(identity.is_for("localhost") && identity.is_for("::1") && !identity.is_for("example.com"));
    assert!(pem::certificates(authority.pem().as_bytes()).is_ok());
}

#[test]
fn what_the_operator_gives_is_refused_in_words() {
    let [ours] = secrets();
    let authority = Authority::of(&ours, Kind::Clients).unwrap();
    let whole = authority.pem();
    for (chain, key, is_key, wanted) in [
        (&b""[..], &b""[..], false, "it has no certificate"),
        (authority.certificate(), b"", false, "it is DER"),
        (&whole.as_bytes()[..200], b"", false, "its END line is missing"),
        (whole.as_bytes(), b"", true, "it has no private key"),
        (whole.as_bytes(), b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", true, "its key has a password"),
        (whole.as_bytes(), &[0x30, 0x82, 0xff], true, "it is DER"),
    ] {
        let (at_key, error) = ServerIdentity::given(chain, key).unwrap_err();
        assert!(at_key == is_key && error.to_string().contains(wanted), "{error}");
    }
}
