//! A machine with one process on it, which can be paused or killed at any moment.
//!
//! Every task of a node runs on its host: what is spawned while a task of a host runs is that host's too. A paused host's
//! tasks stand still while time goes on, as after SIGSTOP, or as if its clock had jumped. A killed host's tasks never run
//! again: they are dropped where they are, and nothing they still do on the way out reaches anybody.

use parking_lot::Mutex;
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::task::{AbortHandle, JoinHandle};

use super::world;

thread_local! {
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: u16,
    /// No other process has it.
    number: u64,
    /// True where nobody told it of others, so that it may form a cluster of its own.
    may_be_alone: bool,
    /// The rate of its clock, see [`super::clock`].
    rate: u32,
    dead: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    /// Wakes what wanted to run meanwhile.
    woken: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    /// The number of tasks at which those that have ended are removed.
    prune_at: usize,
}

/// On the host whose task this is; tokio's own where it is nobody's.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match Host::current() {
        Some(host) => host.spawn(future),
        None => tokio::spawn(future),
    }
}

/// As [`spawn`]: simulated nodes have no threads of their own.
pub fn spawn_on<F>(threads: &tokio::runtime::Handle, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match Host::current() {
        Some(host) => host.spawn(future),
        None => threads.spawn(future),
    }
}

/// Beside the tasks of a host: its result comes after a while, in which they go on.
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Host::current() {
        Some(host) => host.spawn(async move {
            tokio::time::sleep(world::blocking_delay()).await;
            work()
        }),
        None => tokio::task::spawn_blocking(work),
    }
}

/// Makes a host the current one until it is dropped.
struct Entered(Option<Host>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl Host {
    pub fn new(name: u16, rate: u32, may_be_alone: bool) -> Self {
        let number = world::next_number();
        let dead = AtomicBool::new(false);
        Self(Arc::new(Inner { name, number, may_be_alone, rate, dead, state: Mutex::default() }))
    }

    /// The number of its process, which no other has.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// True where nobody told its process of others.
    pub fn may_be_alone(&self) -> bool {
        self.0.may_be_alone
    }

    /// The host whose task runs now.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Its name, which is its client port.
    pub fn name(&self) -> u16 {
        self.0.name
    }

    /// The rate of its clock.
    pub fn clock_rate(&self) -> u32 {
        self.0.rate
    }

    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Entered {
        Entered(CURRENT.replace(Some(self.clone())))
    }

    /// Does something as a task of this host would.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.enter();
        work()
    }

    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = tokio::spawn(Task { host: self.clone(), future: Some(Box::pin(future)) });
        let mut state = self.0.state.lock();
        if self.is_dead() {
            task.abort();
        } else {
            if state.tasks.len() >= state.prune_at {
                state.tasks.retain(|task| !task.is_finished());
                state.prune_at = state.tasks.len() * 2 + 32;
            }
            state.tasks.push(task.abort_handle());
        }
        task
    }

    /// Ends everything on it, now and for good.
    pub fn kill(&self) {
        let State { tasks, woken, .. } = std::mem::take(&mut *self.0.state.lock());
        self.0.dead.store(true, Ordering::Relaxed);
        drop(woken);
        tasks.iter().for_each(AbortHandle::abort);
    }

    pub fn pause(&self) {
        self.0.state.lock().paused = true;
    }

    pub fn resume(&self) {
        let woken = {
            let mut state = self.0.state.lock();
            state.paused = false;
            std::mem::take(&mut state.woken)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// True where a task may run now; otherwise it is woken later.
    fn may_run(&self, cx: &Context<'_>) -> bool {
        if self.is_dead() {
            return false;
        }
        let mut state = self.0.state.lock();
        if state.paused {
            state.woken.push(cx.waker().clone());
        }
        !state.paused
    }
}

/// A task of a host.
struct Task<F> {
    host: Host,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.host.may_run(cx) {
            return Poll::Pending;
        }
        let _entered = self.host.enter();
        let future = self.future.as_mut().expect("polled until it is ready");
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => {
                // A dead process may well panic on what its disk refuses.
                if !self.host.is_dead() {
                    world::fail(format!("a task of node {} panicked: {}", self.host.name(), message_of(&*panic)));
                }
                resume_unwind(panic)
            }
        }
    }
}

impl<F> Drop for Task<F> {
    fn drop(&mut self) {
        // What is dropped may spawn.
        let future = self.future.take();
        self.host.run(|| drop(future));
    }
}

pub fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}
