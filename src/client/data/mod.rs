//! Keys in and out: `export`, `import`.
//!
//! * [`item`]: a key as a line has it. [`export`], [`import`]: lines. [`etcd`]: keys of an etcd.

mod etcd;
mod export;
mod import;
mod item;

pub(super) use export::export;
pub(super) use import::import;
