//! Secrets as text and in files: the cluster's (`hrs_…`) and tokens (`hrt_…`); and what a browser gets for a token
//! (`hrc_…`).
//!
//! Contract:
//! * Only generated ones exist: 256 bits of the system's randomness, with a checksum. What was cut off, or mistyped, is
//!   an error that says so, and no error text has any of it.
//! * Bytes are overwritten when they are dropped, and compared in constant time. [`std::fmt::Debug`] shows none.
//! * A file is private, or it is not read: see [`read_private`]. [`FileWatch`] sees that it has changed.
//! * [`mask`] is for whatever leaves the process as text.
//!
//! A leaf: knows nothing of nodes, networks or flags.

mod cluster;
mod file;
mod mask;
mod session;
mod text;
mod token;
mod watch;

pub use cluster::{ClusterSecret, SecretId};
pub use file::{
    Access, FileError, LineFault, MAX_FILE_BYTES, parse_list, read_file, read_list, read_private, write_new,
};
pub use mask::mask;
pub use session::{Session, SessionKey, SessionOf};
pub(crate) use text::random;
pub use text::{Generated, TextError};
pub use token::{Token, TokenId, TokenMark};
pub use watch::FileWatch;

use subtle::ConstantTimeEq;

/// True for the same bytes; how long it takes tells at most the lengths.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
