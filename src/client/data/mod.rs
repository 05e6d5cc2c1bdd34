//! Keys in and out: `export`, `import`.
//!
//! * [`item`]: a key as a line has it. [`export`], [`import`]: lines. [`etcd`]: keys of an etcd.
//! * [`progress`]: how far it is, for whoever looks at a terminal.

mod etcd;
mod export;
mod import;
mod item;
mod progress;

pub(super) use export::export;
pub(super) use import::import;
