//! The only voter of its own log may be one of many, with an old log: before it leads alone it asks around.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep};

use super::lose;
use super::start::{Standing, ask_standing};
use crate::node::Node;
use crate::node_id::HostPort;

/// How long the only voter listens, as a node that would form a cluster does.
const LISTEN_DURATION: Duration = Duration::from_secs(1);

/// How long it waits for a leader of nodes that are of its cluster, and that it does not know.
const STRANGERS_WAIT: Duration = Duration::from_secs(5);

/// How often it asks.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

impl Node {
    /// False for a node that takes no part.
    pub(in crate::node) fn may_elect(&self) -> bool {
        self.refuse_out().is_ok()
    }

    /// True where the newest membership that it knows has no other voter.
    pub(in crate::node) fn is_only_voter(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut voters = metrics.membership_config.voter_ids().peekable();
        voters.peek().is_some() && voters.all(|voter| voter == metrics.id)
    }

    /// Lets the only voter elect itself, unless others know better: a leader that a quorum confirms without it, or who has
    /// seen a later start of it. `was_listed`: `--rjoin` was given, and the others that it names are `others`.
    pub(in crate::node) async fn lead_alone(&self, was_listed: bool, others: &[HostPort]) {
        let me = &self.inner.me;
        let began = Instant::now();
        while was_listed && self.is_only_voter() && self.inner.freshness.since_received().is_none() {
            let asked = ask_standing(&self.inner.peers, me, self.member_ids(), others).await;
            if let Some(why) = asked.lost {
                return lose(me, why);
            }
            match asked.standing {
                Standing::Member => {
                    let why = "its log says that it is the only voter, and its cluster has others: its data directory was put \
                               back from the past";
                    return lose(me, why.to_owned());
                }
                Standing::Removed(index) => return self.leave(index).await,
                Standing::Unknown => {}
            }
            if began.elapsed() >= if asked.strangers { STRANGERS_WAIT } else { LISTEN_DURATION } {
                break;
            }
            sleep(ASK_INTERVAL).await;
        }
        self.inner.raft.runtime_config().elect(self.may_elect());
    }
}
