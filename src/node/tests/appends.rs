//! Appends over a way that the test holds in its hand.

use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use openraft::RaftNetworkFactory;
use openraft::errors::RPCError;
use openraft::network::{RPCOption, v2::RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use openraft::{EntryPayload, entry::RaftEntry};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::net::id;
use crate::node::NodeIdentity;
use crate::node::journal::Journal;
use crate::node::membership::strangers::Strangers;
use crate::node::replication::{NetworkFactory, RaftNetwork};
use crate::node::rpc::*;
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::alias::{LogEntry, LogId, SnapshotMeta, Vote};
use crate::raft_types::{Member, RaftId, Role, TypeConfig};
use crate::storage::disk::MemDisk;
use crate::storage::{ClusterHandle, Identity, IdentityStore, SnapshotFile};

type Request = AppendEntriesRequest<TypeConfig>;
type Answer = Result<StampedOutcome, PeerError>;

const TIMEOUT: Duration = Duration::from_secs(2);

/// The other end of a way.
struct End {
    requests: mpsc::UnboundedReceiver<Request>,
    answers: mpsc::UnboundedSender<Answer>,
}

struct Way {
    requests: mpsc::UnboundedSender<Request>,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl AppendStream for Way {
    fn send(&mut self, request: Request) -> BoxFuture<'_, Result<(), PeerError>> {
        let sent = self.requests.send(request).map_err(|_| PeerError::Lost("closed".to_owned()));
        Box::pin(std::future::ready(sent))
    }

    fn next(&mut self) -> BoxFuture<'_, Answer> {
        Box::pin(async { self.answers.recv().await.unwrap_or_else(|| Err(PeerError::Lost("closed".to_owned()))) })
    }
}

/// An answer with some stamp.
fn stamped(outcome: StreamAppendResult<TypeConfig>) -> Answer {
    Ok((outcome, Stamp { boot: 2, micros: 1 }))
}

fn way() -> (Way, End) {
    let ((requests, sent), (answers, given)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    (Way { requests, answers: given }, End { requests: sent, answers })
}

/// Opens the ways it was given, one after the other.
#[derive(Default)]
struct Ways(Mutex<VecDeque<Way>>);

impl std::fmt::Debug for Ways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ways")
    }
}

impl Peers for Ways {
    fn call(&self, _: &Target, _: PeerRequest, _: Duration) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        unreachable!("appends do not call")
    }

    fn open_appends(
        &self,
        _: &Target,
        _: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        let way = self.0.lock().pop_front();
        let opened = way.map(|way| Some(Box::new(way) as Box<dyn AppendStream>));
        Box::pin(std::future::ready(opened.ok_or_else(|| PeerError::Unreachable("down".to_owned()))))
    }

    fn send_snapshot(
        &self,
        _: &Target,
        _: Vote,
        _: SnapshotMeta,
        _: SnapshotFile,
        _: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        unreachable!("no snapshot")
    }

    fn ask_to_join(
        &self,
        _: &HostPort,
        _: &PublicId,
        _: RaftId,
        _: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        unreachable!("nobody joins")
    }

    fn probe(&self, _: &HostPort, _: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        unreachable!("nobody probes")
    }

    fn resolve(&self, _: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        unreachable!("nobody looks up names")
    }

    fn ids_at(&self, _: &HostPort, _: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        unreachable!("nobody looks around")
    }
}

async fn network(ways: impl IntoIterator<Item = Way>) -> RaftNetwork {
    let cluster = ClusterHandle::new(None);
    let identity = Identity::new(id(1), 1);
    let store = IdentityStore::new(Arc::new(MemDisk::new()));
    let mut factory = NetworkFactory {
        peers: Arc::new(Ways(Mutex::new(ways.into_iter().collect()))),
        me: Arc::new(NodeIdentity::new(store, identity, cluster, Role::Voter, "here".to_owned(), 1)),
        strangers: Arc::new(Strangers::default()),
        acks: Arc::default(),
        stamps: Arc::default(),
        acknowledged: Arc::default(),
        journal: Arc::new(Journal::new((1, &id(1)), 1, 0, Arc::default())),
        members: Arc::new(OnceLock::new()),
        append_timeout: TIMEOUT,
    };
    factory.new_client(2, &Member { id: id(2), role: Role::Voter }).await
}

