//! A map that answers as a node does, and does as it is told.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::Service;
use crate::api::service::{self, Known};
use crate::command::{Action, Command, Denied, Holder, Key, LockView, Need, Principal, Stamped};
use crate::formats::{Feature, OLDEST, Speaks};
use crate::kv::{self, HeldLock, KvStore, RetryRoom, Ticket};
use crate::node::rpc::RequestMark;
use crate::node::{
    About, Cluster, ClusterServer, Found, Gate, NodeError, Numbers, ReadLevel, ReadOptions, Settled, State, StateCopy,
    StateView, Stats, Written,
};
use crate::node::{AllEvents, EntryView, EventRing, Finding, Patient, Proposed, Severity, Stages};
use crate::node_id::PublicId;
use crate::raft_types::ClusterId;
use crate::secret::Token;
use crate::state_machine::AuthNow;
use crate::storage::backup::Head;
use crate::watch::{HistoryLimits, Watches};

pub const ID: &str = "127.0.0.1:11000,127.0.0.1:12000";
/// The id of its cluster.
pub const CLUSTER: u128 = 0xc1;
pub const OTHER: &str = "127.0.0.1:11001,127.0.0.1:12001";

/// Not shorter: fuzzing waits whole minutes of a clock that jumps from one to the next.
const POLL: Duration = Duration::from_millis(10);

#[derive(Debug, Default, Clone)]
pub struct Fake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: PublicId,
    map: Mutex<(u64, KvStore)>,
    watches: Watches,
    orders: Mutex<Orders>,
    calls: Mutex<Vec<String>>,
    go: Notify,
    auth: tokio::sync::watch::Sender<AuthNow>,
}

/// What to do instead of the usual.
#[derive(Debug, Default, Clone)]
pub struct Orders {
    pub fail: Option<NodeError>,
    pub hang: bool,
    pub panic: bool,
    pub served_by: Option<PublicId>,
    /// There is little room for kept outcomes.
    pub scarce_room: bool,
    /// It is not known yet whom to serve.
    pub shut: bool,
    /// It belongs to no cluster yet.
    pub homeless: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            id: ID.parse().unwrap(),
            map: Mutex::new((10, KvStore::new())),
            watches: wakes(Watches::new(HistoryLimits::default(), 10)),
            orders: Mutex::default(),
            calls: Mutex::default(),
            go: Notify::new(),
            auth: tokio::sync::watch::Sender::default(),
        }
    }
}

/// A node's task that wakes.
fn wakes(watches: Watches) -> Watches {
    tokio::spawn(watches.clone().wake());
    watches
}

impl Fake {
    pub fn order(&self, orders: Orders) {
        *self.0.orders.lock() = orders;
    }

    /// An entry, as another node would have it.
    pub fn apply(&self, command: &Command) -> crate::command::Reply {
        let mut map = self.0.map.lock();
        map.0 += 1;
        let (index, mut events) = (map.0, Vec::new());
        let reply = map.1.apply(index, command, &mut events);
        let auth = AuthNow { record: map.1.auth().shared_record(), mark: map.1.auth().mark() };
        self.0.auth.send_if_modified(|now| std::mem::replace(now, auth.clone()) != auth);
        self.0.watches.append(&mut events);
        reply
    }

    pub fn keys(&self) -> Vec<Key> {
        self.0.map.lock().1.iter().map(|(key, _)| key.clone()).collect()
    }

    /// Of all that is kept.
    pub fn digest(&self) -> u64 {
        self.0.map.lock().1.digest()
    }

    /// An entry with this stamp that drops what is due.
    pub fn tick(&self, stamp_ms: u64) {
        let mut map = self.0.map.lock();
        map.0 += 1;
        let index = map.0;
        let command = Command::Stamped(Stamped { stamp_ms, retry: None, action: Action::Tick { most: 100 } });
        let mut events = Vec::new();
        map.1.apply(index, &command, &mut events);
        self.0.watches.append(&mut events);
    }

