//! What a drill says in the end: figures, and what is wrong.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::check::What;
use super::findings::Finding;
use super::history::{Fault, History};
use crate::quote::escaped;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// A disturbance has effects for so long after it.
const AFTER: u64 = 2 * SECOND;

/// How long clients waited for the next acknowledged write around faults of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    pub(super) count: usize,
    pub(super) failed: usize,
    pub(super) longest: u64,
    pub(super) median: u64,
}

/// The moments at which writes were acknowledged, in order.
fn acknowledged(history: &History) -> Vec<u64> {
    let writes = history.records.iter().filter(|record| record.op.what.written().is_some());
    let mut times: Vec<u64> = writes.filter_map(|record| record.op.returned).collect();
    times.sort_unstable();
    times
}

pub(super) fn gaps(history: &History, fault: Fault) -> Gaps {
    let times = acknowledged(history);
    let all = history.disturbances.iter().filter(|disturbance| disturbance.fault == fault);
    let (failed, done): (Vec<_>, Vec<_>) = all.partition(|disturbance| disturbance.failed.is_some());
    let longest_around = |from: u64, until: u64| {
        let first = times.partition_point(|time| *time <= from).saturating_sub(1);
        let pairs = times[first..].windows(2).take_while(|pair| pair[0] < until);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    let mut each: Vec<u64> = done.iter().map(|one| longest_around(one.from, one.until + AFTER)).collect();
    each.sort_unstable();
    Gaps {
        count: each.len(),
        failed: failed.len(),
        longest: each.last().copied().unwrap_or_default(),
        median: each.get(each.len() / 2).copied().unwrap_or_default(),
    }
}

/// Waits for the next acknowledged write of more than a second.
pub(super) fn stalls(history: &History) -> Vec<u64> {
    let times = acknowledged(history);
    times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > SECOND).collect()
}

fn ms(time: u64) -> u64 {
    time / 1_000_000
}

/// Operations that were answered, and those of unknown outcome.
fn counts(history: &History) -> (usize, usize) {
    let answered = history.records.iter().filter(|record| record.op.returned.is_some()).count();
    (answered, history.records.len() - answered)
}

fn keys(history: &History) -> usize {
    history.records.iter().map(|record| record.key).collect::<std::collections::HashSet<_>>().len()
}

fn of_kind(history: &History, is: impl Fn(What) -> bool) -> usize {
    history.records.iter().filter(|record| record.op.returned.is_some() && is(record.op.what)).count()
}

/// For people.
pub(super) fn text(history: &History, findings: &[Finding], seconds: f64) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        // A string takes all that is written.
        let _ = writeln!(out, "{name:<15}{}", escaped(&text));
    };
    line("nodes", history.nodes.join(" "));
    let (answered, unknown) = counts(history);
    let rate = answered as f64 / seconds.max(0.001);
    line(
        "requests",
        format!(
            "{answered} answered in {seconds:.0} s ({rate:.0}/s), {unknown} of unknown outcome, {} not done",
            history.not_done
        ),
    );
    line(
        "",
        format!(
            "{} writes, {} compare-and-sets, {} reads, on {} keys",
            of_kind(history, |what| matches!(what, What::Put(_))),
            of_kind(history, |what| matches!(what, What::Cas { .. })),
            of_kind(history, |what| matches!(what, What::Get(_))),
            keys(history)
        ),
    );
    for (name, fault) in [("leader moves", Fault::Move), ("node stops", Fault::Stop)] {
        let Gaps { count, failed, longest, median } = gaps(history, fault);
        let waited = match count {
            0 => String::new(),
            _ => format!("; without an acknowledged write {} ms at most, median {} ms", ms(longest), ms(median)),
        };
        let all = history.disturbances.iter().filter(|one| one.fault == fault);
        let why = all.filter_map(|one| one.failed.as_deref()).next_back();
        let failed = why.map_or_else(String::new, |why| format!(", {failed} failed ({why})"));
        line(name, format!("{count}{failed}{waited}"));
    }
    let stalls = stalls(history);
    line(
        "stalls",
        match stalls.iter().max() {
            None => "none of more than 1 s".to_owned(),
            Some(longest) => format!("{} of more than 1 s, the longest {} ms", stalls.len(), ms(*longest)),
        },
    );
    let holes = match history.holes.len() {
        0 => String::new(),
        count => format!(", told {count} times that history was too short"),
    };
    line("watch", format!("{} changes on {} streams{holes}", history.events.len(), history.watches));
    line("lock", format!("held {} times", history.tenures.len()));
    line("wrong", if findings.is_empty() { "nothing".to_owned() } else { "see below".to_owned() });
    for Finding { kind, about, proof, why } in findings {
        let _ = writeln!(out, "\n{}: {}", kind.name(), escaped(about));
        for operation in proof {
            let _ = writeln!(out, "  {}", escaped(operation));
        }
        let _ = writeln!(out, "  {}.", escaped(why));
    }
    out
}

/// For programs.
pub(super) fn json(history: &History, findings: &[Finding], seconds: f64) -> Value {
    let (answered, unknown) = counts(history);
    let around = |fault| {
        let Gaps { count, failed, longest, median } = gaps(history, fault);
        json!({"count": count, "failed": failed, "longest_gap_ms": ms(longest), "median_gap_ms": ms(median)})
    };
    let stalls: Vec<u64> = stalls(history).into_iter().map(ms).collect();
    let findings: Vec<Value> = findings
        .iter()
        .map(|Finding { kind, about, proof, why }| {
            json!({"kind": kind.name().replace(' ', "_"), "about": about, "proof": proof, "why": why})
        })
        .collect();
    json!({
        "ok": findings.is_empty(),
        "nodes": history.nodes,
        "seconds": seconds,
        "answered": answered,
        "unknown": unknown,
        "not_done": history.not_done,
        "keys": keys(history),
        "moves": around(Fault::Move),
        "stops": around(Fault::Stop),
        "stalls_ms": stalls,
        "watch": {"changes": history.events.len(), "streams": history.watches, "too_short": history.holes.len()},
        "lock": {"tenures": history.tenures.len()},
        "findings": findings,
    })
}
