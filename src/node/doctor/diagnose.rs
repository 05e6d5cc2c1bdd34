//! What follows from what members tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::findings::Findings;
use super::security::{self, NO_SECRET_IN_COMMON};
use super::{Finding, Severity};
use crate::node::State;
use crate::node::rpc::Vitals;
use crate::node::status::even_voters;
use crate::raft_types::RaftId;

/// A member is far behind that lacks as many entries.
const FAR_BEHIND_ENTRIES: u64 = 5_000;

/// Fewer flushes say nothing.
const MIN_FLUSHES: u64 = 20;

/// A node needs as much for its log, beside two snapshots.
const NEEDED_BYTES: u64 = 512 << 20;

/// Fewer files are too few for many clients.
const MIN_FILES: u64 = 1_024;

/// Clocks differ by more than is usual.
const MAX_SKEW_MS: u64 = 1_000;

/// Clocks that nobody sets run at rates that differ by some fifty. What is ten times as much is broken.
const MAX_RATE_PPM: u64 = 2_000;

/// More leaders in ten minutes are too many.
const MAX_LEADERS: u64 = 5;

/// A member, as it was found.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The name that Raft uses.
    pub raft_id: RaftId,
    /// Its public id.
    pub id: String,
    /// It has a vote.
    pub voter: bool,
    /// `None`: it answers, and is too old to say more. Or why it does not answer.
    pub vitals: Result<Option<Vitals>, String>,
    /// The asker's time when it was asked, in milliseconds since 1970.
    pub sent_ms: u64,
    /// How long that took.
    pub round_trip: Duration,
}

impl Patient {
    fn vitals(&self) -> Option<&Vitals> {
        self.vitals.as_ref().ok()?.as_ref()
    }
}

/// All that was found.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Who was asked.
    pub(super) me: String,
    /// Why that takes no part any more.
    pub(super) why_out: Option<String>,
    pub(super) patients: Vec<Patient>,
}

/// What is wrong, the worst first.
pub(super) fn diagnose(view: &View) -> Vec<Finding> {
    let mut findings = Findings::default();
    if let Some(why) = &view.why_out {
        let remedy = "docs/operations.md says how such a node comes back; ask another for the state of the cluster";
        findings.add(Severity::Critical, &view.me, why.clone(), &[], remedy);
        return findings.sorted();
    }
    if view.patients.is_empty() {
        let what = "this node is a member of no cluster yet";
        findings.add(Severity::Warning, &view.me, what, &[], "start it with --rjoin naming a node of the cluster");
        return findings.sorted();
    }
    quorum(view, &mut findings);
    links(view, &mut findings);
    rates(view, &mut findings);
    each(view, &mut findings);
    differences(view, &mut findings);
    findings.sorted()
}