fn log_id(index: u64) -> LogId {
    LogId::new(openraft::alias::CommittedLeaderIdOf::<TypeConfig>::new(1), index)
}

/// With one entry at `index`, or with none; says that `committed` is committed.
fn request(index: Option<u64>, committed: u64) -> Request {
    Request {
        vote: Vote::new_committed(1, 1),
        prev_log_id: index.map(|index| log_id(index - 1)),
        entries: index.map(|index| LogEntry::new(log_id(index), EntryPayload::Blank)).into_iter().collect(),
        leader_commit: Some(log_id(committed)),
    }
}

/// Requests of openraft, and the outcomes that it learns.
macro_rules! session {
    ($network:expr, $requests:ident, $outcomes:ident) => {
        let ($requests, given) = mpsc::unbounded_channel::<Request>();
        let given = futures_util::stream::unfold(given, |mut given| async move { Some((given.recv().await?, given)) });
        let opened = $network.stream_append(Box::pin(given), RPCOption::new(TIMEOUT));
        let $outcomes = async move {
            let mut stream = opened.await.unwrap();
            let mut all = Vec::new();
            while let Some(outcome) = stream.next().await {
                all.push(outcome);
            }
            all
        };
    };
}

#[tokio::test(start_paused = true)]
async fn a_commit_alone_waits_for_entries_and_no_longer_than_it_may() {
    let (way, mut end) = way();
    let mut network = network([way]).await;
    session!(network, requests, outcomes);
    let driven = async {
        requests.send(request(None, 4)).unwrap();
        requests.send(request(Some(5), 4)).unwrap();
        assert_eq!(end.requests.recv().await.unwrap().entries.len(), 1, "one message tells both");
        end.answers.send(stamped(Ok(Some(log_id(5))))).unwrap();
        let held = Instant::now();
        requests.send(request(None, 5)).unwrap();
        let alone = end.requests.recv().await.unwrap();
        assert_eq!((alone.entries.len(), alone.leader_commit), (0, Some(log_id(5))));
        assert!(held.elapsed() <= Duration::from_millis(3), "{:?}", held.elapsed());
        end.answers.send(stamped(Ok(Some(log_id(5))))).unwrap();
        drop(requests);
    };
    let (all, ()) = tokio::join!(outcomes, driven);
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|outcome| matches!(outcome, Ok(Ok(_)))));
}

/// Found by simulation (seed 1529 of commit 777c7a4): a leader that was cut off confirmed a read by what was sent before it.
#[tokio::test(start_paused = true)]
async fn an_answer_to_what_was_sent_before_a_read_confirms_nothing() {
    let (way, mut end) = way();
    let mut network = network([way]).await;
    let acks = network.acks.clone();
    session!(network, requests, outcomes);
    let driven = async {
        requests.send(request(Some(5), 4)).unwrap();
        end.requests.recv().await.unwrap();
        let read = acks.begin();
        let voters = || vec![BTreeSet::from([1, 2, 3])];
        let mut confirmed = std::pin::pin!(acks.since(read, 1, voters));
        requests.send(request(None, 4)).unwrap();
        end.requests.recv().await.unwrap();
        end.answers.send(stamped(Ok(Some(log_id(5))))).unwrap();
        assert!(timeout(Duration::from_millis(100), confirmed.as_mut()).await.is_err(), "its answer may be older");
        end.answers.send(stamped(Ok(Some(log_id(5))))).unwrap();
        confirmed.await;
        drop(requests);
    };
    let (all, ()) = tokio::join!(outcomes, driven);
    assert_eq!(all.len(), 2);
}

