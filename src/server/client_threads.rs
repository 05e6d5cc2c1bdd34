//! Threads for the client port alone.
//!
//! A runtime runs its tasks in turn: among thousands that serve clients the few of Raft would come late, and a heartbeat
//! that is late is an election. With threads of their own it is the kernel that shares the processor out, and it prefers
//! those that have slept.
//!
//! Each is a runtime of its own, and a connection stays with the one it was given to: threads of one runtime wake each
//! other with every request, to see whether there is more to do. So what takes long must not be done on them.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads; what runs on them is dropped with this.
pub(super) struct ClientThreads {
    runtimes: Vec<Runtime>,
}

impl ClientThreads {
    /// As many as there are processors.
    pub(super) fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        // Not a runtime of the current thread: one that is called from outside makes a system call for each task it wakes.
        let runtime = |_| Builder::new_multi_thread().worker_threads(1).thread_name("clients").enable_all().build();
        let mut threads = Self { runtimes: Vec::with_capacity(processors) };
        for number in 0..processors {
            // Where one fails, the others must be dropped as `Drop` does.
            threads.runtimes.push(runtime(number)?);
        }
        Ok(threads)
    }

    /// To spawn on each of them.
    pub(super) fn handles(&self) -> Vec<Handle> {
        self.runtimes.iter().map(|runtime| runtime.handle().clone()).collect()
    }

    /// To spawn on one of them.
    pub(super) fn first(&self) -> Handle {
        self.runtimes.first().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for ClientThreads {
    fn drop(&mut self) {
        for runtime in self.runtimes.drain(..) {
            // They are dropped by a task, which may not wait for others.
            runtime.shutdown_background();
        }
    }
}
