//! The events of all members, through one of them.
//!
//! Each member is asked once for all that follow here: a task each asks it for what is new, and waits there for it. The
//! tasks run while somebody follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::formats::Format;
use crate::node::rpc::{Cursor, Event, EventKind, PAGE_EVENTS, Page, PeerReply, PeerRequest, Target};
use crate::node::{EventRing, Node};
use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::task;

/// The first format in which members tell one another what they do.
const SINCE: Format = Format(2);

/// How long a member waits for news before it answers that there are none.
const WAIT: Duration = Duration::from_secs(1);

/// A member that does not answer is asked again after this; members are looked at as often.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A member that always has news is asked for them so often, and no more: it may be that it invents them.
const BETWEEN_PAGES: Duration = Duration::from_millis(50);

/// How far one who follows may be behind.
const BEHIND_EVENTS: usize = 4_096;

/// An event, and whose it is.
#[derive(Debug, Clone)]
pub struct NodeEvent {
    /// The public id of the node.
    pub node: String,
    /// What it did.
    pub event: Event,
}

/// Those who follow all members, while there are any.
#[derive(Debug, Default)]
pub(in crate::node) struct Followers(Mutex<Weak<Hub>>);

#[derive(Debug)]
struct Hub {
    told: broadcast::Sender<Arc<NodeEvent>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// What all members do from now on.
#[derive(Debug)]
pub struct AllEvents {
    events: broadcast::Receiver<Arc<NodeEvent>>,
    _hub: Arc<Hub>,
}

impl AllEvents {
    /// The next event; how many were missed, where this one was too slow. `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Arc<NodeEvent>, u64>> {
        match self.events.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Ends the tasks of members when the one that made them ends.
#[derive(Debug, Default)]
struct Members(BTreeMap<RaftId, (PublicId, JoinHandle<()>)>);

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values().for_each(|(_, task)| task.abort());
    }
}

impl Node {
    /// Follows what all members do, from now on.
    pub fn follow_all(&self) -> AllEvents {
        let mut followers = self.inner.followers.0.lock();
        let hub = followers.upgrade().unwrap_or_else(|| {
            let hub = Arc::new(Hub { told: broadcast::Sender::new(BEHIND_EVENTS), task: Mutex::default() });
            *hub.task.lock() = Some(task::spawn(self.clone().follow_members(hub.told.clone())));
            *followers = Arc::downgrade(&hub);
            hub
        });
        AllEvents { events: hub.told.subscribe(), _hub: hub }
    }

    async fn follow_members(self, told: broadcast::Sender<Arc<NodeEvent>>) {
        let mut following = Members::default();
        let own = task::spawn(self.clone().follow_own(told.clone()));
        following.0.insert(self.inner.me.raft_id(), (self.inner.id.clone(), own));
        loop {
            let members = self.members();
            following.0.retain(|id, (at, task)| {
                let stays = *id == self.inner.me.raft_id()
                    || members.iter().any(|member| member.raft_id == *id && member.server.id == *at);
                if !stays {
                    task.abort();
                }
                stays
            });
            for member in members {
                let target = Target { raft_id: Some(member.raft_id), id: member.server.id.clone() };
                following.0.entry(member.raft_id).or_insert_with(|| {
                    (member.server.id, task::spawn(self.clone().follow_member(target, told.clone())))
                });
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn follow_own(self, told: broadcast::Sender<Arc<NodeEvent>>) {
        let events = &self.inner.journal.events;
        let mut cursor = events.end();
        loop {
            let page = events.wait_after(Some(cursor), Instant::now() + WAIT).await;
            cursor = page.next;
            tell(&told, &self.inner.id, page);
        }
    }

    async fn follow_member(self, target: Target, told: broadcast::Sender<Arc<NodeEvent>>) {
        let (mut cursor, mut lost) = (None, false);
        loop {
            let page = self.ask_for_events(&target, cursor).await;
            let is_lost = page.is_err();
            if is_lost != lost {
                lost = is_lost;
                let text = match &page {
                    Err(why) => format!("{} cannot be followed: {why}.", target.id),
                    Ok(_) => format!("{} is followed again.", target.id),
                };
                let event = Event::new(EventKind::Peer, 0, 0, text).peer(target.id.to_string()).bounded();
                // Whoever follows is there, or this task is about to end.
                let _ = told.send(Arc::new(NodeEvent { node: self.inner.id.to_string(), event }));
            }
            match page {
                // What was before somebody followed is told to nobody.
                Ok(page) if cursor.is_none() => cursor = Some(page.next),
                Ok(page) => {
                    cursor = Some(page.next);
                    tell(&told, &target.id, page);
                    sleep(BETWEEN_PAGES).await;
                }
                Err(_) => sleep(RETRY_INTERVAL).await,
            }
        }
    }

    async fn ask_for_events(&self, target: &Target, after: Option<Cursor>) -> Result<Page, String> {
        if self.format() < SINCE {
            return Err("not all members of this cluster can tell what they do: they are too old".to_owned());
        }
        let wait_ms = u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX);
        // `MAX` is after all that there is: where it stands now is asked for.
        let after = after.or(Some(Cursor { boot: 0, id: u64::MAX }));
        let request = PeerRequest::Events { after, wait_ms };
        match self.inner.peers.call(target, request, WAIT * 2).await {
            Ok(PeerReply::Events(page)) if page.events.len() <= PAGE_EVENTS => Ok(page),
            Ok(_) => Err("it answered what was not asked".to_owned()),
            Err(why) => Err(why.to_string()),
        }
    }

    /// What this node has done since, for a member that follows.
    pub(in crate::node) async fn events_for(&self, after: Option<Cursor>, wait_ms: u64) -> Page {
        let events = &self.inner.journal.events;
        match after {
            Some(Cursor { boot: 0, .. }) => Page { next: events.end(), events: Vec::new(), missed: false },
            after => events.wait_after(after, Instant::now() + WAIT.min(Duration::from_millis(wait_ms))).await,
        }
    }

    /// What this node does.
    pub fn events(&self) -> Arc<EventRing> {
        self.inner.journal.events.clone()
    }
}

fn tell(told: &broadcast::Sender<Arc<NodeEvent>>, node: &PublicId, page: Page) {
    for event in page.events {
        // It says who it is only by where it was asked; its texts are bounded, whatever it is.
        let _ = told.send(Arc::new(NodeEvent { node: node.to_string(), event: event.bounded() }));
    }
}
