use super::diagnose::{Patient, View, diagnose};
use super::*;
use crate::node::State;
use crate::node::rpc::{ClockRate, Mark};
use crate::observe::SecurityFault;

fn vitals(own: u64, of: u64) -> Vitals {
    Vitals {
        version: "0.2.0".into(),
        state: if own == 1 { State::Leader } else { State::Follower },
        term: 3,
        last_log_index: 10_000,
        applied_index: 10_000,
        leader: Some(1),
        reaches: (1..=of).filter(|id| *id != own).map(|id| (id, true)).collect(),
        flush_p99: Some((2_000, 500)),
        free_bytes: Some(50 << 30),
        snapshot_bytes: 1 << 20,
        max_files: Some(65_536),
        wall_ms: 1_000_010,
        clock_rates: (1..=of).filter(|id| *id != own).map(rate_of(0)).collect(),
        timers_ms: (100, 400),
        flags: vec![("--max-value".to_owned(), "1048576".to_owned())],
        mark: Some(Mark { index: 9_000, digest: 7 }),
        leader_changes: 1,
        compacted: 0,
        hindrances: Vec::new(),
        voted_for: Some(1),
        commit_index: 10_000,
        contact_ms: Some(100),
        secrets: vec!["0011223344556677".to_owned()],
        security: Vec::new(),
        certificate_ends: [2_000_000, 3_000_000],
    }
}

fn fault(which: SecurityFault) -> Vec<(SecurityFault, String)> {
    vec![(which, "so it is".to_owned())]
}

/// The rate of a member's clock.
fn rate_of(ppm: i64) -> impl Fn(u64) -> ClockRate {
    move |member| ClockRate { member, ppm, unsure_ppm: 100 }
}

fn view(of: u64) -> View {
    let patient = |id: u64| Patient {
        raft_id: id,
        id: format!("n{id}:1,n{id}:2"),
        voter: true,
        vitals: Ok(Some(vitals(id, of))),
        sent_ms: 1_000_000,
        round_trip: Duration::from_millis(20),
    };
    View { me: "n1:1,n1:2".to_owned(), why_out: None, patients: (1..=of).map(patient).collect() }
}

/// The findings of a cluster of three whose second node was changed: severity, node, and a part of what is said.
#[track_caller]
fn finds(change: impl FnOnce(&mut Vitals), severity: Severity, node: &str, part: &str) {
    let mut view = view(3);
    change(view.patients[1].vitals.as_mut().unwrap().as_mut().unwrap());
    let found = diagnose(&view);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].severity, found[0].node.split(':').next().unwrap()), (severity, node), "{found:?}");
    assert!(found[0].what.contains(part) && !found[0].remedy.is_empty(), "{found:?}");
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    assert_eq!(diagnose(&view(3)), []);
    assert_eq!(diagnose(&view(5)), []);
    let mut old = view(3);
    old.patients[2].vitals = Ok(None);
    assert_eq!(diagnose(&old), [], "one that is too old to say more");
}

#[test]
fn each_fault_is_named_at_its_node() {
    use Severity::{Critical, Warning};
    finds(|v| v.flush_p99 = Some((150_000, 40)), Warning, "n2", "slow");
    finds(|v| v.last_log_index = 100, Warning, "n2", "9900 entries");
    finds(|v| v.free_bytes = Some(300 << 20), Warning, "n2", "nearly full");
    finds(|v| v.free_bytes = Some(1 << 20), Critical, "n2", "nearly full");
    finds(|v| v.max_files = Some(256), Warning, "n2", "few files");
    finds(|v| v.wall_ms = 1_005_000, Warning, "n2", "clock");
    finds(|v| v.wall_ms = 990_000, Warning, "n2", "clock");
    finds(|v| v.flags[0].1 = "9".to_owned(), Warning, "n2", "--max-value 9");
    finds(|v| v.version = "0.3.0".into(), Warning, "n2", "runs hraftd 0.3.0");
    finds(|v| v.timers_ms = (200, 800), Warning, "n2", "--election-timeout 800ms");
    finds(|v| v.mark = Some(Mark { index: 9_000, digest: 8 }), Critical, "n2", "another");
    finds(|v| v.leader_changes = 9, Warning, "n1", "too often");
    finds(|v| v.compacted = 3, Warning, "n2", "history");
    finds(|v| v.hindrances = vec!["the disk hangs".to_owned()], Critical, "n2", "hangs");
    finds(|v| v.reaches = vec![(1, true), (3, false)], Warning, "n2", "one way");
    finds(|v| v.secrets.push("8899aabbccddeeff".to_owned()), Warning, "n2", "0011223344556677 and 8899aabbccddeeff");
    finds(|v| v.secrets.clear(), Warning, "n2", "it has no cluster secret, and n1:1");
    finds(|v| v.security = fault(SecurityFault::Secrets), Warning, "n2", "so");
    finds(|v| v.security = fault(SecurityFault::Certificate), Warning, "n2", "so");
    finds(|v| (v.security, v.certificate_ends) = (fault(SecurityFault::Certificate), [999, 0]), Critical, "n2", "so");
    finds(|v| (v.security, v.certificate_ends) = (fault(SecurityFault::ClientCa), [0, 999]), Critical, "n2", "so");
    finds(|v| v.security = fault(SecurityFault::TokensInClear), Warning, "n2", "so");
    finds(|v| v.security = fault(SecurityFault::PlainNodes), Severity::Info, "n2", "so");
    // What says nothing.
    let silent: [fn(&mut Vitals); 3] =
        [|v| v.flush_p99 = Some((150_000, 3)), |v| v.mark = None, |v| v.mark = Some(Mark { index: 8_000, digest: 9 })];
    for silent in silent {
        let mut view = view(3);
        silent(view.patients[1].vitals.as_mut().unwrap().as_mut().unwrap());
        assert_eq!(diagnose(&view), []);
    }
}

