//! What `hraftd drill` takes.

use std::ffi::OsString;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// What `drill` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DrillArgs {
    /// How long, 2 to 3600
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub seconds: u64,
    /// Requests in a second, 1 to 5000, at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=5000))]
    pub rate: u64,
    /// Its keys and its lock begin so
    #[arg(long, value_name = "PREFIX", default_value = "drill/", value_parser = NonEmptyStringValueParser::new())]
    pub prefix: String,
    /// Stop nodes, too: this stops the node HRAFTD_NODE
    #[arg(long, value_name = "CMD", requires = "start")]
    pub stop: Option<OsString>,
    /// This starts the node HRAFTD_NODE again
    #[arg(long, value_name = "CMD", requires = "stop")]
    pub start: Option<OsString>,
}
