//! Bounds what clients cause at other nodes: so many requests at a time to each address, of each [`Lane`].
//!
//! A request under way is a connection, thus a file of this process and one of the other. Thousands of clients that each
//! cost one leave none for the log, and the other node closes connections that have messages on them: it takes only so many
//! of a member. So what is more waits for its turn, a while shorter than its time, and is then [`PeerError::Busy`]: nothing
//! was sent.
//!
//! Raft's own messages have no lane and never wait here: appends, votes, read indexes, transfers, snapshots, watches of the
//! leader. Neither do forwarded writes, of which few batches are under way at a time (`node::write::forward`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{AppendStream, BoxFuture, JoinRefusal, PeerError, PeerReply, PeerRequest, Peers, Probe, Target};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::RaftId;
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::storage::SnapshotFile;

/// The widest lane, in requests.
pub const MAX_WIDTH: usize = 32;

/// The narrowest lane.
const MIN_WIDTH: usize = 2;

/// The end of a request's time in which it is not begun any more, at most half of it: so the answer can say why.
const SPARE: Duration = Duration::from_millis(400);

/// Lanes without a request are forgotten once there are so many: whoever asks for a join chooses an address.
const MANY_LANES: usize = 256;

/// Requests that wait for one another. Those of one lane never wait for those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    /// Weak reads.
    Read,
    /// Joins, removals and transfers on behalf of a client. They may take long.
    Change,
    /// Who a node is, and how it is.
    About,
    /// What it has seen: events, and what a doctor asks. They may wait for more.
    Seen,
}

impl Lane {
    /// `None`: it is sent at once.
    fn of(request: &PeerRequest) -> Option<Self> {
        match request {
            PeerRequest::Append(_)
            | PeerRequest::Vote(_)
            | PeerRequest::PreVote(_)
            | PeerRequest::TransferLeader(_)
            | PeerRequest::Forward { .. }
            | PeerRequest::ReadIndex { .. }
            | PeerRequest::LeaderWatch
            | PeerRequest::IsLeaderGone(_)
            | PeerRequest::Found(_)
            | PeerRequest::Vouch
            | PeerRequest::Marks(_)
            | PeerRequest::Clock
            | PeerRequest::Witness { .. }
            | PeerRequest::Acknowledged { .. }
            | PeerRequest::Forgotten { .. } => None,
            PeerRequest::Read { .. } | PeerRequest::ReadBy { .. } | PeerRequest::WeakIndex => Some(Self::Read),
            PeerRequest::Join { .. }
            | PeerRequest::Lead { .. }
            | PeerRequest::Remove { .. }
            | PeerRequest::AdminBy { .. } => Some(Self::Change),
            PeerRequest::Status | PeerRequest::Identify | PeerRequest::IsMember(_) => Some(Self::About),
            PeerRequest::Events { .. } | PeerRequest::Examine => Some(Self::Seen),
        }
    }
}

/// A way to other nodes with lanes.
#[derive(Debug)]
pub struct LanedPeers {
    way: Arc<dyn Peers>,
    width: usize,
    lanes: Mutex<HashMap<(HostPort, Lane), Arc<Semaphore>>>,
}

impl LanedPeers {
    /// Lanes of this width, within bounds of their own.
    pub fn new(way: Arc<dyn Peers>, width: usize) -> Self {
        Self { way, width: width.clamp(MIN_WIDTH, MAX_WIDTH), lanes: Mutex::default() }
    }

    fn lane(&self, to: &HostPort, lane: Lane) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock();
        if lanes.len() >= MANY_LANES {
            // Who waits, or has a turn, has a share.
            lanes.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        lanes.entry((to.clone(), lane)).or_insert_with(|| Arc::new(Semaphore::new(self.width))).clone()
    }
}

