//! hraftd: a clustered key-value server. Reads the command line, and runs the node, the client or the tool it asks for.

use std::process::ExitCode;
use std::thread;

use hraftd::config::{self, Config, Task};
use hraftd::exit::{EX_FAILURE, Exit};
use hraftd::{client, credentials, offline, platform, server, telemetry};
use mimalloc::MiMalloc;
use tokio::runtime::Builder;

/// One thread allocates what another frees, command after command: clients' threads, the log's, the one that applies.
/// glibc takes locks for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let end = match config::from_process() {
        Ok(Task::Serve(config)) => serve(*config),
        Ok(Task::Offline(task)) => Err(offline::run(task)),
        Ok(Task::Bound(task)) => return client::become_bound(&task).finish(),
        Ok(Task::Client(task)) => return client::run(&task).finish(),
        Ok(Task::Check(config)) => Err(server::check_config(&config)),
        Ok(Task::Credentials(task)) => Err(credentials::run(task)),
        Err(exit) => Err(exit),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) if exit.is_again() => {
            let error = platform::run_again();
            Exit { err: exit.err.map(|why| format!("{why}, and it could not be started again: {error}")), ..exit }
                .finish()
        }
        Err(exit) => exit.finish(),
    }
}

fn serve(config: Config) -> Result<(), Exit> {
    server::check_machine_limits()?;
    let _log = telemetry::init(&config.log);
    // Clients are served by threads of their own, as many as there are processors. What is left is Raft: a chain of small
    // steps, where a hand-over between threads costs more than the step.
    let threads = thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2));
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Exit::error(EX_FAILURE, format!("cannot start threads: {error}")))?;
    let result = server::run_until_terminated(&runtime, config);
    // A blocking task that hangs on a dead disk must not keep the process.
    runtime.shutdown_background();
    result
}
