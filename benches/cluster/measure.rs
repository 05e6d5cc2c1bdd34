//! One cell of one contestant.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench_support::load::{self, Requests};
use crate::bench_support::system;
use crate::contestant::{Contestant, asked};
use crate::options::Options;
use crate::plan::{Asked, Cell, Op, State};
use crate::results::{Results, Sample};

/// Before a window: connections get warm, and what the last cell left behind gets done.
const WARM: Duration = Duration::from_millis(300);

/// Puts before gets that are to find a contestant just written to.
const BURST: Duration = Duration::from_millis(500);
const BURST_CONNECTIONS: usize = 64;

/// Writes every key once. Panics where that fails.
pub fn fill(contestant: &Contestant, size: usize, options: &Options) {
    let (began, keys) = (Instant::now(), options.keys(size));
    let cell = puts_at_leader(size);
    let leader = contestant.leader().unwrap();
    let target = contestant.target(cell, asked(&contestant.in_order().unwrap(), cell.asked), options.channels);
    load::fill(&target, keys).unwrap();
    contestant.was_written();
    assert_eq!(contestant.leader(), Ok(leader));
    eprintln!("{} has {keys} keys of {size} bytes after {:.1?}", contestant.kind.name(), began.elapsed());
}

fn puts_at_leader(size: usize) -> Cell {
    Cell { op: Op::Put, state: State::AsFound, asked: Asked::Leader, connections: BURST_CONNECTIONS, size }
}

/// Measures one cell of one contestant, unless this repeat has it. A failure is recorded instead of a sample.
pub fn cell(contestant: &Contestant, cell: Cell, repeat: usize, options: &Options, results: &mut Results) {
    let (kind, cell) = (contestant.kind, contestant.kind.own_cell(cell));
    if results.has(kind, cell, repeat) {
        return;
    }
    match prepare(contestant, cell, options).and_then(|()| sample(contestant, cell, repeat, options)) {
        Ok(sample) => results.samples.push(sample),
        Err(error) => {
            eprintln!("{}, {cell}: {error}", kind.name());
            results.failed.push(format!("{}, {cell}: {error}", kind.name()));
        }
    }
    if cell.op.puts() > 0 {
        contestant.was_written();
    }
}

/// Brings the contestant into the state that the cell's gets are to find.
fn prepare(contestant: &Contestant, cell: Cell, options: &Options) -> Result<(), String> {
    if !cell.op.is_get() || contestant.state() == cell.state {
        return Ok(());
    }
    match cell.state {
        State::Settled => contestant.settle(),
        State::AsFound => {
            let burst = puts_at_leader(cell.size);
            let target = contestant.target(burst, asked(&contestant.in_order()?, burst.asked), options.channels);
            let requests = Requests::Random { keys: options.keys(cell.size), puts: burst.op.puts() };
            load::run(&target, burst.connections, &requests, Duration::ZERO, BURST, |_, _| ())?;
            contestant.was_written();
            Ok(())
        }
    }
}

fn sample(contestant: &Contestant, cell: Cell, repeat: usize, options: &Options) -> Result<Sample, String> {
    let leader = contestant.leader()?;
    let servers = contestant.in_order()?;
    let target = contestant.target(cell, asked(&servers, cell.asked), options.channels);
    let requests = Requests::Random { keys: options.keys(cell.size), puts: cell.op.puts() };
    // This process, everything, then the servers.
    let cpu = || {
        let mut seconds = vec![system::cpu_seconds(std::process::id()), system::busy_seconds()];
        seconds.extend(servers.iter().map(|server| system::cpu_seconds(server.pid())));
        seconds
    };
    let length = Duration::from_secs_f64(options.seconds());
    let mut used = Vec::new();
    let times = load::run(&target, cell.connections, &requests, WARM, length, |begin, end| {
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
