//! The table, and figures and samples as lines of JSON.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use crate::plan::{Asked, Cell, Kind, State};
use crate::results::{Results, Sample, Summary, median};

/// For each operation, state and size a block, with a line for each contestant and number of connections.
pub fn print(results: &Results, cells: &[Cell], kinds: &[Kind]) {
    let mut blocks: Vec<Cell> = Vec::new();
    for &cell in cells {
        if !blocks.iter().any(|block| block.same_block(cell)) {
            blocks.push(cell);
        }
    }
    for block in blocks {
        println!("\n{}, values of {} bytes", block.title(), block.size);
        println!(
            "{:>5} {:<16} {:>7} {:>13} {:>7} {:>7} {:>7} {:>7}  {:<20} {:>6} {:>7} {:>7}",
            "conns",
            "asked",
            "ops/s",
            "from–to",
            "p50",
            "p99",
            "p99.9",
            "µs CPU",
            "CPU % servers + load",
            "others",
            "ceiling",
            "etcd"
        );
        for &cell in cells.iter().filter(|cell| cell.same_block(block)) {
            for &kind in kinds {
                if is_told_elsewhere(kind, cell) {
                    continue;
                }
                if let Some(summary) = results.summary(kind, cell) {
                    println!("{}", line(results, kind, cell, &summary));
                }
            }
        }
    }
}

/// Whether the result of this cell stands where the same result is shown already, see [`Kind::own_cell`].
fn is_told_elsewhere(kind: Kind, cell: Cell) -> bool {
    kind.has_one_node() && (cell.asked != Asked::Leader || (cell.op.is_get() && cell.state == State::AsFound))
}

fn line(results: &Results, kind: Kind, cell: Cell, summary: &Summary) -> String {
    let percent = |quantile: f64| time(summary.times.value_at_quantile(quantile));
    let ratio = |other: Kind| match median(&results.ratios(kind, other, cell, Sample::rate)) {
        Some(ratio) if kind != other && kind != Kind::Ceiling => format!("{ratio:.2} x"),
        _ => String::new(),
    };
    let asked =
        if kind.has_one_node() { kind.name().to_owned() } else { format!("{} {}", kind.name(), cell.asked.name()) };
    let mut cpu = String::new();
    for server in &summary.servers {
        let _ = write!(cpu, "{:>4.0}", 100.0 * server);
    }
    let _ = write!(cpu, " +{:>4.0}", 100.0 * summary.load);
    let line = format!(
        "{:>5} {asked:<16} {:>7} {:>13} {:>7} {:>7} {:>7} {:>7.1}  {cpu:<20} {:>6.0} {:>7} {:>7}",
        cell.connections,
        count(summary.rate),
        format!("{}–{}", count(summary.lowest), count(summary.highest)),
        percent(0.5),
        percent(0.99),
        percent(0.999),
        summary.cpu_micros,
        100.0 * summary.others,
        ratio(Kind::Ceiling),
        ratio(Kind::Etcd),
    );
    line.trim_end().to_owned()
}

/// A number in three digits.
pub fn count(number: f64) -> String {
    match number {
        ..1_000.0 => format!("{number:.0}"),
        ..10_000.0 => format!("{:.2}k", number / 1_000.0),
        ..100_000.0 => format!("{:.1}k", number / 1_000.0),
        _ => format!("{:.0}k", number / 1_000.0),
    }
}

fn time(nanos: u64) -> String {
    let millis = nanos as f64 / 1e6;
    match millis {
        ..1.0 => format!("{}µs", nanos / 1_000),
        ..10.0 => format!("{millis:.2}ms"),
        ..100.0 => format!("{millis:.1}ms"),
        _ => format!("{millis:.0}ms"),
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// One line for each cell of each contestant.
pub fn write_figures(path: &Path, results: &Results, cells: &[Cell], kinds: &[Kind]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for &cell in cells {
        for &kind in kinds.iter().filter(|&&kind| !is_told_elsewhere(kind, cell)) {
            let Some(summary) = results.summary(kind, cell) else { continue };
            let micros = |quantile: f64| summary.times.value_at_quantile(quantile) / 1_000;
            let line = serde_json::json!({
                "op": cell.op.name(), "state": cell.state.name(), "asked": cell.asked.name(),
                "connections": cell.connections, "size": cell.size, "contestant": kind.name(),
                "rate": summary.rate.round(), "lowest": summary.lowest.round(), "highest": summary.highest.round(),
                "cpu_us_per_op": tenths(summary.cpu_micros),
                "p50_us": micros(0.5), "p99_us": micros(0.99), "p999_us": micros(0.999),
            });
            writeln!(out, "{line}")?;
        }
    }
    out.flush()
}

/// One line for each sample.
pub fn write_samples(path: &Path, samples: &[Sample]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for sample in samples {
        let micros = |quantile: f64| sample.times.value_at_quantile(quantile) / 1_000;
        let line = serde_json::json!({
            "op": sample.cell.op.name(), "state": sample.cell.state.name(), "asked": sample.cell.asked.name(),
            "connections": sample.cell.connections, "size": sample.cell.size, "contestant": sample.kind.name(),
            "repeat": sample.repeat, "ops": sample.times.len(), "seconds": sample.seconds,
            "p50_us": micros(0.5), "p99_us": micros(0.99), "p999_us": micros(0.999),
            "cpu_servers": sample.servers, "cpu_load": sample.load, "cpu_others": sample.others,
        });
        writeln!(out, "{line}")?;
    }
    out.flush()
}
