//! hraftd: a clustered key-value server. Reads the command line, and runs the node it asks for.

use std::process::ExitCode;

use hraftd::config::{self, Exit};
use hraftd::{server, telemetry};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.finish(),
    }
}

fn start() -> Result<(), Exit> {
    let config = config::from_process()?;
    telemetry::init(&config.log);
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Exit::error(config::EX_FAILURE, format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(server::run(config, server::terminated()));
    // A blocking task that hangs on a dead disk must not keep the process.
    runtime.shutdown_background();
    result
}