#[test]
fn a_clock_that_is_fast_or_slow_is_found_by_what_the_others_say() {
    for ppm in [50_000, -50_000] {
        let mut view = view(3);
        for (at, patient) in view.patients.iter_mut().enumerate() {
            let vitals = patient.vitals.as_mut().unwrap().as_mut().unwrap();
            for rate in &mut vitals.clock_rates {
                rate.ppm = match (at, rate.member) {
                    (1, _) => -ppm,
                    (_, 2) => ppm,
                    _ => 0,
                };
            }
        }
        let found = diagnose(&view);
        assert_eq!((found.len(), &found[0].node[..2]), (1, "n2"), "{found:?}");
        assert!(found[0].what.contains(if ppm > 0 { "fast" } else { "slow" }), "{found:?}");
    }
    let mut unsure = view(3);
    for patient in &mut unsure.patients {
        let vitals = patient.vitals.as_mut().unwrap().as_mut().unwrap();
        vitals.clock_rates =
            vitals.clock_rates.iter().map(|r| ClockRate { ppm: 60_000, unsure_ppm: 60_000, ..*r }).collect();
    }
    assert_eq!(diagnose(&unsure), []);
}

#[test]
fn a_member_with_another_secret_is_told_what_to_do() {
    let mut view = view(3);
    view.patients[2].vitals = Err("it has a certificate of the cluster secret 8899aabbccddeeff".to_owned());
    let found = diagnose(&view);
    assert!(found[0].what.contains("no cluster secret in common") && found[0].remedy.contains("hraftd secret --id"));
}

#[test]
fn silent_members_and_what_is_left_of_the_quorum() {
    let summary = |view: &View| {
        let found = diagnose(view);
        assert!(found.is_sorted_by_key(|finding| finding.severity));
        found.into_iter().map(|finding| (finding.severity, finding.node[..2].to_owned())).collect::<Vec<_>>()
    };
    let mut one = view(3);
    one.patients[2].vitals = Err("no answer".to_owned());
    let warning = |node: &str| (Severity::Warning, node.to_owned());
    assert_eq!(summary(&one), [warning("n3"), warning("n1")]);
    let mut two = one.clone();
    two.patients[1].vitals = Err("no answer".to_owned());
    assert_eq!(summary(&two), [(Severity::Critical, "n1".to_owned()), warning("n2"), warning("n3")]);
    let mut of_five = view(5);
    of_five.patients[4].vitals = Err("no answer".to_owned());
    assert_eq!(summary(&of_five), [warning("n5")]);
    let info = vec![(Severity::Info, "n1".to_owned())];
    assert_eq!((summary(&view(1)), summary(&view(2)), summary(&view(4))), (info.clone(), info.clone(), info));
    let mut out = view(3);
    out.why_out = Some("this node was removed".to_owned());
    assert_eq!(summary(&out), [(Severity::Critical, "n1".to_owned())]);
    let mut apart = view(3);
    for (node, other) in [(1, 3), (2, 2)] {
        let vitals = apart.patients[node].vitals.as_mut().unwrap().as_mut().unwrap();
        vitals.reaches.iter_mut().filter(|(id, _)| *id == other).for_each(|(_, reached)| *reached = false);
    }
    assert_eq!(summary(&apart), [warning("n2")], "told once");
}
