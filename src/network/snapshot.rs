//! Transfers of snapshots: a length-prefixed head, then the bytes of the file.
//!
//! Either side gives up a transfer that makes no progress; the sender much earlier where one of the two has another address
//! by now. openraft begins a broken transfer again from the start; the receiver's half file is deleted.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Uri};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::link::{GONE_AFTER, Link, LinkError};
use super::origin::RAFT_CONTENT_TYPE;
use super::port;
use super::reply::{MAX_SMALL_REPLY_BYTES, read_reply};
use super::wire::{self, MAX_HEAD_BYTES, SnapshotHead};
use crate::formats::{Format, NEWEST};
use crate::http::Place;
use crate::network::limits::{GIVEN_UP, PortLimits};
use crate::network::validate::{self, Local};
use crate::node::Node;
use crate::node::rpc::{PeerError, PeerReply, Refusal};
use crate::storage::SnapshotFile;
use crate::tls::PeerIdentity;

/// Bytes read from the file at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// How long the receiver may take to check and load what it has received.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

/// How often a transfer on which nothing moves is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// So many looks in a row must say the same: one answer of a name server may lack what the next one has.
const LOOKS: u32 = 3;

/// Streams a snapshot to [`SNAPSHOT_PATH`](wire::SNAPSHOT_PATH) of a node.
pub(super) async fn send(
    link: Link,
    to: Result<Uri, LinkError>,
    head: Vec<u8>,
    snapshot: SnapshotFile,
    idle_timeout: Duration,
) -> Result<PeerReply, PeerError> {
    let (progress, mut moved) = watch::channel(false);
    let length = u32::try_from(head.len()).expect("the head of a snapshot is small");
    let mut prefix = length.to_le_bytes().to_vec();
    prefix.extend_from_slice(&head);
    let body = stream::once(async { Ok(Bytes::from(prefix)) }).chain(file_chunks(snapshot, progress));
    let mut request =
        Request::post(to.map_err(LinkError::into_unreachable)?).body(Body::from_stream(body)).map_err(never)?;
    request.headers_mut().insert(CONTENT_TYPE, RAFT_CONTENT_TYPE);
    let way = link.way_of(&mut request);
    let reply = async {
        let response = link.send(request).await.map_err(LinkError::into_unreachable)?;
        read_reply(response, MAX_SMALL_REPLY_BYTES).await
    };
    let watchdog = async {
        let (mut limit, mut since, mut body_is_gone) = (idle_timeout, Instant::now(), false);
        let mut nowhere = 0;
        loop {
            let moves = async { if body_is_gone { pending().await } else { moved.changed().await } };
            match timeout(LOOK_INTERVAL.min(limit.saturating_sub(since.elapsed())), moves).await {
                Ok(moves) => {
                    body_is_gone = moves.is_err();
                    // `true` once the whole file has been handed over. Without the body only the answer is left to come.
                    limit = if body_is_gone || *moved.borrow_and_update() { INSTALL_TIMEOUT } else { idle_timeout };
                    (since, nowhere) = (Instant::now(), 0);
                }
                Err(_) if since.elapsed() >= limit => return "nothing moved for too long",
                Err(_) if since.elapsed() < GONE_AFTER => {}
                Err(_) if !way.leads_nowhere().await => nowhere = 0,
                Err(_) if nowhere + 1 < LOOKS => nowhere += 1,
                Err(_) => {
                    let why = "nothing moved, and one end of the connection has another address by now";
                    tracing::info!("the transfer of a snapshot is given up, to begin anew: {why}");
                    return why;
                }
            }
        }
    };
    tokio::select! {
        reply = reply => reply,
        why = watchdog => Err(PeerError::Lost(why.to_owned())),
    }
}

/// The parts of a request are checked where they are made.
fn never(error: axum::http::Error) -> PeerError {
    PeerError::Unreachable(error.to_string())
}

fn file_chunks(
    snapshot: SnapshotFile,
    progress: watch::Sender<bool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let snapshot = Arc::new(snapshot);
    stream::try_unfold((snapshot, progress, 0_u64), |(snapshot, progress, offset)| async move {
        let file = snapshot.clone();
        let chunk = spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let n = file.file().read_at(&mut chunk, offset)?;
            chunk.truncate(n);
            io::Result::Ok(chunk)
        })
        .await
        .map_err(io::Error::other)??;
        progress.send_replace(chunk.is_empty());
        if chunk.is_empty() {
            return Ok(None);
        }
        let next = offset + chunk.len() as u64;
        Ok(Some((Bytes::from(chunk), (snapshot, progress, next))))
    })
}

/// Receives a snapshot, checks it, and installs it. `said`: the format of its head, once that is known.
pub(super) async fn receive(
    node: &Node,
    body: Body,
    limits: &Arc<PortLimits>,
    (place, peer): (Option<Place>, Option<PeerIdentity>),
    idle_timeout: Duration,
    said: &mut Format,
) -> Result<PeerReply, Refusal> {
    let unreadable = |why: &dyn std::fmt::Display| Refusal::Unreadable(why.to_string());
    let mut inbound = limits.messages();
    let mut chunks = body.into_data_stream();
    let gone = inbound.gone();
    let mut next = async || {
        let chunk = tokio::select! {
            chunk = timeout(idle_timeout, chunks.next()) => chunk,
            () = gone.cancelled() => return Err(unreadable(&GIVEN_UP)),
        };
        match chunk {
            Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
            Ok(Some(Err(error))) => Err(unreadable(&error)),
            Ok(None) => Ok(None),
            Err(_) => Err(unreadable(&"nothing moved for too long")),
        }
    };
    let mut buffer = BytesMut::new();
    let (envelope, vote, meta): SnapshotHead = loop {
        if let Some(length) = buffer.first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            if length > MAX_HEAD_BYTES {
                return Err(unreadable(&"its head is too long"));
            }
            if buffer.len() >= 4 + length {
                buffer.advance(4);
                break wire::decode(&buffer.split_to(length), NEWEST).map_err(|why| unreadable(&why))?;
            }
        }
        match next().await? {
            Some(chunk) => {
                buffer.extend_from_slice(&chunk);
                inbound.keep(buffer.len()).map_err(|error| unreadable(&error))?;
            }
            None => return Err(unreadable(&"it ends within its head")),
        }
    };
    *said = envelope.format;
    // From here on only one piece at a time is in memory.
    drop(inbound);
    let checked = port::check_sender(peer, &envelope);
    if let Err(why) = checked.and_then(|()| validate::snapshot(&envelope, &vote, &meta, &Local::of(node))) {
        limits.refused.note(&envelope.from, &why);
        return Err(unreadable(&why));
    }
    if let Some(place) = place {
        place.heard(node.member_that_sent(&envelope));
    }
    let mut incoming = node.receive_snapshot(&envelope).await?;
    let mut chunk = buffer.freeze();
    loop {
        incoming = spawn_blocking(move || incoming.write(&chunk).map(|()| incoming))
            .await
            .map_err(|error| unreadable(&error))?
            .map_err(|error| unreadable(&error))?;
        match next().await? {
            Some(more) => chunk = more,
            None => break,
        }
    }
    let expected = meta.clone();
    let snapshot = spawn_blocking(move || incoming.finish(Some(&expected)))
        .await
        .map_err(|error| unreadable(&error))?
        .map_err(|error| unreadable(&error))?;
    node.install_snapshot(&envelope, vote, meta, snapshot).await
}
