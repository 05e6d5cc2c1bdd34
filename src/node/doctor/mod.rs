//! What is wrong with this cluster, and what mends it.
//!
//! * `vitals`: what each member tells of itself, and which others it reaches.
//! * `diagnose`: what follows from that; it knows no network and no clock. `security`: of that, what concerns secrets and
//!   certificates.
//!
//! A member that does not answer is a finding, and holds nobody up for longer than [`MEMBER_TIMEOUT`].

mod diagnose;
mod findings;
mod security;
#[cfg(test)]
mod tests;
mod vitals;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::{join, join_all};

use crate::formats::Format;
use crate::node::leader::Leader;
use crate::node::rpc::{PeerError, PeerReply, PeerRequest, Refusal, Target, Vitals};
use crate::node::{Node, Server};

pub use diagnose::Patient;
use diagnose::{View, diagnose, other_version};

/// The first format in which members tell how they are.
const SINCE: Format = Format(2);

/// A member has answered by then, or does not answer.
const MEMBER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A holder's time that was up so long ago should have ended, in milliseconds: the leader looks five times a second.
const OVERDUE_MS: u64 = 5_000;

/// How bad a finding is. The worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work.
    Critical,
    /// Something will not work before long.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// The numbers that show it.
    pub evidence: Vec<(&'static str, f64)>,
    /// The public id of the node that it is about; that of the one who was asked where it is about all.
    pub node: String,
    /// What mends it.
    pub remedy: String,
}

impl Node {
    /// Asks all members at once how they are, and says what is wrong, the worst first.
    pub async fn examine(&self) -> Vec<Finding> {
        let (patients, older) = join(self.ask_vitals(), self.older_members()).await;
        let why_out = self.refuse_out().err().map(|why| why.to_string());
        let mut findings = diagnose(&View { me: self.inner.id.to_string(), why_out, patients });
        // All have the same state: this node's is as good as any.
        findings.extend(older);
        findings.extend(self.is_full());
        findings.extend(self.queue_without_holder());
        findings.sort_by_key(|finding| finding.severity);
        findings
    }

    /// Members of other versions, while these cannot tell how they are: later they tell their version, too.
    async fn older_members(&self) -> Vec<Finding> {
        if self.format() >= SINCE || self.refuse_out().is_err() {
            return Vec::new();
        }
        let own = self.speaks().version;
        let all = self.what_all_speak().await.into_iter();
        let others = all.filter_map(|(member, speaks)| Some((member.server.id.to_string(), speaks?.version)));
        let others = others.filter(|(_, version)| *version != own);
        others.map(|(id, version)| other_version(id, &version, &self.id().to_string(), &own)).collect()
    }

    /// Who waits for a lock whose holder's time is up, and does not get it: nothing expires. A follower tells it only
    /// without a leader: it has the leader's time before it has all that the leader did by then.
    fn queue_without_holder(&self) -> Option<Finding> {
        if self.refuse_out().is_err() || self.leader().is_some_and(|leader| leader != Leader::ThisNode) {
            return None;
        }
        let due = self.clock().now_ms().saturating_sub(OVERDUE_MS);
        let (locks, waiters) = self.inner.map.waiting_for_nobody(due);
        (locks > 0).then(|| Finding {
            severity: Severity::Warning,
            what: "a queue of a lock has no holder: the last one's time is up, and the next one does not get it"
                .to_owned(),
            evidence: vec![("locks", locks as f64), ("waiting", waiters as f64)],
            node: self.id().to_string(),
            remedy:
                "nothing expires without a leader that can commit: mend what is critical, or make another node the \
                     leader"
                    .to_owned(),
        })
    }

    /// Asks all members at once how they are; once for all who wait for that.
    pub async fn ask_vitals(&self) -> Vec<Patient> {
        let node = self.clone();
        self.inner.vitals_rounds.ask(move || async move { node.ask_vitals_alone().await }).await
    }

    async fn ask_vitals_alone(&self) -> Vec<Patient> {
        let me = self.inner.me.raft_id();
        let asked = self.members().into_iter().map(async |member| {
            let sent = SystemTime::now();
            let vitals = if member.raft_id == me {
                Ok(Some(self.vitals().await))
            } else {
                self.vitals_of(&Target { raft_id: Some(member.raft_id), id: member.server.id.clone() }).await
            };
            let round_trip = sent.elapsed().unwrap_or_default();
            let sent_ms = sent.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            let Server { id, voter } = member.server;
            Patient { raft_id: member.raft_id, id: id.to_string(), voter, vitals, sent_ms, round_trip }
        });
        join_all(asked).await
    }

    async fn vitals_of(&self, target: &Target) -> Result<Option<Vitals>, String> {
        // An older member is only asked whether it lives.
        let request = if self.format() < SINCE { PeerRequest::Status } else { PeerRequest::Examine };
        let answer = self.inner.peers.call(target, request, MEMBER_TIMEOUT);
        match tokio::time::timeout(MEMBER_TIMEOUT, answer).await {
            Ok(Ok(PeerReply::Examine(vitals))) => Ok(Some(*vitals)),
            Ok(Ok(PeerReply::Status(..))) => Ok(None),
            Ok(Ok(_)) => Err("it answers what was not asked".to_owned()),
            Ok(Err(PeerError::Refused(Refusal::Diverged(why)))) => Err(format!("it has diverged: {why}")),
            Ok(Err(why)) => Err(why.to_string()),
            Err(_) => Err(format!("no answer within {} ms", MEMBER_TIMEOUT.as_millis())),
        }
    }
}
