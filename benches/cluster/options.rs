//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::plan::{Asked, Cell, Kind, Op, State};

/// All values of a size together are at most this large.
const DATA_BYTES: usize = 100_000_000;
const SMALL_VALUE_BYTES: usize = 100;

/// Compares hraftd with etcd, with redis, and with axum without consensus.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench cluster --")]
pub struct Options {
    /// A minute instead of eight: 1 and 64 connections, one short repeat
    #[arg(value_enum)]
    preset: Option<Preset>,
    /// Only these contestants
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// [default: put,get-none,get-linearizable]
    #[arg(long, value_enum, value_delimiter = ',')]
    ops: Vec<Op>,
    /// In which state gets find a contestant [default: as-found,settled]
    #[arg(long, value_enum, value_delimiter = ',')]
    states: Vec<State>,
    /// Which nodes to ask [default: leader; for puts follower too]
    #[arg(long, value_enum, value_delimiter = ',')]
    asked: Vec<Asked>,
    /// Numbers of connections [default: 1,64,256]
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Bytes of a value [default: 100]
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Measured seconds of a cell in a repeat
    #[arg(long)]
    seconds: Option<f64>,
    /// How often everything is measured in a round
    #[arg(long)]
    repeats: Option<usize>,
    /// How often all contestants are started anew, with new data
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Distinct keys
    #[arg(long)]
    keys: Option<usize>,
    /// Connections that all clients of gRPC, or of HTTP/2, share
    #[arg(long, default_value_t = 4)]
    pub channels: usize,
    /// The binary of hraftd to measure
    #[arg(long, default_value = env!("CARGO_BIN_EXE_hraftd"))]
    pub hraftd: PathBuf,
    /// Another binary of hraftd to compare it with: the contestant `old`
    #[arg(long)]
    pub old: Option<PathBuf>,
    /// Directory for the data of all servers, on the disk that is to be measured
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub dir: PathBuf,
    /// The picture [default: benches/cluster.svg, unless only a part is measured]
    #[arg(long)]
    svg: Option<PathBuf>,
    /// A line of JSON for each cell of each contestant [default: benches/cluster.jsonl, unless only a part is measured]
    #[arg(long)]
    figures: Option<PathBuf>,
    /// A line of JSON for each sample
    #[arg(long)]
    pub samples: Option<PathBuf>,
    /// Cargo passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    Quick,
}

fn or<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { given.to_vec() }
}

impl Options {
    fn quick(&self) -> bool {
        self.preset.is_some()
    }

    pub fn contestants(&self) -> Vec<Kind> {
        let mut kinds = or(&self.only, &Kind::ALL);
        kinds.retain(|&kind| kind != Kind::Old || self.old.is_some());
        kinds.retain(|&kind| kind != Kind::Http2 || self.only.contains(&kind));
        kinds
    }

    pub fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick() { 0.5 } else { 1.5 })
    }

    pub fn repeats(&self) -> usize {
        self.repeats.unwrap_or(if self.quick() { 1 } else { 3 })
    }

    pub fn sizes(&self) -> Vec<usize> {
        or(&self.sizes, &[SMALL_VALUE_BYTES])
    }

    pub fn keys(&self, size: usize) -> usize {
        self.keys.unwrap_or(if self.quick() { 20_000 } else { 100_000 }).min(DATA_BYTES / size).max(1)
    }

    /// In an order that keeps what is compared close together in time: puts, then gets as found, then gets settled.
    pub fn cells(&self) -> Vec<Cell> {
        let connections = or(&self.connections, if self.quick() { &[1, 64] } else { &[1, 64, 256] });
        let mut cells = Vec::new();
        for size in self.sizes() {
            for &connections in &connections {
                for (op, state) in self.steps() {
                    let default: &[Asked] =
                        if op == Op::Put { &[Asked::Leader, Asked::Follower] } else { &[Asked::Leader] };
                    for asked in or(&self.asked, default) {
                        cells.push(Cell { op, state, asked, connections, size });
                    }
                }
            }
        }
        cells
    }

    fn steps(&self) -> Vec<(Op, State)> {
        let (ops, states) =
            (or(&self.ops, &[Op::Put, Op::GetNone, Op::GetLinearizable]), or(&self.states, &State::ALL));
        let mut steps = Vec::new();
        let (gets, others): (Vec<Op>, Vec<Op>) = ops.into_iter().partition(|op| op.is_get());
        steps.extend(others.into_iter().map(|op| (op, State::AsFound)));
        for state in State::ALL.into_iter().filter(|state| states.contains(state)) {
            steps.extend(gets.iter().map(|&op| (op, state)));
        }
        steps
    }

    pub fn svg(&self) -> Option<PathBuf> {
        self.svg.clone().or_else(|| self.of_whole_run(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cluster.svg")))
    }

    pub fn figures(&self) -> Option<PathBuf> {
        self.figures
            .clone()
            .or_else(|| self.of_whole_run(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cluster.jsonl")))
    }

    /// `path`, unless only a part is measured: that must not replace what `benches/README.md` shows.
    fn of_whole_run(&self, path: &str) -> Option<PathBuf> {
        let lists_are_empty =
            self.only.is_empty() && self.ops.is_empty() && self.states.is_empty() && self.asked.is_empty();
        let whole = lists_are_empty && self.connections.is_empty() && self.sizes.is_empty() && self.old.is_none();
        (whole && !self.quick()).then(|| PathBuf::from(path))
    }
}
