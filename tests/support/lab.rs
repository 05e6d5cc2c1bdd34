//! A test's own world: a temporary directory, and its place among the tests that run beside it.

use std::path::Path;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use tempfile::TempDir;

use super::node::Node;

/// Tests share the machine; one that measures time takes it alone.
static MACHINE: RwLock<()> = RwLock::new(());

#[derive(Debug)]
enum Place {
    Shared(#[allow(unused)] RwLockReadGuard<'static, ()>),
    Alone(#[allow(unused)] RwLockWriteGuard<'static, ()>),
}

/// One a test: a second one in the same thread could wait for ever for a test that wants to be alone.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
    _place: Place,
}

impl Lab {
    pub fn new() -> Self {
        Self::at(Place::Shared(MACHINE.read().unwrap_or_else(|poison| poison.into_inner())))
    }

    /// No other test of this binary has nodes while this lab lives.
    pub fn alone() -> Self {
        Self::at(Place::Alone(MACHINE.write().unwrap_or_else(|poison| poison.into_inner())))
    }

    fn at(place: Place) -> Self {
        let dir = tempfile::Builder::new().prefix("hraftd-test-").tempdir().unwrap();
        Self { dir, _place: place }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A node on free loopback ports with a directory of its own; not started.
    pub fn node(&self, name: &str) -> Node {
        Node::new(self.path(), name)
    }
}
