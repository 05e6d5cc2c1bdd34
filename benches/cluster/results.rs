//! The samples of a run, and what they say together.

use hdrhistogram::Histogram;

use crate::bench_support::load;
use crate::plan::{Cell, Kind};

/// One cell of one contestant, once.
pub struct Sample {
    pub kind: Kind,
    /// The contestant's own, see [`Kind::own_cell`].
    pub cell: Cell,
    pub repeat: usize,
    pub seconds: f64,
    /// Nanoseconds of each request.
    pub times: Histogram<u64>,
    /// CPUs in use by each server, in the order of [`crate::contestant::Contestant::in_order`].
    pub servers: Vec<f64>,
    /// CPUs in use by the clients.
    pub load: f64,
    /// CPUs in use by everything that has no part in the cell: other contestants, other users of the machine, the kernel.
    pub others: f64,
}

impl Sample {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    /// CPU that all servers together used for a request, in microseconds.
    pub fn cpu_micros(&self) -> f64 {
        1e6 * self.servers.iter().sum::<f64>() / self.rate()
    }
}

/// One cell of one contestant, all repeats together.
pub struct Summary {
    /// Median of the repeats, in requests a second.
    pub rate: f64,
    pub lowest: f64,
    pub highest: f64,
    pub times: Histogram<u64>,
    /// Median of [`Sample::cpu_micros`].
    pub cpu_micros: f64,
    pub servers: Vec<f64>,
    pub load: f64,
    pub others: f64,
}

#[derive(Default)]
pub struct Results {
    pub samples: Vec<Sample>,
    pub failed: Vec<String>,
    /// Servers that ended by themselves.
    pub ended: Vec<String>,
}

impl Results {
    fn samples_of(&self, kind: Kind, cell: Cell) -> impl Iterator<Item = &Sample> + Clone {
        let own = kind.own_cell(cell);
        self.samples.iter().filter(move |sample| sample.kind == kind && sample.cell == own)
    }

    pub fn has(&self, kind: Kind, cell: Cell, repeat: usize) -> bool {
        self.samples_of(kind, cell).any(|sample| sample.repeat == repeat)
    }

    /// `None` where the cell was not measured.
    pub fn summary(&self, kind: Kind, cell: Cell) -> Option<Summary> {
        let samples = self.samples_of(kind, cell);
        let rates: Vec<f64> = samples.clone().map(Sample::rate).collect();
        let cpu_micros: Vec<f64> = samples.clone().map(Sample::cpu_micros).collect();
        let count = rates.len() as f64;
        let mut times = load::histogram();
        let mut servers: Vec<f64> = Vec::new();
        for sample in samples.clone() {
            times.add(&sample.times).unwrap();
            servers.resize(sample.servers.len(), 0.0);
            servers.iter_mut().zip(&sample.servers).for_each(|(sum, cpus)| *sum += cpus / count);
        }
        Some(Summary {
            rate: median(&rates)?,
            lowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
            highest: rates.iter().copied().fold(0.0, f64::max),
            times,
            cpu_micros: median(&cpu_micros)?,
            servers,
            load: samples.clone().map(|sample| sample.load).sum::<f64>() / count,
            others: samples.map(|sample| sample.others).sum::<f64>() / count,
        })
    }

    /// A measure of `kind` divided by that of `other`, for each repeat that has both, in ascending order. Ratios are taken
    /// within a repeat, because machines drift.
    pub fn ratios(&self, kind: Kind, other: Kind, cell: Cell, measure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let ratio = |sample: &Sample| {
            let beside = self.samples_of(other, cell).find(|beside| beside.repeat == sample.repeat)?;
            Some(measure(sample) / measure(beside))
        };
        let mut ratios: Vec<f64> = self.samples_of(kind, cell).filter_map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }
}

pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_sub(1)? / 2;
    Some((sorted[middle] + sorted[sorted.len() / 2]) / 2.0)
}