fn quorum(view: &View, findings: &mut Findings) {
    let voters: Vec<&Patient> = view.patients.iter().filter(|patient| patient.voter).collect();
    let up = voters.iter().filter(|voter| voter.vitals.is_ok()).count();
    let needed = voters.len() / 2 + 1;
    let numbers = [("voters", voters.len() as f64), ("answer", up as f64), ("quorum", needed as f64)];
    for silent in view.patients.iter() {
        let Err(why) = &silent.vitals else { continue };
        let diverged = why.contains("diverged");
        let severity = if diverged { Severity::Critical } else { Severity::Warning };
        let is_stranger = security::is_stranger(why);
        let remedy = if diverged {
            aside(&silent.id)
        } else if is_stranger {
            "put the same cluster secrets into the files of all nodes; hraftd secret --id FILE shows those of a file"
                .to_owned()
        } else if up < needed {
            // A removal is an entry, which nobody could commit.
            format!("start {} again", silent.id)
        } else {
            format!(
                "start {} again; if it is lost for good: curl -X DELETE '…/hraftd/raft/remove?id={}'",
                silent.id, silent.id
            )
        };
        let what = match (diverged, is_stranger) {
            (true, _) => why.clone(),
            (false, true) => format!("{NO_SECRET_IN_COMMON}: {why}"),
            (false, false) => format!("it does not answer: {why}"),
        };
        findings.add(severity, &silent.id, what, &[("waited_ms", silent.round_trip.as_millis() as f64)], remedy);
    }
    if up < needed {
        let answers = if up == 1 { "answers" } else { "answer" };
        let what = format!(
            "no quorum: {up} of {} voters {answers}, {needed} are needed; nothing can be written",
            voters.len()
        );
        let remedy = "start the voters that do not answer again; if they run, only the way to them is cut, and they may have a \
                      leader. Only if so many are lost for good that no quorum can come \
                      back: hraftd recover --rdir DIR, on one that is left";
        findings.add(Severity::Critical, &view.me, what, &numbers, remedy);
        return;
    }
    if up == needed && up < voters.len() {
        let what = "the loss of one more voter stops writes";
        findings.add(
            Severity::Warning,
            &view.me,
            what,
            &numbers,
            "start the voters that do not answer, or replace them",
        );
    }
    if voters.len() == 1 {
        let what = "one voter alone: nothing is written while it is down, and nothing is left if its disk is lost";
        let remedy = "start two more nodes with --rjoin naming this one";
        findings.add(Severity::Info, &view.me, what, &numbers, remedy);
    } else if let Some(even) = even_voters(voters.len()) {
        let remedy = "start one more node with --rjoin naming this one, or remove one";
        findings.add(Severity::Info, &view.me, even, &numbers, remedy);
    }
    let leads = |patient: &&&Patient| patient.vitals().is_some_and(|vitals| vitals.state == State::Leader);
    if voters.iter().all(|voter| voter.vitals().is_some()) && voters.iter().find(leads).is_none() {
        let terms: Vec<u64> = voters.iter().filter_map(|voter| Some(voter.vitals()?.term)).collect();
        let term = terms.iter().max().copied().unwrap_or(0);
        let what = "no leader, though a quorum answers: an election is under way, or links between voters are broken";
        let remedy = "look again in a few seconds; then at the links between the voters";
        findings.add(Severity::Critical, &view.me, what, &[("term", term as f64)], remedy);
    }
}

/// A member runs another version than the one that it is compared with.
pub(super) fn other_version(id: String, version: &str, like_id: &str, like: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        what: format!("it runs hraftd {version}, and {like_id} runs {like}"),
        evidence: Vec::new(),
        node: id,
        remedy: "finish the upgrade: the same version on all nodes".to_owned(),
    }
}

/// How a node whose state is another begins anew. What it has may be what the others lost.
fn aside(id: &str) -> String {
    format!(
        "save from its copy what the others lack; stop {id}, move its data directory away, and start it: it joins anew"
    )
}

fn links(view: &View, findings: &mut Findings) {
    let alive: BTreeMap<RaftId, &Patient> =
        view.patients.iter().filter(|patient| patient.vitals().is_some()).map(|p| (p.raft_id, p)).collect();
    let reaches = |from: &Patient, to: RaftId| {
        from.vitals().and_then(|vitals| vitals.reaches.iter().find(|(id, _)| *id == to)).map(|(_, reached)| *reached)
    };
    let mut told = BTreeSet::new();
    for from in alive.values() {
        for to in alive.values() {
            if reaches(from, to.raft_id) != Some(false) || !told.insert((from.raft_id, to.raft_id)) {
                continue;
            }
            let back = reaches(to, from.raft_id);
            let what = match back {
                Some(true) => format!("it does not reach {}, which reaches it: a link of one way", to.id),
                _ if told.insert((to.raft_id, from.raft_id)) => format!("it and {} do not reach each other", to.id),
                _ => continue,
            };
            let port = to.id.rsplit(',').next().unwrap_or_default();
            let remedy = format!("look at firewalls and routes from it to {port}");
            findings.add(Severity::Warning, &from.id, what, &[], remedy);
        }
    }
}

