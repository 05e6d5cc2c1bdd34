//! The quota of the cluster, as its leader has it, and how full the state is.
//!
//! The limit is state, so all nodes refuse the same writes. Who leads proposes its own `--quota` where that differs: nodes
//! with different ones change the limit with each change of the leader, and each time a warning says so.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Finding, Node, Severity, State};
use crate::command::Action;
use crate::formats::Feature;
use crate::platform;

/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// An entry that is not committed by then may still be.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// From so many percent of the quota on a warning says so.
const WARN_PERCENT: u64 = 80;

/// It is full, or nearly so, until there are so many percent less.
const MARGIN_PERCENT: u64 = 5;

/// The quota that this node was given, in bytes; 0: any number. `None` until it is known: then it proposes none.
#[derive(Debug, Default)]
pub(super) struct Own(watch::Sender<Option<u64>>);

impl Node {
    /// This node's quota, in bytes; 0: any number. As the leader it makes that the cluster's.
    pub fn set_quota(&self, bytes: u64) {
        self.inner.quota.0.send_replace(Some(bytes));
    }

    /// The task that makes this node's quota the cluster's while it leads, and tells how full the state is.
    pub(super) async fn keep_quota(self) {
        let mut own = self.inner.quota.0.subscribe();
        let (mut level, mut waits) = (Level::default(), false);
        loop {
            if let Some(fullness) = level.turned(self.percent()) {
                match (fullness, self.fullness()) {
                    (Fullness::Some, _) => tracing::info!("keys and values are well below the quota again"),
                    (_, Some(why)) => tracing::warn!("{why}"),
                    (_, None) => {}
                }
            }
            let wanted = *own.borrow_and_update();
            if let Some(wanted) = wanted.filter(|wanted| *wanted != self.inner.map.quota())
                && self.state() == State::Leader
            {
                let can = self.format() >= Feature::Quota.format();
                if can {
                    self.propose_quota(wanted).await;
                } else if !std::mem::replace(&mut waits, true) {
                    tracing::info!("--quota waits until all members understand quotas");
                }
            }
            tokio::select! {
                () = sleep(LOOK_INTERVAL) => {}
                changed = own.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn propose_quota(&self, wanted: u64) {
        let deadline = Instant::now() + PROPOSAL_TIMEOUT;
        // What earlier leaders committed is applied here.
        if self.confirm_as_leader().await.is_none() || self.term_led(deadline).await.is_none() {
            return;
        }
        let was = self.inner.map.quota();
        if was == wanted {
            return;
        }
        let mut command = Arc::new(Action::Quota { bytes: wanted }.into());
        match self.propose(&mut command, PROPOSAL_TIMEOUT, deadline).await {
            Ok(_) if was == 0 => tracing::info!("the cluster's quota is {} now", shown(wanted)),
            Ok(_) => tracing::warn!(
                "the cluster's quota was {}, and is {} now, as this leader's --quota says; give all nodes the same",
                shown(was),
                if wanted == 0 { "none".to_owned() } else { shown(wanted) }
            ),
            Err(error) => tracing::info!("the quota is not set yet: {error:?}"),
        }
    }

    /// What the doctor says of it.
    pub(super) fn is_full(&self) -> Option<Finding> {
        let (bytes, quota) = (self.inner.map.sizes().bytes, self.inner.map.quota());
        Some(Finding {
            severity: if quota > 0 && bytes >= quota { Severity::Critical } else { Severity::Warning },
            what: self.fullness()?,
            evidence: vec![("state_bytes", bytes as f64), ("quota_bytes", quota as f64)],
            node: self.id().to_string(),
            remedy: "delete keys, or raise --quota on every node; docs/operations.md, The quota".to_owned(),
        })
    }

    fn percent(&self) -> u64 {
        let (bytes, quota) = (self.inner.map.sizes().bytes, self.inner.map.quota());
        bytes.saturating_mul(100).checked_div(quota).unwrap_or(0)
    }

    /// A warning where the state is nearly full, or has no quota and may outgrow the memory.
    pub(super) fn fullness(&self) -> Option<String> {
        fullness(self.inner.map.sizes().bytes, self.inner.map.quota(), memory())
    }
}

/// What this process may use, as it was at first sight.
fn memory() -> Option<u64> {
    static MEMORY: OnceLock<Option<u64>> = OnceLock::new();
    *MEMORY.get_or_init(platform::memory_bytes)
}

fn fullness(bytes: u64, quota: u64, memory: Option<u64>) -> Option<String> {
    if quota == 0 {
        let memory = memory.filter(|memory| bytes >= memory / 2)?;
        return Some(format!(
            "keys and values have {}, which is half of the {} of memory that this node may use, and there is no quota: give \
             every node more memory, or a --quota",
            shown(bytes),
            shown(memory)
        ));
    }
    let percent = bytes.saturating_mul(100) / quota;
    let (bytes, quota) = (shown(bytes), shown(quota));
    match percent {
        100.. => Some(format!(
            "keys and values have {bytes}, and the quota is {quota}: writes that grow them get 507; delete keys, or raise \
             --quota on every node"
        )),
        WARN_PERCENT.. => Some(format!(
            "keys and values have {bytes}, {percent} % of the quota of {quota}; at 100 % writes that grow them get 507: \
             delete keys, or raise --quota on every node"
        )),
        _ => None,
    }
}

/// Bytes for people: whole MiB where these are many.
fn shown(bytes: u64) -> String {
    if bytes >= 100 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") }
}

/// How full the state is, for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Fullness {
    #[default]
    Some,
    Much,
    All,
}

/// What the log said last.
#[derive(Debug, Default)]
struct Level(Fullness);

impl Level {
    /// What it is now, where that has changed by enough.
    fn turned(&mut self, percent: u64) -> Option<Fullness> {
        let at = |percent: u64| match percent {
            100.. => Fullness::All,
            WARN_PERCENT.. => Fullness::Much,
            _ => Fullness::Some,
        };
        let (now, at_least) = (at(percent), at(percent + MARGIN_PERCENT));
        let now = if now < self.0 { at_least.min(self.0) } else { now };
        (now != std::mem::replace(&mut self.0, now)).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_there_is_something_to_do() {
        assert_eq!(fullness(79, 100, None), None);
        assert!(fullness(80, 100, None).unwrap().contains("80 % of the quota of 100 bytes"));
        assert!(fullness(100, 100, None).unwrap().contains("get 507; delete keys"));
        assert!(fullness(300 << 20, 200 << 20, None).unwrap().contains("300 MiB, and the quota is 200 MiB"));
        assert_eq!(fullness(50, 0, None), None);
        assert_eq!(fullness(49, 0, Some(100)), None);
        assert!(fullness(50, 0, Some(100)).unwrap().contains("half of the 100 bytes of memory"));
        assert_eq!(fullness(50, 1_000, Some(100)), None, "who gave a quota knows");
    }

    #[test]
    fn a_state_that_hovers_fills_no_log() {
        let mut level = Level::default();
        let said: Vec<_> = [79, 80, 79, 81, 100, 99, 100, 94, 79, 74, 100].map(|percent| level.turned(percent)).into();
        let (some, much, all) = (Some(Fullness::Some), Some(Fullness::Much), Some(Fullness::All));
        assert_eq!(said, [None, much, None, None, all, None, None, much, None, some, all]);
    }
}
