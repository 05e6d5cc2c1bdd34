//! SIGTERM and SIGINT: the first asks for a graceful stop, the second gets an immediate one.

use tokio::signal::unix::{SignalKind, signal};

/// Signals this close to the first are the same request.
const SAME_REQUEST: std::time::Duration = std::time::Duration::from_millis(250);

/// The exit code of a process that was told to stop twice.
const IMPATIENT: i32 = 1;

/// Ends with the first SIGTERM or SIGINT; from then on another ends the process.
pub async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals: this process can only be killed");
        return std::future::pending().await;
    };
    let mut next = async move || {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    next().await;
    tokio::spawn(async move {
        // GNU timeout and some supervisors signal the process and its group: that is one request to stop.
        let _ = tokio::time::timeout(SAME_REQUEST, async {
            loop {
                next().await;
            }
        })
        .await;
        next().await;
        tracing::warn!("told to stop again: leaving at once");
        std::process::exit(IMPATIENT);
    });
}
