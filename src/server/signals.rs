//! Signals: the first SIGTERM or SIGINT asks for a graceful stop, the second gets an immediate one. SIGHUP is of [`super::reload`].

use std::time::Duration;

use crate::platform::{self, StopSignals};

/// Signals this close to the first are the same request.
const SAME_REQUEST: Duration = Duration::from_millis(250);

/// The exit code of a process that was told to stop twice.
const SECOND_SIGNAL_EXIT_CODE: i32 = 1;

/// Makes a file beyond the limit of `ulimit -f` a failed write that is reported like any other, not a death by a signal.
pub(super) fn outlive_file_size_limit() {
    if let Err(error) = platform::catch_file_size_signal() {
        tracing::warn!(%error, "a file beyond the limit of `ulimit -f` will kill this process");
    }
}

/// Ends with the first SIGTERM or SIGINT; from then on another one ends the process.
pub async fn terminated() {
    let Ok(mut signals) = StopSignals::new() else {
        tracing::error!("cannot listen for signals: this process can only be killed");
        return std::future::pending().await;
    };
    signals.next().await;
    tokio::spawn(async move {
        // GNU timeout and some supervisors signal the process and its group: that is one request to stop.
        let _ = tokio::time::timeout(SAME_REQUEST, async {
            loop {
                signals.next().await;
            }
        })
        .await;
        signals.next().await;
        tracing::warn!("told to stop again: leaving at once");
        std::process::exit(SECOND_SIGNAL_EXIT_CODE);
    });
}
