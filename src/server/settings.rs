//! Settings that change while the node runs: on SIGHUP the configuration is read again, as at start.
//!
//! A configuration that cannot be used changes nothing, and a warning says why.

use super::reload::{Reloads, Why};
use crate::config::{self, Config};
use crate::exit::Exit;
use crate::observe::RequestLogNow;
use crate::telemetry;

/// What settings are taken in.
pub(super) struct Live {
    /// Which requests are logged.
    pub(super) request_log: RequestLogNow,
    /// Takes the quota, in bytes.
    pub(super) set_quota: Box<dyn Fn(u64) + Send>,
}

impl Live {
    /// Has the configuration read again; `running`: the one that this node was started with.
    pub(super) fn follow(self, mut running: Config, reloads: &Reloads) {
        reloads.add(move |why| {
            if why == Why::Signal {
                self.take(&mut running, config::again());
            }
        });
    }

    fn take(&self, running: &mut Config, read: Result<Config, Exit>) {
        let new = match read {
            Ok(new) => new,
            Err(exit) => {
                tracing::warn!("{}; all settings stay as they were", exit.err.unwrap_or_default());
                return;
            }
        };
        let (live, restart) = running.changes(&new);
        if !restart.is_empty() {
            tracing::warn!("these settings differ, and need a restart of this node: {}", restart.join(", "));
        }
        if live.is_empty() {
            return;
        }
        // Before the line that says so: at a level that hides it nobody misses it.
        tracing::info!("settings that are read again: {}", live.join(", "));
        if new.log.filter != running.log.filter {
            telemetry::set_filter(&new.log.filter);
        }
        self.request_log.set(new.request_log);
        if new.quota_bytes != running.quota_bytes {
            (self.set_quota)(new.quota_bytes);
        }
        // What needs a restart is named again as long as it differs.
        (running.log.filter, running.request_log, running.quota_bytes) =
            (new.log.filter, new.request_log, new.quota_bytes);
    }
}
