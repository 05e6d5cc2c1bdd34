//! The daemon: configuration, logs, then the server.

use std::process::ExitCode;

use hraftd::{config, telemetry};

fn main() -> ExitCode {
    let config = match config::from_process() {
        Ok(config) => config,
        Err(exit) => return exit.finish(),
    };
    telemetry::init(&config.log);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // The server starts here.
    tracing::info!(id = %config.public_id, http = %config.http_bind, raft = %config.raft_bind, data = %config.data, "configured");
    ExitCode::SUCCESS
}
