//! What nodes log, with the time of the run and the node: shown where a run is traced.

use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::sim::{host, world};

struct Stamp;

impl FormatTime for Stamp {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let host = host::Host::current().map_or(0, |host| host.name());
        write!(writer, "{:>10.3} node {host}", world::elapsed().as_secs_f64())
    }
}

/// From now on all that is logged goes to stderr; `HRAFTD_LOG` chooses what, as the product's `--log` does.
pub fn show() {
    let filter = std::env::var("HRAFTD_LOG").unwrap_or_else(|_| "warn,hraftd=debug,openraft=off".to_owned());
    let logs = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_timer(Stamp);
    // A test before this one may have begun it.
    let _ = logs.with_ansi(false).with_target(false).with_writer(std::io::stderr).try_init();
}
