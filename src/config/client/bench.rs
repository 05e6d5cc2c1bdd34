//! What `hraftd bench` takes.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// What `bench` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BenchArgs {
    /// How long, 1 to 3600
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Requests under way at a time, each on a connection, 1 to 512
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=512))]
    pub connections: u64,
    /// How many of the requests are puts, 0 to 1; the others are reads
    #[arg(long, value_name = "F", default_value = "0.5", value_parser = fraction)]
    pub put_fraction: Millionths,
    /// Bytes of a value, 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub value_size: u64,
    /// Keys that are written and read, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub keys: u64,
    /// Requests in a second, at most; without it as many as are answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: Option<u64>,
    /// How fresh a read must be: linearizable, weak, none or auto
    #[arg(long, value_name = "LEVEL", value_parser = super::verbs::level)]
    pub level: Option<String>,
    /// Its keys begin so
    #[arg(long, value_name = "PREFIX", default_value = "bench/", value_parser = NonEmptyStringValueParser::new())]
    pub prefix: String,
}

/// A part of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millionths(pub u32);

fn fraction(text: &str) -> Result<Millionths, String> {
    let part: Option<f64> = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.map(|part| Millionths((part * 1e6).round() as u32)).ok_or_else(|| "not a number from 0 to 1".to_owned())
}