fn each(view: &View, findings: &mut Findings) {
    let newest = view.patients.iter().filter_map(|patient| Some(patient.vitals()?.last_log_index)).max().unwrap_or(0);
    for patient in &view.patients {
        let Some(vitals) = patient.vitals() else { continue };
        let id = &patient.id;
        for hindrance in &vitals.hindrances {
            let remedy = "hraftd's log at that node has more; docs/operations.md, Nothing goes on";
            findings.add(Severity::Critical, id, hindrance.clone(), &[], remedy);
        }
        let slow = slow_disk(vitals);
        if let Some((p99_ms, count)) = slow {
            let numbers = [("flush_p99_ms", p99_ms), ("flushes", count), ("heartbeat_ms", vitals.timers_ms.0 as f64)];
            let what = "its disk is slow: one flush of a hundred takes longer than a heartbeat interval";
            let remedy = "give its data directory a disk of its own, or a faster one; or raise --heartbeat-interval and \
                          --election-timeout on all nodes";
            findings.add(Severity::Warning, id, what, &numbers, remedy);
        }
        let behind = newest.saturating_sub(vitals.last_log_index);
        if behind > FAR_BEHIND_ENTRIES {
            let why = match (slow.is_some(), vitals.snapshot_bytes) {
                (true, _) => "its disk is slow",
                (false, _) if vitals.leader.is_none() => "it hears no leader",
                _ => "it catches up, or receives a snapshot",
            };
            let numbers = [("behind", behind as f64), ("last_log_index", vitals.last_log_index as f64)];
            findings.add(
                Severity::Warning,
                id,
                format!("it lacks {behind} entries: {why}"),
                &numbers,
                "look again in a minute; if that grows, look at its disk and its link to the leader",
            );
        }
        room(id, vitals, findings);
        skew(patient, vitals, findings);
        security::faults(id, vitals, findings);
        if vitals.compacted > 0 {
            let what = "watchers asked for more than its history of changes has, and had to begin anew";
            let numbers = [("in_10_minutes", vitals.compacted as f64)];
            findings.add(Severity::Warning, id, what, &numbers, "raise --watch-history on all nodes");
        }
    }
    let changes = view.patients.iter().filter_map(|patient| Some(patient.vitals()?.leader_changes)).max().unwrap_or(0);
    if changes > MAX_LEADERS {
        let what = "leadership moves too often";
        let remedy =
            "slow disks or busy machines make heartbeats late: mend these, or raise --election-timeout on all nodes";
        findings.add(Severity::Warning, &view.me, what, &[("in_10_minutes", changes as f64)], remedy);
    }
}

/// The slow flushes in milliseconds, and how many flushes there were.
fn slow_disk(vitals: &Vitals) -> Option<(f64, f64)> {
    let (us, count) = vitals.flush_p99?;
    (count >= MIN_FLUSHES && us > vitals.timers_ms.0 * 1_000).then(|| (us as f64 / 1e3, count as f64))
}

fn room(id: &str, vitals: &Vitals, findings: &mut Findings) {
    if let Some(free) = vitals.free_bytes {
        let needed = NEEDED_BYTES + vitals.snapshot_bytes;
        if free < needed {
            let severity = if free < NEEDED_BYTES / 8 { Severity::Critical } else { Severity::Warning };
            let what = "its disk is nearly full: a full one stops the node";
            let numbers = [("free_bytes", free as f64), ("needed_bytes", needed as f64)];
            findings.add(severity, id, what, &numbers, "make room on the disk of its data directory");
        }
    }
    if let Some(files) = vitals.max_files.filter(|files| *files < MIN_FILES) {
        let what = "it may open few files, so few clients can connect";
        findings.add(
            Severity::Warning,
            id,
            what,
            &[("max_files", files as f64)],
            "ulimit -n 65536 before it is started",
        );
    }
}

