//! hraftd beside etcd and beside axum without consensus, on this machine: `cargo bench --bench cluster`. See
//! `benches/README.md`.
//!
//! Knows nothing of the crate: [`hraftd`], [`etcd`] and [`ceiling`] start processes, [`load`] drives them through
//! [`client`], [`table`] and [`svg`] show [`results`]. This file decides the order.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod ceiling;
mod client;
mod contestant;
mod etcd;
mod grpc;
mod hraftd;
mod http1;
mod load;
mod options;
mod plan;
mod process;
mod results;
#[path = "../../tests/support/mod.rs"]
mod support;
mod svg;
mod system;
mod table;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;

use contestant::{Contestant, asked};
use load::Requests;
use options::Options;
use plan::{Asked, Cell, Kind, Op};
use results::{Results, Sample, median};

/// Before a window: connections are warm, and what the last cell left behind is done.
const WARM: Duration = Duration::from_millis(300);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == process::CHILD => process::become_program(words),
        Some(word) if word == ceiling::SERVE => ceiling::serve(words.next().unwrap().to_str().unwrap()),
        _ => bench(&Options::parse()),
    }
}

fn bench(options: &Options) {
    watch_signals();
    let began = Instant::now();
    let (cells, mut kinds) = (options.cells(), options.contestants());
    println!("{}", system::describe());
    println!("{}", hraftd::version());
    match etcd::version() {
        Some(version) => println!("{version}"),
        None => {
            println!("etcd is not installed (Debian: etcd-server), so it is left out");
            kinds.retain(|&kind| kind != Kind::Etcd);
        }
    }
    let dir = tempfile::Builder::new().prefix("cluster-").tempdir_in(&options.dir).unwrap();
    let mut contestants: Vec<Contestant> = kinds.iter().map(|&kind| Contestant::start(kind, dir.path())).collect();
    for &size in &options.sizes() {
        contestants.iter().for_each(|contestant| fill(contestant, size, options));
    }

    let mut results = Results::default();
    let mut flushes = Vec::new();
    for repeat in 0..options.repeats() {
        flushes.extend(system::flush_times(dir.path()));
        eprintln!("repeat {} of {}, after {:.0?}", repeat + 1, options.repeats(), began.elapsed());
        for (number, &cell) in cells.iter().enumerate() {
            // Nobody always comes after the same other.
            for turn in 0..contestants.len() {
                if !INTERRUPTED.load(Ordering::Relaxed) && results.ended.is_empty() {
                    let contestant = &contestants[(turn + number + repeat) % contestants.len()];
                    measure(contestant, cell, repeat, options, &mut results);
                }
            }
            if results.ended.is_empty() {
                results.ended = contestants.iter_mut().flat_map(Contestant::ended).collect();
            }
        }
    }
    flushes.extend(system::flush_times(dir.path()));
    flushes.sort();
    drop((contestants, dir));
    if INTERRUPTED.load(Ordering::Relaxed) {
        std::process::exit(1);
    }
    report(options, &results, &flushes);
    println!("\ntook {:.0?}", began.elapsed());
    if !results.ended.is_empty() {
        eprintln!("the run was cut short: {}", results.ended.join("\n"));
        std::process::exit(1);
    }
}

/// Ends the run after the present cell, so that everything is cleaned up; a second signal is not waited for.
fn watch_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            let mut interrupt = signal(SignalKind::interrupt()).unwrap();
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(1);
                }
            }
        });
    });
}

fn fill(contestant: &Contestant, size: usize, options: &Options) {
    let (began, keys) = (Instant::now(), options.keys(size));
    let cell = Cell { op: Op::Put, asked: Asked::Leader, connections: 0, size };
    let leader = contestant.leader().unwrap();
    let wanted = contestant.wanted(cell, asked(&contestant.in_order().unwrap(), cell.asked), options.channels);
    load::fill(&wanted, keys).unwrap();
    assert_eq!(contestant.leader(), Ok(leader));
    eprintln!("{} has {keys} keys of {size} bytes after {:.1?}", contestant.kind.name(), began.elapsed());
}

