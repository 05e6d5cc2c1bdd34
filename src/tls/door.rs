//! What a connection passes before its first request: the first byte tells TLS from plain text, and the handshake who it is.
//!
//! * A handshake has two parts. The first words (the ClientHello) cost nothing but their bytes, so many connections may be
//!   amid them, and half of them keep nobody out who has said them. What comes then has to be calculated: few at a time.
//! * Each has little time: the less, the more wait ([`handshakes`](super::handshakes)). At the Raft port some places are
//!   kept for addresses where a node was seen before, so that strangers cannot keep nodes out.
//! * At a client port the first words (ALPN) tell a node from a client: clients are never asked for a node's certificate.
//! * Plain text where there is none gets a plain answer, so that who wrote `http://` learns why.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tokio_util::sync::CancellationToken;
use webpki::KeyUsage;

use super::clients::ClientTls;
use super::complaints::Complaints;
use super::handshakes::{Handshakes, RoomLimits};
use super::peers::PeerTls;
use super::verify::PeerIdentity;
use super::wire::{AtMost, Movable, Secured, Wire};
use super::{ClientCertificate, HANDSHAKE, PEER_PROTOCOL, WELCOME};
use crate::observe::{Handshake, PlainOpen, PlainPort, SecurityNumbers};

/// So much of what somebody sends is read and dropped, so that the answer is not overtaken by a reset.
const LINGER_BYTES: usize = 64 << 10;
/// No connection lasts a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const LINGER: Duration = Duration::from_millis(500);

/// TLS keeps so much of what a client has not taken: a slow one is seen to take something.
const BUFFER_BYTES: usize = 16 << 10;

/// The most bytes of a client's first words: what is read of them is kept. Those of today's clients have some 2 KiB.
const HELLO_BYTES: usize = 16 << 10;

/// The limits of handshakes at a port.
#[derive(Debug, Clone, Copy)]
pub struct DoorLimits {
    /// Connections amid their first words.
    pub hellos: RoomLimits,
    /// Handshakes after these.
    pub handshakes: RoomLimits,
    /// Each has so long, the wait for its places included.
    pub handshake: Duration,
    /// The first byte comes within this time.
    pub first_byte: Duration,
}

impl DoorLimits {
    /// Of the Raft port.
    pub const RAFT: Self = Self {
        hellos: RoomLimits::of(1_024, 768),
        handshakes: RoomLimits::of(64, 48),
        handshake: Duration::from_secs(2),
        first_byte: Duration::from_secs(2),
    };

    /// Of a client port.
    pub const CLIENTS: Self = Self {
        hellos: RoomLimits::of(4_096, 4_096),
        handshakes: RoomLimits::of(256, 256),
        handshake: Duration::from_secs(10),
        first_byte: Duration::from_secs(10),
    };
}

/// Whom a port is for.
#[derive(Debug)]
pub enum Open {
    /// Nodes alone.
    Nodes(Arc<PeerTls>),
    /// Clients, in plain text or under TLS, and nodes that join.
    Clients {
        /// To tell nodes by.
        nodes: Arc<PeerTls>,
        /// What clients are shown; without it they speak plain text.
        tls: Option<Arc<ClientTls>>,
        /// Plain text is answered beside TLS.
        plain_too: bool,
    },
}

/// The door of a port.
#[derive(Debug)]
pub struct Door {
    open: Open,
    limits: DoorLimits,
    hellos: Handshakes,
    handshakes: Handshakes,
    /// Handshakes are calculated here; where there are none, by the caller.
    threads: Vec<Handle>,
    next: AtomicUsize,
    complaints: Complaints,
    numbers: Arc<SecurityNumbers>,
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Admitted {
    /// Its bytes.
    pub wire: Wire,
    /// The node that it is of.
    pub peer: Option<PeerIdentity>,
    /// The client's certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// It ends at once.
    pub ends: Option<CancellationToken>,
    /// It ends after the request in hand.
    pub ends_softly: Option<CancellationToken>,
}

impl Admitted {
    /// A connection in plain text.
    pub fn plain(stream: TcpStream) -> Self {
        Self::counted(stream, None)
    }

    fn counted(stream: TcpStream, counted: Option<PlainOpen>) -> Self {
        Self { wire: Wire::Plain(stream, counted), peer: None, certificate: None, ends: None, ends_softly: None }
    }

    /// Done once it has to end after the request in hand; `None` where it never has to.
    pub fn soft_end(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        // One of its own: each poll takes the token's lock, which connections would share.
        let authorities_gone = self.ends_softly.as_ref()?.child_token().cancelled_owned();
        let over = self.certificate.as_ref().map(|certificate| certificate.over.clone());
        let left = self.certificate.as_ref().map(|certificate| {
            // What is longer than a timer may run is not waited for.
            certificate.not_after.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST)
        });
        Some(Box::pin(async move {
            match left {
                None => authorities_gone.await,
                Some(left) => tokio::select! {
                    () = authorities_gone => {}
                    () = tokio::time::sleep(left) => {}
                },
            }
            // What lasts ends, too.
            if let Some(over) = over {
                over.cancel();
            }
        }))
    }
}