/// Found by the benchmarks: each linearizable read took 2 ms.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_waits_for_nothing() {
    let (way, mut end) = way();
    let mut network = network([way]).await;
    session!(network, requests, outcomes);
    requests.send(request(None, 4)).unwrap();
    drop(requests);
    let began = Instant::now();
    let driven = async {
        end.requests.recv().await.unwrap();
        end.answers.send(stamped(Ok(Some(log_id(4))))).unwrap();
    };
    let (all, ()) = tokio::join!(outcomes, driven);
    assert_eq!((all.len(), began.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn many_are_on_their_way_at_a_time_but_not_all() {
    let (way, mut end) = way();
    let mut network = network([way]).await;
    session!(network, requests, outcomes);
    let driven = async {
        (1..=20).for_each(|index| requests.send(request(Some(index), 0)).unwrap());
        drop(requests);
        let mut arrived = 0;
        while timeout(Duration::from_millis(100), end.requests.recv()).await.is_ok() {
            arrived += 1;
        }
        assert_eq!(arrived, 8);
        for index in 1..=20 {
            end.answers.send(stamped(Ok(Some(log_id(index))))).unwrap();
            if index <= 12 {
                end.requests.recv().await.unwrap();
            }
        }
    };
    let (all, ()) = tokio::join!(outcomes, driven);
    assert_eq!(all.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_an_error() {
    let (way, _end) = way();
    let mut network = network([way]).await;
    session!(network, requests, outcomes);
    let began = Instant::now();
    requests.send(request(Some(1), 0)).unwrap();
    let all = outcomes.await;
    assert!(matches!(all[..], [Err(RPCError::Network(_))]), "{all:?}");
    assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_way_that_breaks_is_an_error_where_something_is_on_it() {
    let (way, mut end) = way();
    let mut network = network([way]).await;
    {
        session!(network, requests, outcomes);
        requests.send(request(Some(1), 0)).unwrap();
        let driven = async {
            end.requests.recv().await.unwrap();
            drop(end);
        };
        let (all, ()) = tokio::join!(outcomes, driven);
        assert!(matches!(all[..], [Err(RPCError::Network(_))]), "{all:?}");
    }
    // The next one finds nobody there.
    let one = futures_util::stream::iter([request(Some(1), 0)]);
    let refused = network.stream_append(one, RPCOption::new(TIMEOUT)).await.err();
    assert!(matches!(refused, Some(RPCError::Unreachable(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_way_is_used_again_unless_it_broke_meanwhile() {
    let ((first, mut first_end), (second, mut second_end)) = (way(), way());
    let mut network = network([first, second]).await;
    for _ in 0..2 {
        session!(network, requests, outcomes);
        requests.send(request(Some(1), 0)).unwrap();
        drop(requests);
        let driven = async {
            first_end.requests.recv().await.unwrap();
            first_end.answers.send(stamped(Ok(Some(log_id(1))))).unwrap();
        };
        let (all, ()) = tokio::join!(outcomes, driven);
        assert_eq!(all.len(), 1);
    }
    drop(first_end);
    session!(network, requests, outcomes);
    requests.send(request(Some(2), 0)).unwrap();
    drop(requests);
    let driven = async {
        second_end.requests.recv().await.unwrap();
        second_end.answers.send(stamped(Ok(Some(log_id(2))))).unwrap();
    };
    let (all, ()) = tokio::join!(outcomes, driven);
    assert!(matches!(all[..], [Ok(Ok(_))]), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_to_send_for_long_gives_the_way_up() {
    let (way, mut end) = way();
    let mut network = network([way]).await;
    session!(network, requests, outcomes);
    requests.send(request(Some(1), 0)).unwrap();
    let driven = async {
        end.requests.recv().await.unwrap();
        end.answers.send(stamped(Ok(Some(log_id(1))))).unwrap();
        assert!(end.requests.recv().await.is_none());
    };
    let began = Instant::now();
    let (all, ()) = tokio::join!(outcomes, driven);
    assert_eq!((all.len(), began.elapsed().as_secs()), (1, 30));
    drop(requests);
}
