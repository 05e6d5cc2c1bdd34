//! What this node does, as it does it: the one source of events, and of the times of entries.
//!
//! * `entry`: when one entry came how far.
//! * `ring`: the newest events, and who waits for more.
//! * `follow`: the events of all members. `record`: what becomes an event, and why.
//! * `tally`: what happens too often to be told one by one.
//! * `timeline`: when entries came how far.
//!
//! It hears of all that from where it happens, and not from openraft's metrics, which skip what is soon over: from the log
//! ([`LogWatch`](crate::storage::log::LogWatch)), from the state machine, and from the messages between nodes. An event is
//! told once it is certain, so none is invented; reasons are what the decision was made by.

mod entry;
mod follow;
mod record;
mod ring;
mod tally;
mod timeline;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::node::numbers::NodeNumbers;
use crate::node_id::PublicId;
use crate::raft_types::RaftId;

pub use entry::EntryView;
pub(in crate::node) use follow::Followers;
pub use follow::{AllEvents, NodeEvent};
pub(in crate::node) use record::Ballot;
pub use ring::EventRing;
use tally::Tally;
pub use timeline::Proposed;
pub(in crate::node) use timeline::{Micros, Step, Timeline};

/// What happens often is told together for so long.
const MERGE_WINDOW: Duration = Duration::from_millis(250);

/// Where nothing stirs, it is looked so often whether there is something to tell.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// The most members whose names are known.
const MAX_NAMES: usize = 1_000;

/// How long no leader was heard.
type Silence = Box<dyn Fn() -> Option<Duration> + Send + Sync>;

/// The role and the term that were told last.
#[derive(Debug)]
struct Now {
    term: u64,
    role: &'static str,
    /// The term that this node leads in.
    led: Option<u64>,
    /// Whom it follows.
    leader: Option<RaftId>,
}

/// What a node does.
pub(in crate::node) struct Journal {
    me: RaftId,
    /// Its public id.
    node: String,
    pub(in crate::node) timeline: Timeline,
    pub(in crate::node) numbers: Arc<NodeNumbers>,
    pub(in crate::node) events: Arc<EventRing>,
    tally: Tally,
    names: Mutex<BTreeMap<RaftId, String>>,
    now: Mutex<Now>,
    /// Why the next election begins, where that is not silence.
    cause: Mutex<Option<String>>,
    /// Members were asked for pre-votes, and nothing came of it yet.
    pre_voted: Mutex<bool>,
    silence: OnceLock<Silence>,
    /// There is something to tell.
    stirred: Notify,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal of {}", self.node)
    }
}

impl Journal {
    /// The journal of a node of this term; `boot` is a random number of the process.
    pub(in crate::node) fn new((me, id): (RaftId, &PublicId), boot: u64, term: u64, numbers: Arc<NodeNumbers>) -> Self {
        Self {
            me,
            node: id.to_string(),
            timeline: Timeline::default(),
            numbers,
            events: Arc::new(EventRing::new(boot)),
            tally: Tally::default(),
            names: Mutex::new(BTreeMap::from([(me, id.to_string())])),
            now: Mutex::new(Now { term, role: "", led: None, leader: None }),
            cause: Mutex::default(),
            pre_voted: Mutex::default(),
            silence: OnceLock::new(),
            stirred: Notify::new(),
        }
    }

    /// From now on it can be told how long no leader was heard.
    pub(in crate::node) fn set_silence(&self, silence: Silence) {
        let _first = self.silence.set(silence);
    }

    /// A Raft id has this public id.
    pub(in crate::node) fn knows(&self, id: RaftId, public: &PublicId) {
        let mut names = self.names.lock();
        if names.len() < MAX_NAMES || names.contains_key(&id) {
            names.insert(id, public.to_string());
        }
    }

    /// Who leads, as far as votes tell.
    pub(in crate::node) fn leader(&self) -> Option<String> {
        let leader = self.now.lock().leader;
        leader.map(|id| self.name(id))
    }

    /// The name of a node in texts.
    pub(in crate::node) fn name(&self, id: RaftId) -> String {
        self.names.lock().get(&id).cloned().unwrap_or_else(|| format!("the node with the Raft id {id}"))
    }

    /// Entries are sent to a member, or a heartbeat, without any.
    pub(in crate::node) fn sends(&self, to: RaftId, first: Option<u64>, last: u64) {
        match first {
            Some(first) => {
                self.timeline.sends(to, first.saturating_sub(1), last);
                self.tally.sends(to, (last + 1).saturating_sub(first), last);
            }
            None => self.tally.sends(to, 0, last),
        }
    }

    /// A member has acknowledged entries up to this one.
    pub(in crate::node) fn acknowledged(&self, by: RaftId, index: u64) {
        self.timeline.acknowledged(by, index);
        self.tally.acknowledged(by, index);
    }

    /// All entries up to `index` are applied.
    pub(in crate::node) fn applied(&self, index: u64) {
        self.timeline.reached(Step::Applied, index.saturating_sub(1), index);
        self.tally.applied(index);
    }

    /// The task that tells what happens often. Ends with its caller.
    pub(in crate::node) async fn tell_often(self: Arc<Self>) {
        loop {
            if timeout(IDLE_LOOK, self.stirred.notified()).await.is_ok() {
                sleep(MERGE_WINDOW).await;
            }
            self.tell();
        }
    }

    /// Tells what has been counted so far.
    fn tell(&self) {
        let (term, leads) = {
            let now = self.now.lock();
            (now.term, now.led.is_some())
        };
        let now_ms = self.timeline.now() / 1_000;
        let leader = if leads { None } else { self.leader() };
        for event in self.tally.take(now_ms, term, self.numbers.read_indexes[0].get(), |id| self.name(id), leader) {
            self.events.push(event);
        }
    }
}
