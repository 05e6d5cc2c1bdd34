//! Answers as tables for people. What a server says is escaped.

use std::fmt::Write as _;

use serde_json::Value;

use crate::quote::escaped;

/// The width of the bars of a waterfall.
const BAR_CHARS: f64 = 40.0;

fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    escaped(&text).into_owned()
}

/// The client address of an id.
fn haddr(id: &Value) -> String {
    text(id).split(',').next().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Columns as wide as they need to be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to memory does not fail.
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// The members and what they do.
pub(super) fn status(cluster: &Value) -> String {
    let mut rows = vec![["ADDRESS", "STATE", "SUFFRAGE", "VERSION", "RAFT ADDRESS"].map(str::to_owned).to_vec()];
    rows.extend(list(&cluster["servers"]).iter().map(|server| {
        vec![
            haddr(&server["id"]),
            text(&server["state"]),
            text(&server["suffrage"]),
            text(&server["version"]),
            text(&server["address"]),
        ]
    }));
    let mut out = table(&rows);
    if cluster["leader"].is_null() {
        out.push_str("no leader\n");
    }
    for warning in list(&cluster["warnings"]) {
        let _ = writeln!(out, "warning: {}", text(warning));
    }
    out
}

/// Tokens, without their secrets.
pub(super) fn tokens(tokens: &Value) -> String {
    let mut rows = vec![["NAME", "EXPIRES", "BY", "GRANTS"].map(str::to_owned).to_vec()];
    rows.extend(list(tokens).iter().map(|token| {
        let grants: Vec<String> = list(&token["grants"]).iter().map(text).collect();
        let ended = if token["expired"] == true { " (ended)" } else { "" };
        vec![text(&token["name"]), text(&token["expires"]) + ended, text(&token["by"]), grants.join(" ")]
    }));
    table(&rows)
}

/// What is wrong, and what mends it.
pub(super) fn doctor(doctor: &Value) -> String {
    let findings = list(&doctor["findings"]);
    if findings.is_empty() {
        return "nothing is wrong\n".to_owned();
    }
    let mut out = String::new();
    for finding in findings {
        let numbers = finding["evidence"].as_object().into_iter().flatten();
        let numbers: Vec<String> =
            numbers.map(|(name, number)| format!("{}={}", escaped(name), text(number))).collect();
        let (severity, node) = (text(&finding["severity"]), haddr(&finding["node"]));
        let _ = writeln!(out, "{severity:8}  {node}: {}", text(&finding["what"]));
        if !numbers.is_empty() {
            let _ = writeln!(out, "          {}", numbers.join(" "));
        }
        let _ = writeln!(out, "          do: {}", text(&finding["do"]));
    }
    out
}

/// When an entry came how far, as a waterfall.
pub(super) fn entry(entry: &Value) -> String {
    let mut out = format!(
        "entry {} of term {}, in the log of {} at {}\n",
        text(&entry["index"]),
        text(&entry["term"]),
        haddr(&entry["node"]),
        text(&entry["proposed"])
    );
    if !entry["passed_on_by"].is_null() {
        let _ = writeln!(out, "passed on by {}", haddr(&entry["passed_on_by"]));
    }
    let mut spans = vec![("flushed here".to_owned(), Some(0.0), entry["flushed_ms"].as_f64())];
    for member in list(&entry["members"]) {
        let name = format!("at {}", haddr(&member["id"]));
        spans.push((name, member["sent_ms"].as_f64(), member["flushed_ms"].as_f64()));
    }
    let committed = entry["committed_ms"].as_f64();
    spans.push(("committed".to_owned(), committed, committed));
    spans.push(("applied".to_owned(), committed, entry["applied_ms"].as_f64()));
    let all = spans.iter().filter_map(|(_, _, to)| *to).fold(0.001, f64::max);
    let rows: Vec<Vec<String>> = spans.iter().map(|(name, from, to)| row(name, *from, *to, all)).collect();
    out + &table(&rows)
}

fn row(name: &str, from: Option<f64>, to: Option<f64>, all: f64) -> Vec<String> {
    let ms = |time: Option<f64>| time.map_or_else(|| format!("{:>9}", "-"), |time| format!("{time:9.3}"));
    let place = |time: f64| (time / all * BAR_CHARS).round().clamp(0.0, BAR_CHARS) as usize;
    let bar = match (from, to) {
        (Some(from), Some(to)) => {
            let (from, to) = (place(from), place(to));
            format!("{}{}", " ".repeat(from), if to > from { "█".repeat(to - from) } else { "|".to_owned() })
        }
        _ => String::new(),
    };
    vec![name.to_owned(), ms(from), ms(to), "ms".to_owned(), bar]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_a_table() {
        let server = |id: &str, state: &str| json!({"id": id, "state": state, "suffrage": "Voter", "address": "a:2"});
        let cluster = json!({"leader": null, "servers": [server("a:1,a:2", "Leader"), server("long:10,b:2", "Lost")],
            "warnings": ["bad\u{1b}[2J\u{202e}"]});
        assert_eq!(
            status(&cluster),
            "ADDRESS  STATE   SUFFRAGE  VERSION  RAFT ADDRESS\na:1      Leader  Voter     -        a:2\nlong:10  Lost    \
             Voter     -        a:2\nno leader\nwarning: bad\\u{1b}[2J\\u{202e}\n"
        );
    }

    #[test]
    fn findings_name_what_to_do() {
        assert_eq!(doctor(&json!({"ok": true, "findings": []})), "nothing is wrong\n");
        let finding = json!({"severity": "warning", "what": "it is slow", "evidence": {"p99_ms": 12.5}, "node": "a:1,a:2",
            "do": "a faster disk"});
        assert_eq!(
            doctor(&json!({"ok": false, "findings": [finding]})),
            "warning   a:1: it is slow\n          p99_ms=12.5\n          do: a faster disk\n"
        );
    }

    #[test]
    fn an_entry_is_a_waterfall() {
        let shown = entry(&json!({"index": 17, "term": 3, "node": "a:1,a:2", "proposed": "t", "passed_on_by": null,
            "flushed_ms": 1.0, "committed_ms": 2.0, "applied_ms": 2.0,
            "members": [{"id": "b:1,b:2", "sent_ms": 0.5, "flushed_ms": null}]}));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "entry 17 of term 3, in the log of a:1 at t");
        assert_eq!(lines[1], format!("flushed here      0.000      1.000  ms  {}", "█".repeat(20)));
        assert_eq!(lines[2], "at b:1            0.500          -  ms");
        assert_eq!(lines[3], format!("committed         2.000      2.000  ms  {}|", " ".repeat(40)));
    }
}