/// Who said to be a node, and was not let in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NodeRefused(String);

/// A refusal that the operator is told of. One that hangs up amid its handshake may have run out of time: that is none.
fn node_refused(error: io::Error) -> io::Error {
    let why = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => format!("it does not trust this node's certificate ({alert:?})"),
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(why))) => format!("it has {}", why.0),
        Some(other) => other.to_string(),
        None => return error,
    };
    io::Error::other(NodeRefused(why))
}

/// Who is at a port, as a handshake is to be answered.
enum Answer {
    /// And when it began, see [`PeerTls::seen_era`].
    Node(Arc<PeerTls>, Arc<ServerConfig>, u64),
    Client(Arc<ServerConfig>, CancellationToken),
}

/// A handshake that is done.
struct Done {
    stream: TlsStream<Movable>,
    peer: Option<(PeerIdentity, CancellationToken)>,
    certificate: Option<Arc<ClientCertificate>>,
    ends_softly: Option<CancellationToken>,
}

impl Door {
    /// A door. Handshakes run on `threads` in turn, or where the connection is served if there are none.
    pub fn new(open: Open, limits: DoorLimits, threads: Vec<Handle>, numbers: Arc<SecurityNumbers>) -> Self {
        Self {
            open,
            limits,
            hellos: Handshakes::new(limits.hellos),
            handshakes: Handshakes::new(limits.handshakes),
            threads,
            next: AtomicUsize::new(0),
            complaints: Complaints::default(),
            numbers,
        }
    }

    fn nodes(&self) -> &Arc<PeerTls> {
        match &self.open {
            Open::Nodes(nodes) | Open::Clients { nodes, .. } => nodes,
        }
    }

    /// Lets a connection in; `None` where it was refused, and is closed.
    pub async fn admit(&self, stream: TcpStream, from: SocketAddr) -> Option<Admitted> {
        let mut first = [0];
        match timeout(self.limits.first_byte, stream.peek(&mut first)).await {
            Ok(Ok(1)) => {}
            _ => return None,
        }
        if first[0] != HANDSHAKE {
            return self.admit_plain(stream, from.ip()).await;
        }
        let done = timeout(self.limits.handshake, self.secure(stream, from.ip())).await;
        self.numbers.handshake(if matches!(done, Ok(Ok(_))) { Handshake::Ok } else { Handshake::Failed });
        match done {
            Ok(Ok(admitted)) => Some(admitted),
            Ok(Err(error)) => {
                self.note(from, &error);
                None
            }
            Err(_) => {
                tracing::debug!("the handshake of {from} took too long");
                None
            }
        }
    }

    fn note(&self, from: SocketAddr, error: &io::Error) {
        let inner = error.get_ref();
        match inner.and_then(|inner| inner.downcast_ref::<NodeRefused>()) {
            Some(NodeRefused(why)) if self.complaints.is_due(from.ip()) => tracing::warn!(
                "{from} was refused as a node: {why}. This node has the cluster secret {}; hraftd secret --id FILE shows \
                 those of a file",
                self.nodes().own()
            ),
            _ => tracing::debug!("{from} was refused: {error}"),
        }
    }

    async fn admit_plain(&self, stream: TcpStream, from: IpAddr) -> Option<Admitted> {
        let text = match &self.open {
            Open::Nodes(nodes) if nodes.is_optional() => {
                if self.complaints.is_due(from) {
                    tracing::warn!("a node at {from} speaks plain text: it has no cluster secret yet");
                }
                return Some(Admitted::counted(stream, Some(self.numbers.plain(PlainPort::Raft))));
            }
            Open::Clients { tls: None, .. } => return Some(Admitted::plain(stream)),
            Open::Clients { plain_too: true, .. } => {
                if self.complaints.is_due(from) {
                    tracing::warn!("a client at {from} speaks plain text: --tls-optional still lets it");
                }
                return Some(Admitted::counted(stream, Some(self.numbers.plain(PlainPort::Client))));
            }
            Open::Nodes(_) => {
                if self.complaints.is_due(from) {
                    tracing::warn!(
                        "{from} was refused at the Raft port: it speaks plain text, and this node has a cluster secret"
                    );
                }
                "this is a Raft port, and speaks TLS: the node that calls has no cluster secret"
            }
            Open::Clients { .. } => {
                tracing::debug!("{from} speaks plain text");
                "use https://: this port speaks TLS"
            }
        };
        refuse_plain(stream, text).await;
        None
    }

    async fn secure(&self, stream: TcpStream, from: IpAddr) -> io::Result<Admitted> {
        let is_stranger = !self.nodes().knows(from);
        let start = {
            let place = self.hellos.begin(is_stranger).await;
            place.keep_for(hear_hello(stream)).await?
        };
        let place = self.handshakes.begin(is_stranger).await;
        place.keep_for(self.secure_now(start, from)).await
    }

