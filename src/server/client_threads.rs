//! Threads for the client port alone.
//!
//! A runtime runs its tasks in turn: among thousands that serve clients the few of Raft would come late, and a heartbeat
//! that is late is an election. With threads of their own it is the kernel that shares the processor out, and it prefers
//! those that have slept.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// The threads; what runs on them is dropped with this.
pub(super) struct ClientThreads(Option<Runtime>);

impl ClientThreads {
    /// As many as there are processors.
    pub(super) fn start() -> io::Result<Self> {
        Builder::new_multi_thread().thread_name("clients").enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// What `start` spawns runs here.
    pub(super) fn enter<T>(&self, start: impl FnOnce() -> T) -> T {
        let _entered = self.0.as_ref().map(Runtime::enter);
        start()
    }
}

impl Drop for ClientThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // It is dropped by a task, which may not wait for others.
            runtime.shutdown_background();
        }
    }
}
