//! The table, and the samples as JSON.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use crate::plan::{Asked, Cell, Kind};
use crate::results::{Results, Sample, Summary};

/// For each operation and size a block, with a line for each contestant and number of connections.
pub fn print(results: &Results, cells: &[Cell], kinds: &[Kind]) {
    let mut blocks: Vec<Cell> = Vec::new();
    for &cell in cells {
        if !blocks.iter().any(|block| block.op == cell.op && block.size == cell.size) {
            blocks.push(cell);
        }
    }
    for block in blocks {
        println!("\n{}, values of {} bytes", block.op.name(), block.size);
        println!(
            "{:>5} {:<16} {:>7} {:>13} {:>7} {:>7} {:>7}  {:<20} {:>6} {:>7} {:>7}",
            "conns",
            "asked",
            "ops/s",
            "from–to",
            "p50",
            "p99",
            "p99.9",
            "CPU % servers + load",
            "others",
            "ceiling",
            "etcd"
        );
        for &cell in cells.iter().filter(|cell| cell.op == block.op && cell.size == block.size) {
            for &kind in kinds {
                if kind == Kind::Ceiling && cell.asked != Asked::Leader {
                    continue;
                }
                if let Some(summary) = results.summary(kind, cell) {
                    println!("{}", line(results, kind, cell, &summary));
                }
            }
        }
    }
}

fn line(results: &Results, kind: Kind, cell: Cell, summary: &Summary) -> String {
    let percent = |quantile: f64| time(summary.times.value_at_quantile(quantile));
    let ratio = |other: Kind| match results.ratio(kind, other, cell) {
        Some(ratio) if kind != other && kind != Kind::Ceiling => format!("{ratio:.2} x"),
        _ => String::new(),
    };
    let asked =
        if kind == Kind::Ceiling { kind.name().to_owned() } else { format!("{} {}", kind.name(), cell.asked.name()) };
    let mut cpu = String::new();
    for server in &summary.servers {
        let _ = write!(cpu, "{:>4.0}", 100.0 * server);
    }
    let _ = write!(cpu, " +{:>4.0}", 100.0 * summary.load);
    let others = 100.0 * summary.others;
    format!(
        "{:>5} {asked:<16} {:>7} {:>13} {:>7} {:>7} {:>7}  {cpu:<20} {others:>6.0} {:>7} {:>7}",
        cell.connections,
        count(summary.rate),
        format!("{}–{}", count(summary.lowest), count(summary.highest)),
        percent(0.5),
        percent(0.99),
        percent(0.999),
        ratio(Kind::Ceiling),
        ratio(Kind::Etcd),
    )
}

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

pub fn write_json(path: &Path, samples: &[Sample]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for sample in samples {
        let micros = |quantile: f64| sample.times.value_at_quantile(quantile) / 1_000;
        let line = serde_json::json!({
            "contestant": sample.kind.name(), "op": sample.cell.op.name(), "asked": sample.cell.asked.name(),
            "connections": sample.cell.connections, "size": sample.cell.size, "repeat": sample.repeat,
            "ops": sample.times.len(), "seconds": sample.seconds,
            "p50_us": micros(0.5), "p99_us": micros(0.99), "p999_us": micros(0.999),
            "cpu_servers": sample.servers, "cpu_load": sample.load, "cpu_others": sample.others,
        });
        writeln!(out, "{line}")?;
    }
    out.flush()
}