    async fn secure_now(&self, mut start: StartHandshake<Movable>, from: IpAddr) -> io::Result<Admitted> {
        let open = self.answers();
        let done = match self.thread() {
            None => shake_hands(start, from, open).await?,
            Some(thread) => {
                let stream = start.io.0.take().map(TcpStream::into_std).transpose()?;
                let there = async move {
                    start.io.0 = stream.map(TcpStream::from_std).transpose()?;
                    let mut done = shake_hands(start, from, open).await?;
                    let stream = done.stream.get_mut().0.0.take();
                    Ok::<_, io::Error>((done, stream.map(TcpStream::into_std).transpose()?))
                };
                let task = AbortOnDrop(thread.spawn(there));
                let (mut done, stream) = task.await??;
                done.stream.get_mut().0.0 = stream.map(TcpStream::from_std).transpose()?;
                done
            }
        };
        let until = done.peer.as_ref().map(|(_, ends)| ends.clone().cancelled_owned());
        Ok(Admitted {
            wire: Wire::Tls(Box::new(Secured::new(done.stream, until))),
            peer: done.peer.as_ref().map(|(peer, _)| *peer),
            certificate: done.certificate,
            ends: done.peer.map(|(_, ends)| ends),
            ends_softly: done.ends_softly,
        })
    }

    fn thread(&self) -> Option<&Handle> {
        let count = self.threads.len().max(1);
        self.threads.get(self.next.fetch_add(1, Relaxed) % count)
    }

    /// What a handshake that begins now is answered with: to a node, and to a client.
    fn answers(&self) -> (Answer, Option<Answer>) {
        let nodes = self.nodes();
        let to_node = Answer::Node(nodes.clone(), nodes.now().server.clone(), nodes.seen_era());
        match &self.open {
            Open::Nodes(_) => (to_node, None),
            Open::Clients { tls, .. } => {
                let to_client = tls.as_ref().map(|tls| {
                    let (config, ends) = tls.now();
                    Answer::Client(config, ends)
                });
                (to_node, Some(to_client).flatten())
            }
        }
    }
}

/// Waits for a task, which ends where nobody waits any more.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}

/// Reads a client's first words; nothing is calculated for them.
async fn hear_hello(stream: TcpStream) -> io::Result<StartHandshake<Movable>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), AtMost(stream, HELLO_BYTES)).await?;
    Ok(StartHandshake::from_parts(start.accepted, Movable(Some(start.io.0))))
}

async fn shake_hands(start: StartHandshake<Movable>, from: IpAddr, open: (Answer, Option<Answer>)) -> io::Result<Done> {
    let is_node = start.client_hello().alpn().is_some_and(|mut all| all.any(|one| one == PEER_PROTOCOL));
    let answer = match (is_node, open) {
        (true, (to_node, _)) => to_node,
        (false, (_, Some(to_client))) => to_client,
        (false, (_, None)) => return Err(io::Error::other("it speaks TLS, and not as a node does")),
    };
    let config = match &answer {
        Answer::Node(_, config, _) | Answer::Client(config, _) => config.clone(),
    };
    let mut stream = match start.into_stream(config).into_fallible().await {
        Ok(stream) => stream,
        Err((error, io)) => {
            // The alert is on its way: a reset must not overtake it.
            if let Some(stream) = io.0 {
                linger(stream).await;
            }
            return Err(if is_node { node_refused(error) } else { error });
        }
    };
    stream.get_mut().1.set_buffer_limit(Some(BUFFER_BYTES));
    match answer {
        Answer::Node(nodes, _, era) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = nodes.admit(certificates, KeyUsage::client_auth(), Some(from), era);
            let peer =
                peer.ok_or_else(|| io::Error::other(NodeRefused("its cluster secret was deleted".to_owned())))?;
            stream.write_all(&[WELCOME]).await?;
            stream.flush().await?;
            Ok(Done { stream, peer: Some(peer), certificate: None, ends_softly: None })
        }
        Answer::Client(_, ends) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate = match certificate.map(ClientCertificate::read) {
                Some(Some(one)) if one.not_after > SystemTime::now() => Some(Arc::new(one)),
                Some(_) => return Err(io::Error::other("its certificate cannot be read, or has expired")),
                None => None,
            };
            Ok(Done { stream, peer: None, certificate, ends_softly: Some(ends) })
        }
    }
}

async fn refuse_plain(mut stream: TcpStream, text: &str) {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{text}\n",
        text.len() + 1
    );
    if timeout(LINGER, stream.write_all(answer.as_bytes())).await.is_ok_and(|sent| sent.is_ok()) {
        linger(stream).await;
    }
}

/// Ends our side, and reads and drops what is still sent, for a while.
async fn linger(mut stream: TcpStream) {
    let _ = timeout(LINGER, async {
        stream.shutdown().await?;
        let (mut space, mut left) = ([0; 4096], LINGER_BYTES);
        loop {
            match stream.read(&mut space).await? {
                0 => return Ok(()),
                bytes => left = left.saturating_sub(bytes),
            }
            if left == 0 {
                return io::Result::Ok(());
            }
        }
    })
    .await;
}
