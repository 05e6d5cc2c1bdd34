//! hraftd beside etcd, redis and axum without consensus, on this machine: `cargo bench --bench cluster`. See
//! `benches/README.md`.
//!
//! Nothing here knows the crate. [`contestant`] starts processes by [`hraftd`], [`etcd`], [`redis`] and [`ceiling`].
//! [`measure`] drives them. [`table`], [`comparison`] and [`svg`] show [`results`]. This file decides the order.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../support/mod.rs"]
mod bench_support;
mod ceiling;
mod comparison;
mod contestant;
mod etcd;
mod hraftd;
mod interrupt;
mod measure;
mod options;
mod plan;
mod process;
mod redis;
mod results;
#[path = "../../tests/support/mod.rs"]
mod support;
mod svg;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;

use bench_support::system;
use contestant::{Contestant, Found};
use options::Options;
use plan::Kind;
use results::{Results, median};

fn main() {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == process::CHILD => process::become_program(words),
        Some(word) if word == ceiling::SERVE => ceiling::serve(words.next().unwrap().to_str().unwrap()),
        _ => bench(&Options::parse()),
    }
}

fn bench(options: &Options) {
    interrupt::watch_signals();
    let began = Instant::now();
    println!("{}", system::describe());
    let mut contestants = Vec::new();
    for kind in options.contestants() {
        match contestant::find(kind, options) {
            Ok(found) => {
                println!("{}: {}", kind.name(), found.version);
                contestants.push(found);
            }
            Err(missing) => println!("{missing}"),
        }
    }
    let mut run = Run { options, results: Results::default(), flushes: Vec::new(), began };
    for round in 0..options.rounds {
        // Nobody is always started after the same other.
        contestants.rotate_left(round.min(1));
        run.round(round, &contestants);
    }
    if interrupt::requested() {
        std::process::exit(1);
    }
    contestants.sort_by_key(|found| Kind::ALL.iter().position(|&kind| kind == found.kind));
    run.report(&contestants);
    println!("\ntook {:.0?}", began.elapsed());
    if !run.results.ended.is_empty() {
        eprintln!("the run was cut short: {}", run.results.ended.join("\n"));
        std::process::exit(1);
    }
}

struct Run<'a> {
    options: &'a Options,
    results: Results,
    flushes: Vec<Duration>,
    began: Instant,
}

impl Run<'_> {
    /// Starts all contestants with new data and measures every cell of each, so often as asked.
    fn round(&mut self, round: usize, found: &[Found]) {
        let (options, cells) = (self.options, self.options.cells());
        let dir = tempfile::Builder::new().prefix("cluster-").tempdir_in(&options.dir).unwrap();
        let mut contestants: Vec<Contestant> = found.iter().map(|found| Contestant::start(found, dir.path())).collect();
        for size in options.sizes() {
            contestants.iter().for_each(|contestant| measure::fill(contestant, size, options));
        }
        for repeat in round * options.repeats()..(round + 1) * options.repeats() {
            self.flushes.extend(system::flush_times(dir.path()));
            let all = options.rounds * options.repeats();
            eprintln!("repeat {} of {all}, after {:.0?}", repeat + 1, self.began.elapsed());
            for (number, &cell) in cells.iter().enumerate() {
                // Nobody is always measured after the same other.
                for turn in 0..contestants.len() {
                    if !interrupt::requested() && self.results.ended.is_empty() {
                        let contestant = &contestants[(turn + number + repeat) % contestants.len()];
                        measure::cell(contestant, cell, repeat, options, &mut self.results);
                    }
                }
                if self.results.ended.is_empty() {
                    self.results.ended = contestants.iter_mut().flat_map(Contestant::ended).collect();
                }
            }
        }
        self.flushes.extend(system::flush_times(dir.path()));
    }

    fn report(&mut self, found: &[Found]) {
        let (options, results, cells) = (self.options, &self.results, self.options.cells());
        let kinds: Vec<Kind> = found.iter().map(|found| found.kind).collect();
        table::print(results, &cells, &kinds);
        if kinds.contains(&Kind::Old) {
            comparison::print(results, &cells);
        }
        self.flushes.sort();
        let flush = |quantile: f64| self.flushes[((self.flushes.len() - 1) as f64 * quantile) as usize].as_micros();
        let disk = format!("overwrite + fdatasync of 4 KiB: p50 {} µs, p99 {} µs", flush(0.5), flush(0.99));
        let others: Vec<f64> = results.samples.iter().map(|sample| sample.others).collect();
        println!("\n{disk}");
        println!(
            "CPU % used by all that had no part in a cell: median {:.0}, at most {:.0}",
            100.0 * median(&others).unwrap_or(0.0),
            100.0 * others.iter().copied().fold(0.0, f64::max)
        );
        println!("{} samples failed and are left out", results.failed.len());
        results.failed.iter().for_each(|failed| println!("  {failed}"));
        if let Some(path) = options.svg() {
            let versions: Vec<&str> = found.iter().map(|found| found.version.as_str()).collect();
            let caption =
                format!("{} cores for servers and load together; {disk}; {}", system::cores(), versions.join(", "));
            written(&path, std::fs::write(&path, svg::draw(results, &cells, &caption)));
        }
        if let Some(path) = &options.figures() {
            written(path, table::write_figures(path, results, &cells, &kinds));
        }
        if let Some(path) = &options.samples {
            written(path, table::write_samples(path, &results.samples));
        }
    }
}

fn written(path: &Path, result: std::io::Result<()>) {
    match result {
        Ok(()) => println!("wrote {}", path.display()),
        Err(error) => println!("cannot write {}: {error}", path.display()),
    }
}