    pub fn lock_view(&self, name: &str) -> Option<LockView> {
        self.0.map.lock().1.lock(name)
    }

    /// What was asked, oldest first; forgets it.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.calls.lock())
    }

    /// Lets one hanging call go on.
    pub fn go(&self) {
        self.0.go.notify_one();
    }

    /// Wakes those who watch, for ever.
    pub fn watching(&self) -> impl Future<Output = ()> + use<> {
        self.0.watches.clone().wake()
    }

    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), NodeError> {
        while index > self.applied_index() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        if index <= self.applied_index() {
            return Ok(());
        }
        Err(NodeError::Timeout(format!("this node did not apply index {index} in time")))
    }

    async fn called(&self, call: String) -> Result<(), NodeError> {
        self.0.calls.lock().push(call);
        let orders = self.0.orders.lock().clone();
        assert!(!orders.panic, "wanted by a test");
        if orders.hang {
            self.0.go.notified().await;
            self.0.calls.lock().push("done".to_owned());
        }
        orders.fail.map_or(Ok(()), Err)
    }

    fn line(&self, id: &str, state: State, voter: bool) -> ClusterServer {
        let speaks = (state != State::Lost).then(Speaks::silent);
        ClusterServer { id: id.parse().unwrap(), state, voter, speaks }
    }
}

impl Service for Fake {
    fn id(&self) -> &PublicId {
        &self.0.id
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        (!self.0.orders.lock().homeless).then_some(ClusterId(CLUSTER))
    }

    fn applied_index(&self) -> u64 {
        self.0.map.lock().0
    }

    fn retry_room(&self, key: &str) -> RetryRoom {
        let is_scarce = self.0.orders.lock().scarce_room;
        RetryRoom { is_scarce, ..self.0.map.lock().1.retry_room(key) }
    }

    async fn write(
        &self,
        command: Command,
        _: Option<Box<RequestMark>>,
        deadline: Instant,
    ) -> Result<Written, NodeError> {
        let seconds = deadline.duration_since(Instant::now()).as_secs_f64().round();
        self.called(format!("{command} in {seconds}")).await?;
        let mut map = self.0.map.lock();
        map.0 += 1;
        let mut events = Vec::new();
        let index = map.0;
        let reply = map.1.apply(index, &command, &mut events);
        let auth = AuthNow { record: map.1.auth().shared_record(), mark: map.1.auth().mark() };
        self.0.auth.send_if_modified(|now| std::mem::replace(now, auth.clone()) != auth);
        self.0.watches.append(&mut events);
        let served_by = self.0.orders.lock().served_by.clone();
        Ok(Written { index: map.0, proposed: None, stages: None, measuring: Duration::ZERO, reply, served_by })
    }

    fn stages(&self, _: u64, _: Proposed) -> Option<Stages> {
        None
    }

    fn gate(&self) -> Gate {
        match &self.0.auth.borrow().record {
            Some(record) if record.on => Gate::Asks(record.clone()),
            _ if self.0.orders.lock().shut => Gate::Shut,
            _ => Gate::Open,
        }
    }

    async fn gate_opens(&self, until: Instant) {
        let mut auth = self.0.auth.subscribe();
        let _ = tokio::time::timeout_at(until, auth.wait_for(|auth| auth.record.is_some())).await;
    }

    fn who_shows(&self, token: &Token) -> Known {
        let (id, hash) = service::parts_of(token);
        let map = self.0.map.lock();
        let (token, generation) = map.1.auth().identify(id, &hash, map.1.log_time_ms())?;
        let holder = Holder { id, generation, revision: token.revision, name: token.name.clone() };
        Ok((Principal::Token(holder), token.clone()))
    }

    fn who_holds(&self, id: u64, generation: u32) -> Known {
        let map = self.0.map.lock();
        let token = map.1.auth().held(id, generation, map.1.log_time_ms())?;
        let holder = Holder { id, generation, revision: token.revision, name: token.name.clone() };
        Ok((Principal::Token(holder), token.clone()))
    }

