//! The state machine under a real openraft: one node, disks in memory, no network.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, v2::RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, Config, Raft, RaftNetworkFactory, SnapshotPolicy};

use super::tests::open;
use super::*;
use crate::command::Command;
use crate::raft_types::alias::Vote;
use crate::raft_types::{Member, RaftId};
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::log::{LogOptions, LogStore};

type TestRaft = Raft<TypeConfig, StateMachine>;

struct NoNetwork;

fn nobody() -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error("alone"))
}

impl RaftNetworkFactory<TypeConfig> for NoNetwork {
    type Network = Self;

    async fn new_client(&mut self, _: RaftId, _: &Member) -> Self {
        NoNetwork
    }
}

impl RaftNetworkV2<TypeConfig> for NoNetwork {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(nobody().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(nobody().into())
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(nobody().into())
    }
}

async fn start(log_disk: &MemDisk, disk: &MemDisk) -> (TestRaft, MapReader) {
    let config = Config {
        heartbeat_interval: 50,
        election_timeout_min: 150,
        election_timeout_max: 300,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(50),
        max_in_snapshot_log_to_keep: 10,
        ..Config::default()
    };
    let config = Arc::new(config.validate().unwrap());
    let sm = open(disk);
    let reader = sm.reader();
    let log = LogStore::open(Arc::new(log_disk.clone()), LogOptions { prezero: false, ..LogOptions::default() });
    (Raft::new(1, config, NoNetwork, log.unwrap(), sm).await.unwrap(), reader)
}

async fn leads(raft: &TestRaft) {
    raft.wait(Some(Duration::from_secs(10))).current_leader(1, "alone, it leads").await.unwrap();
}

/// Writes at once, and waits until each is answered.
async fn write_all(raft: &TestRaft, range: std::ops::Range<u64>) {
    let writes = range.map(|i| {
        let pair = (format!("k{i}").into(), Bytes::from(i.to_string()));
        raft.client_write(Command::Set(vec![pair]).into())
    });
    let all = futures_util::future::join_all(writes);
    for answer in tokio::time::timeout(Duration::from_secs(10), all).await.expect("every write is answered") {
        assert_eq!(answer.unwrap().data, Reply::Done);
    }
}

#[tokio::test]
async fn all_who_wait_are_answered_and_a_full_disk_stops_nobody() {
    let (log, disk) = (MemDisk::new(), MemDisk::new());
    let (raft, reader) = start(&log, &disk).await;
    raft.initialize(BTreeMap::from([(1, Member::default())])).await.unwrap();
    leads(&raft).await;

    disk.fail_with(Some(io::ErrorKind::StorageFull));
    write_all(&raft, 0..300).await;
    // A membership entry has someone who waits for it, too.
    let learner = tokio::time::timeout(Duration::from_secs(10), raft.add_learner(2, Member::default(), false));
    assert_eq!(learner.await.expect("answered").unwrap().data, Reply::None);
    write_all(&raft, 300..600).await;
    let metrics = raft.metrics().borrow_watched().clone();
    assert!(metrics.running_state.is_ok(), "failed snapshots are no reason to stop: {metrics}");
    assert_eq!((metrics.snapshot, metrics.purged, disk.list().unwrap().len()), (None, None, 0));

    disk.fail_with(None);
    for i in 0..12 {
        write_all(&raft, 600 + i * 10..610 + i * 10).await;
    }
    let wait = raft.wait(Some(Duration::from_secs(10)));
    wait.metrics(|metrics| metrics.purged.is_some(), "a snapshot is made, and the log purged").await.unwrap();
    let delete = raft.client_write(Command::Delete("k0".into()).into()).await.unwrap();
    assert_eq!(delete.data, Reply::Deleted(1));
    assert_eq!(reader.get("k0"), (None, delete.log_id.index));
    raft.shutdown().await.unwrap();

    let (raft, reader) = start(&log, &disk).await;
    leads(&raft).await;
    let wait = raft.wait(Some(Duration::from_secs(10)));
    wait.applied_index_at_least(Some(delete.log_id.index), "replayed").await.unwrap();
    assert_eq!((reader.len(), reader.get("k0").0, reader.get("k719").0), (719, None, Some("719".into())));
    let members = raft.metrics().borrow_watched().membership_config.clone();
    assert_eq!(members.nodes().count(), 2);
    raft.shutdown().await.unwrap();
}