impl Peers for LanedPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        within: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        let Some(lane) = Lane::of(&request) else { return self.way.call(target, request, within) };
        let (turns, way, target) = (self.lane(&target.id.raddr, lane), self.way.clone(), target.clone());
        Box::pin(async move {
            let (began, patience) = (Instant::now(), within - SPARE.min(within / 2));
            let Ok(Ok(_turn)) = timeout(patience, turns.acquire_owned()).await else {
                let why = format!("this node has as many requests under way to {} as it may", target.id);
                return Err(PeerError::Busy(why));
            };
            way.call(&target, request, within.saturating_sub(began.elapsed())).await
        })
    }

    fn open_appends(
        &self,
        target: &Target,
        within: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        self.way.open_appends(target, within)
    }

    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        self.way.send_snapshot(target, vote, meta, snapshot, idle_timeout)
    }

    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        within: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        self.way.ask_to_join(haddr, id, raft_id, within)
    }

    fn probe(&self, haddr: &HostPort, within: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        self.way.probe(haddr, within)
    }

    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        self.way.resolve(addr)
    }

    fn ids_at(&self, haddr: &HostPort, within: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        self.way.ids_at(haddr, within)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Never answers; counts what is under way.
    #[derive(Debug, Default)]
    struct Silent(Arc<AtomicUsize>);

    struct UnderWay(Arc<AtomicUsize>);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Peers for Silent {
        fn call(
            &self,
            _: &Target,
            _: PeerRequest,
            within: Duration,
        ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
            let count = self.0.clone();
            Box::pin(async move {
                count.fetch_add(1, Ordering::SeqCst);
                let _under_way = UnderWay(count);
                tokio::time::sleep(within).await;
                Err(PeerError::Lost("it did not answer in time".to_owned()))
            })
        }

        fn send_snapshot(
            &self,
            _: &Target,
            _: Vote,
            _: SnapshotMeta,
            _: SnapshotFile,
            _: Duration,
        ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
            unreachable!()
        }

        fn ask_to_join(
            &self,
            _: &HostPort,
            _: &PublicId,
            _: RaftId,
            _: Duration,
        ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
            unreachable!()
        }

        fn probe(&self, _: &HostPort, _: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
            unreachable!()
        }

        fn resolve(&self, _: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
            unreachable!()
        }

        fn ids_at(&self, _: &HostPort, _: Duration) -> BoxFuture<'static, Vec<PublicId>> {
            unreachable!()
        }
    }

    fn target(port: u16) -> Target {
        let addr = HostPort::new("127.0.0.1", port);
        Target { raft_id: None, id: PublicId { haddr: addr.clone(), raddr: addr } }
    }

    /// Issue 18, the second attack: thousands of requests were as many connections, until no file was left for the log.
    #[tokio::test(start_paused = true)]
    async fn what_clients_cause_waits_and_what_raft_says_does_not() {
        const WIDTH: usize = 4;
        let silent = Silent::default();
        let under_way = silent.0.clone();
        let peers = LanedPeers::new(Arc::new(silent), WIDTH);
        let time = Duration::from_secs(10);
        let ask = |port, request| tokio::spawn(peers.call(&target(port), request, time));
        let mut reads: Vec<_> = (0..1_000).map(|_| ask(1, PeerRequest::WeakIndex)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(under_way.load(Ordering::SeqCst), WIDTH);
        // Another lane, another address, and no lane at all.
        let others = [ask(1, PeerRequest::Status), ask(2, PeerRequest::WeakIndex), ask(1, PeerRequest::LeaderWatch)];
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(under_way.load(Ordering::SeqCst), WIDTH + 3);
        // One that is given up makes place for the next.
        reads.remove(0).abort();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(under_way.load(Ordering::SeqCst), WIDTH + 3);
        let began = Instant::now();
        let (mut busy, mut lost) = (0, 0);
        for read in reads.into_iter().chain(others) {
            match read.await.unwrap().unwrap_err() {
                PeerError::Busy(why) => {
                    assert!(began.elapsed() < Duration::from_secs(8), "before its time is up");
                    assert!(why.contains("127.0.0.1:1"), "{why}");
                    busy += 1;
                }
                PeerError::Lost(_) => lost += 1,
                error => panic!("{error:?}"),
            }
        }
        assert_eq!((busy, lost), (999 - WIDTH, WIDTH + 3));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_nobody_asks_are_forgotten() {
        let peers = LanedPeers::new(Arc::new(Silent::default()), 1);
        let kept = tokio::spawn(peers.call(&target(9), PeerRequest::Identify, Duration::from_secs(86_400)));
        for port in 1_000..3_000 {
            let _gone = peers.call(&target(port), PeerRequest::Identify, Duration::from_secs(1)).await;
        }
        let lanes = peers.lanes.lock();
        assert!(lanes.len() <= MANY_LANES && lanes.contains_key(&(target(9).id.raddr, Lane::About)), "{}", lanes.len());
        kept.abort();
    }
}
