//! What a bench says in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::times::Times;
use crate::quote::escaped;

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) puts: Times,
    pub(super) reads: Times,
    /// By their kinds: how often, and what the last one said.
    pub(super) errors: BTreeMap<String, (u64, String)>,
}

impl Measured {
    pub(super) fn failed(&mut self, kind: &str, why: String) {
        let error = self.errors.entry(kind.to_owned()).or_default();
        *error = (error.0 + 1, why);
    }

    pub(super) fn answered(&self) -> u64 {
        self.puts.count() + self.reads.count()
    }
}

/// What was asked for, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) seconds: f64,
    pub(super) connections: usize,
    pub(super) nodes: usize,
    pub(super) value_size: u64,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// For people.
pub(super) fn text(run: Run, measured: &Measured) -> String {
    let Run { seconds, connections, nodes, value_size } = run;
    let rate = |count: u64| count as f64 / seconds.max(0.001);
    let s = |count: usize| if count == 1 { "" } else { "s" };
    let mut out = format!(
        "{seconds:.0} s with {connections} connection{} to {nodes} node{}: {:.0} requests/s\n{:<7}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
        s(connections),
        s(nodes),
        rate(measured.answered()),
        "",
        "answered",
        "per s",
        "p50 ms",
        "p99 ms",
        "max ms"
    );
    for (name, times) in [("puts", &measured.puts), ("reads", &measured.reads)] {
        let (count, per_second) = (times.count(), rate(times.count()));
        let [p50, p99, max] = [times.percentile(50), times.percentile(99), times.longest()].map(ms);
        // A string takes all that is written.
        let _ = writeln!(out, "{name:<7}{count:>10}{per_second:>10.0}{p50:>10.2}{p99:>10.2}{max:>10.2}");
    }
    let none = if measured.errors.is_empty() { " none" } else { "" };
    let _ = writeln!(out, "values of {value_size} bytes; errors:{none}");
    for (kind, (count, last)) in &measured.errors {
        let _ = writeln!(out, "  {count} {}, the last: {}", escaped(kind), escaped(last));
    }
    out
}

/// For programs.
pub(super) fn json(run: Run, measured: &Measured) -> Value {
    let Run { seconds, connections, nodes, value_size } = run;
    let of = |times: &Times| {
        let [p50, p99, max] = [times.percentile(50), times.percentile(99), times.longest()].map(ms);
        json!({"answered": times.count(), "per_second": times.count() as f64 / seconds.max(0.001), "p50_ms": p50,
            "p99_ms": p99, "max_ms": max})
    };
    let errors: BTreeMap<&str, Value> = measured
        .errors
        .iter()
        .map(|(kind, (count, last))| (kind.as_str(), json!({"count": count, "last": last})))
        .collect();
    json!({"ok": measured.answered() > 0, "seconds": seconds, "connections": connections, "nodes": nodes,
        "value_size": value_size, "puts": of(&measured.puts), "reads": of(&measured.reads), "errors": errors})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_a_table() {
        let mut measured = Measured::default();
        (1..=10).for_each(|ms| measured.puts.add(Duration::from_millis(ms)));
        measured.failed("refused: quota", "h:1: it is\nfull".to_owned());
        let run = Run { seconds: 2.0, connections: 1, nodes: 3, value_size: 100 };
        let text = text(run, &measured);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "2 s with 1 connection to 3 nodes: 5 requests/s");
        assert!(lines[2].starts_with("puts           10         5      5.") && lines[2].ends_with("10.00"), "{text}");
        assert_eq!(&lines[4..], ["values of 100 bytes; errors:", "  1 refused: quota, the last: h:1: it is\\nfull"]);
        let json = json(run, &measured);
        assert_eq!((&json["puts"]["answered"], &json["puts"]["per_second"]), (&Value::from(10), &Value::from(5.0)));
        assert_eq!(json["errors"]["refused: quota"]["count"], 1);
    }
}
