//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::plan::{Asked, Cell, Kind, Op};

/// All values of a size together are at most this large.
const DATA_BYTES: usize = 100_000_000;
const SMALL: usize = 100;
const LARGE: usize = 10_000;

/// Compares hraftd with etcd and with axum without consensus.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench cluster --")]
pub struct Options {
    /// One or two minutes instead of ten: 1 and 64 connections, 100 bytes, one short repeat
    #[arg(value_enum)]
    preset: Option<Preset>,
    /// Only these contestants
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    #[arg(long, value_enum, value_delimiter = ',')]
    ops: Vec<Op>,
    /// Which nodes to ask
    #[arg(long, value_enum, value_delimiter = ',')]
    asked: Vec<Asked>,
    /// Numbers of connections, for every size [default: 1,16,64,256 for 100 bytes, 64 for 10 kB]
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Bytes of a value
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Measured seconds of a cell in a repeat
    #[arg(long)]
    seconds: Option<f64>,
    /// How often everything is measured
    #[arg(long)]
    repeats: Option<usize>,
    /// Distinct keys
    #[arg(long)]
    keys: Option<usize>,
    /// gRPC channels that all clients share
    #[arg(long, default_value_t = 4)]
    pub channels: usize,
    /// Where the nodes keep their data: a directory on the disk that is meant
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub dir: PathBuf,
    /// The picture [default: benches/cluster.svg, unless only a part is measured]
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Every sample as a line of JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Cargo says this.
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
        or(&self.only, &Kind::ALL)
    }

    pub fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick() { 0.5 } else { 1.5 })
    }

    pub fn repeats(&self) -> usize {
        self.repeats.unwrap_or(if self.quick() { 1 } else { 3 })
    }

    pub fn sizes(&self) -> Vec<usize> {
        or(&self.sizes, if self.quick() { &[SMALL] } else { &[SMALL, LARGE] })
    }

    pub fn keys(&self, size: usize) -> usize {
        self.keys.unwrap_or(if self.quick() { 20_000 } else { 100_000 }).min(DATA_BYTES / size).max(1)
    }

    fn connections(&self, size: usize) -> Vec<usize> {
        let default: &[usize] = match (self.quick(), size) {
            (true, _) => &[1, 64],
            (false, LARGE) => &[64],
            (false, _) => &[1, 16, 64, 256],
        };
        or(&self.connections, default)
    }

    /// In an order that keeps what is compared close together in time.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for size in self.sizes() {
            for connections in self.connections(size) {
                for op in or(&self.ops, &Op::ALL) {
                    for asked in or(&self.asked, &[Asked::Leader, Asked::Follower, Asked::Spread]) {
                        cells.push(Cell { op, asked, connections, size });
                    }
                }
            }
        }
        cells
    }

    /// A picture of a part must not replace the one of the README.
    pub fn svg(&self) -> Option<PathBuf> {
        let part = self.quick()
            || !(self.only.is_empty() && self.ops.is_empty() && self.asked.is_empty() && self.connections.is_empty())
            || !self.sizes.is_empty();
        let default = || (!part).then(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cluster.svg")));
        self.svg.clone().or_else(default)
    }
}