fn skew(patient: &Patient, vitals: &Vitals, findings: &mut Findings) {
    let (from, upto) = (patient.sent_ms, patient.sent_ms + patient.round_trip.as_millis() as u64);
    // It was told at some time in between.
    let off = from.saturating_sub(vitals.wall_ms).max(vitals.wall_ms.saturating_sub(upto));
    if off > MAX_SKEW_MS {
        let what =
            "its clock is not that of the node that was asked. Nothing in hraftd goes by it, but times in logs do";
        let remedy = "let a time service set the clocks of all machines (chrony, systemd-timesyncd)";
        findings.add(Severity::Warning, &patient.id, what, &[("skew_ms", off as f64)], remedy);
    }
}

/// Finds clocks that are fast or slow: those of which more than half of the others say so.
fn rates(view: &View, findings: &mut Findings) {
    for patient in &view.patients {
        let others = view.patients.iter().filter(|other| other.raft_id != patient.raft_id);
        let measured =
            others.filter_map(|other| other.vitals()?.clock_rates.iter().find(|rate| rate.member == patient.raft_id));
        let measured: Vec<_> = measured.collect();
        let off: Vec<_> =
            measured.iter().filter(|rate| rate.ppm.unsigned_abs() > rate.unsure_ppm + MAX_RATE_PPM).collect();
        let Some(worst) = off.iter().max_by_key(|rate| rate.ppm.unsigned_abs()) else { continue };
        // Of two nodes nobody can tell whose it is: each is named.
        if off.len() * 2 <= measured.len() {
            continue;
        }
        let way = if worst.ppm > 0 { "fast" } else { "slow" };
        let what = format!("its clock runs too {way}: what expires is by its time while it leads");
        let numbers = [("ppm", worst.ppm as f64), ("unsure_ppm", worst.unsure_ppm as f64)];
        let remedy = "move leadership away from it; look at its machine's clock source, or its hypervisor";
        findings.add(Severity::Warning, &patient.id, what, &numbers, remedy);
    }
}

fn differences(view: &View, findings: &mut Findings) {
    let known: Vec<(&Patient, &Vitals)> =
        view.patients.iter().filter_map(|patient| Some((patient, patient.vitals()?))).collect();
    let Some((first, like)) = known.iter().find(|(_, vitals)| vitals.state == State::Leader).or(known.first()) else {
        return;
    };
    for (patient, vitals) in &known {
        if vitals.version != like.version {
            findings.push(other_version(patient.id.clone(), &vitals.version, &first.id, &like.version));
        }
        if vitals.timers_ms != like.timers_ms {
            let what = format!(
                "it has --heartbeat-interval {}ms and --election-timeout {}ms, and {} has {}ms and {}ms",
                vitals.timers_ms.0, vitals.timers_ms.1, first.id, like.timers_ms.0, like.timers_ms.1
            );
            let numbers = [("heartbeat_ms", vitals.timers_ms.0 as f64), ("election_ms", vitals.timers_ms.1 as f64)];
            findings.add(Severity::Warning, &patient.id, what, &numbers, "start it with the flags of the others");
        }
        for (name, value) in &vitals.flags {
            let Some((_, theirs)) = like.flags.iter().find(|(other, theirs)| other == name && theirs != value) else {
                continue;
            };
            let what = format!("it has {name} {value}, and {} has {theirs}", first.id);
            findings.add(Severity::Warning, &patient.id, what, &[], "start it with the flags of the others");
        }
        security::differ((&patient.id, vitals), (&first.id, like), findings);
        if let (Some(own), Some(theirs)) = (vitals.mark, like.mark)
            && own.index == theirs.index
            && own.digest != theirs.digest
        {
            let what = format!("its state at index {} is another than that of {}", own.index, first.id);
            let remedy = aside(&patient.id);
            findings.add(Severity::Critical, &patient.id, what, &[("index", own.index as f64)], remedy);
        }
    }
}