/// One cell of one contestant, unless this repeat has it. What fails is told and left out.
fn measure(contestant: &Contestant, cell: Cell, repeat: usize, options: &Options, results: &mut Results) {
    let (kind, cell) = (contestant.kind, contestant.kind.own_cell(cell));
    if results.has(kind, cell, repeat) {
        return;
    }
    match sample(contestant, cell, repeat, options) {
        Ok(sample) => results.samples.push(sample),
        Err(error) => {
            eprintln!("{}, {cell}: {error}", kind.name());
            results.failed.push(format!("{}, {cell}: {error}", kind.name()));
        }
    }
}

fn sample(contestant: &Contestant, cell: Cell, repeat: usize, options: &Options) -> Result<Sample, String> {
    let leader = contestant.leader()?;
    let servers = contestant.in_order()?;
    let wanted = contestant.wanted(cell, asked(&servers, cell.asked), options.channels);
    let requests = Requests::Random { keys: options.keys(cell.size), puts: cell.op.puts() };
    // Ourselves, everyone, then the servers.
    let cpu = || {
        let mut seconds = vec![system::cpu_seconds(std::process::id()), system::busy_seconds()];
        seconds.extend(servers.iter().map(|server| system::cpu_seconds(server.process.pid())));
        seconds
    };
    let length = Duration::from_secs_f64(options.seconds());
    let mut used = Vec::new();
    let times = load::run(&wanted, cell.connections, &requests, WARM, length, |begin, end| {
        sleep(begin.saturating_duration_since(Instant::now()));
        let (before, from) = (cpu(), Instant::now());
        sleep(end.saturating_duration_since(Instant::now()));
        let seconds = from.elapsed().as_secs_f64();
        used = cpu().iter().zip(before).map(|(after, before)| (after - before) / seconds).collect();
    })?;
    if contestant.leader()? != leader {
        return Err("the leader changed".to_owned());
    }
    let servers = used.split_off(2);
    let others = (used[1] - used[0] - servers.iter().sum::<f64>()).max(0.0);
    Ok(Sample {
        kind: contestant.kind,
        cell,
        repeat,
        seconds: options.seconds(),
        times,
        servers,
        load: used[0],
        others,
    })
}

fn report(options: &Options, results: &Results, flushes: &[Duration]) {
    let cells = options.cells();
    table::print(results, &cells, &options.contestants());
    let flush = |quantile: f64| flushes[((flushes.len() - 1) as f64 * quantile) as usize].as_micros();
    let disk = format!("overwrite + fdatasync of 4 KiB: p50 {} µs, p99 {} µs", flush(0.5), flush(0.99));
    let others: Vec<f64> = results.samples.iter().map(|sample| sample.others).collect();
    println!("\n{disk}");
    println!(
        "CPU % taken by all that had no part in a cell: median {:.0}, at most {:.0}",
        100.0 * median(&others).unwrap_or(0.0),
        100.0 * others.iter().copied().fold(0.0, f64::max)
    );
    println!("{} samples failed and are left out", results.failed.len());
    results.failed.iter().for_each(|failed| println!("  {failed}"));
    if let Some(path) = options.svg() {
        let etcd = etcd::version().map_or(String::new(), |version| format!(", {version}"));
        let caption = format!(
            "{} cores for three nodes and the load together; {disk}; {}{etcd}; cargo bench --bench cluster",
            system::cores(),
            hraftd::version(),
        );
        written(&path, std::fs::write(&path, svg::draw(results, &cells, &caption)));
    }
    if let Some(path) = &options.json {
        written(path, table::write_json(path, &results.samples));
    }
}

fn written(path: &Path, result: std::io::Result<()>) {
    match result {
        Ok(()) => println!("wrote {}", path.display()),
        Err(error) => println!("cannot write {}: {error}", path.display()),
    }
}