    fn has_certificate(&self, name: &str) -> Option<(Principal, Arc<kv::Token>)> {
        let map = self.0.map.lock();
        let (id, token) = map.1.auth().of_certificate(name, map.1.log_time_ms())?;
        let holder = Holder { id, generation: token.generation, revision: token.revision, name: token.name.clone() };
        Some((Principal::Token(holder), token.clone()))
    }

    fn allowed(&self, by: Option<&Principal>, need: Need<'_>) -> Result<Option<Duration>, Denied> {
        let map = self.0.map.lock();
        let now_ms = map.1.log_time_ms();
        map.1.auth().check(by, need, now_ms)?;
        Ok(map.1.auth().good_until(by).map(|until_ms| Duration::from_millis(until_ms - now_ms)))
    }

    fn auth_changes(&self) -> tokio::sync::watch::Receiver<AuthNow> {
        self.0.auth.subscribe()
    }

    async fn read(
        &self,
        by: Option<&Principal>,
        key: &Key,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<Found, NodeError> {
        let seconds = deadline.duration_since(Instant::now()).as_secs_f64().round();
        let ReadOptions { level, freshness, min_index } = options;
        let extra = match (freshness, min_index) {
            (None, 0) => String::new(),
            (freshness, min_index) => format!(" {freshness:?} {min_index}"),
        };
        self.called(format!("get {key} {level:?}{extra} in {seconds}")).await?;
        let map = self.0.map.lock();
        map.1.auth().check(by, Need::Read(key), map.1.log_time_ms()).map_err(NodeError::Denied)?;
        let served_by = self.0.orders.lock().served_by.clone();
        let staleness = (level == ReadLevel::None).then_some(Duration::from_millis(12));
        Ok(Found { record: map.1.get(key).cloned(), index: map.0, level, served_by, staleness })
    }

    fn log_time_ms(&self) -> u64 {
        self.0.map.lock().1.log_time_ms()
    }

    async fn settle(&self, options: ReadOptions, deadline: Instant) -> Result<Settled, NodeError> {
        let ReadOptions { level, freshness, min_index } = options;
        self.called(format!("settle {level:?} {freshness:?} {min_index}")).await?;
        self.wait_applied(min_index, deadline).await?;
        let staleness = (level == ReadLevel::None).then_some(Duration::from_millis(12));
        Ok(Settled { level, staleness })
    }

    async fn view(
        &self,
        by: Option<&Principal>,
        needs: &[Need<'_>],
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<StateView, NodeError> {
        let settled = self.settle(options, deadline).await?;
        let map = self.0.map.lock();
        let check = |need: &Need<'_>| map.1.auth().check(by, *need, map.1.log_time_ms());
        needs.iter().try_for_each(check).map_err(NodeError::Denied)?;
        Ok(StateView { kv: map.1.clone(), index: map.0, settled })
    }

    async fn backup(
        &self,
        by: Option<&Principal>,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<StateCopy, NodeError> {
        let StateView { kv, index, settled } = self.view(by, &[Need::Backup], options, deadline).await?;
        let (log_time_ms, format) = (kv.log_time_ms(), kv.format());
        let (cluster, by) = (crate::raft_types::ClusterId(7), "0.2.0".to_owned());
        let head = Head { cluster, index, term: 1, made_ms: 0, now_ms: log_time_ms, log_time_ms, format, by };
        Ok(StateCopy { kv, head, settled })
    }

    async fn lock(
        &self,
        by: Option<&Principal>,
        name: &str,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<(Option<HeldLock>, u64, Settled), NodeError> {
        let settled = self.settle(options, deadline).await?;
        let map = self.0.map.lock();
        map.1.auth().check(by, Need::Lock(name), map.1.log_time_ms()).map_err(NodeError::Denied)?;
        Ok((map.1.lock(name).map(|lock| (lock, map.1.lease_of_lock(name))), map.0, settled))
    }

    fn watches(&self) -> Result<Watches, NodeError> {
        Ok(self.0.watches.clone())
    }

    async fn await_ticket(
        &self,
        name: &Key,
        ticket: u64,
        until: Instant,
        patience: Duration,
    ) -> Result<Ticket, NodeError> {
        loop {
            if self.0.watches.is_closed() {
                return Err(NodeError::NotReady("this node is stopping; ask another".to_owned()));
            }
            let found = self.0.map.lock().1.ticket(name, ticket);
            if found != Ticket::Waits || Instant::now() >= until + patience {
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn cancel_ticket(&self, name: Key, ticket: u64) {
        self.0.calls.lock().push(format!("cancel {name} {ticket}"));
    }

    fn stats(&self) -> Stats {
        super::visible::stats(&self.0.id)
    }

    fn numbers(&self) -> Numbers {
        Numbers::default()
    }

    fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        let failed = self.0.orders.lock().fail.as_ref().map(ToString::to_string);
        vec![("loaded", Ok(())), ("leader", failed.map_or(Ok(()), Err))]
    }

    async fn cluster(&self) -> Cluster {
        let me = self.line(ID, State::Leader, true);
        let silent = self.line(OTHER, State::Lost, false);
        let leader = self.0.orders.lock().fail.is_none().then(|| me.clone());
        Cluster { format: Some(OLDEST), current: me.clone(), leader, warnings: Vec::new(), servers: vec![me, silent] }
    }

    fn state(&self) -> State {
        State::Leader
    }

    fn events(&self) -> Result<Arc<EventRing>, NodeError> {
        Ok(Arc::new(EventRing::new(7)))
    }

    fn follow_all(&self) -> Result<AllEvents, NodeError> {
        Err(NodeError::NotReady("a map has no Raft".to_owned()))
    }

    fn entry(&self, index: u64) -> Option<EntryView> {
        (index == 7).then(super::visible::entry)
    }

    async fn examine(&self) -> Vec<Finding> {
        let failed = self.0.orders.lock().fail.is_some();
        vec![super::visible::finding(if failed { Severity::Warning } else { Severity::Info })]
    }

    fn newest_terms(&self) -> Vec<(u64, u64)> {
        vec![(1, 1), (5, 3)]
    }

    async fn ask_vitals(&self) -> Vec<Patient> {
        super::visible::patients()
    }

    fn about(&self) -> About {
        let start_time = SystemTime::UNIX_EPOCH + Duration::from_secs(951_782_400);
        let (digest, format) = (Some((0xabc, 7)), Some(OLDEST));
        About { start_time, id: self.0.id.clone(), hostname: "box \"1\"".to_owned(), digest, format }
    }

    async fn require(&self, feature: Feature, _deadline: Instant) -> Result<(), NodeError> {
        self.called(format!("require {}", feature.name())).await
    }

    async fn ready(&self) -> Result<(), NodeError> {
        self.0.orders.lock().fail.clone().map_or(Ok(()), Err)
    }

    async fn join(
        &self,
        by: Option<&Principal>,
        id: PublicId,
        asker_raft_id: Option<u64>,
        _deadline: Instant,
    ) -> Result<(), NodeError> {
        self.allowed(by, Need::Members).map_err(NodeError::Denied)?;
        self.called(format!("join {id} {asker_raft_id:?}")).await
    }

    async fn lead(&self, by: Option<&Principal>, wanted: Option<&str>, _deadline: Instant) -> Result<(), NodeError> {
        self.allowed(by, Need::Members).map_err(NodeError::Denied)?;
        self.called(format!("lead {wanted:?}")).await
    }

    async fn remove(
        &self,
        by: Option<&Principal>,
        wanted: &str,
        force: bool,
        _deadline: Instant,
    ) -> Result<(), NodeError> {
        self.allowed(by, Need::Members).map_err(NodeError::Denied)?;
        self.called(format!("remove {wanted} {force}")).await
    }
}
