//! Fuzzing: whatever bytes come, no panic, no hang, and memory within a bound that the size of the input gives.
//!
//! These are tests of the library, in files of their own: they reach what is private, and their inputs are not among
//! the code. `cargo test` replays `__fuzz__/<target>/corpus` and adds some random inputs to it; README.md beside this
//! tells how to search for hours, with coverage as the guide.
//!
//! * `api`: requests and their parts. `wire`: what nodes say to one another, and what a command may do to the state.
//! * `log`, `snapshot`, `identity`: what is read from a disk, by their modules in `storage`.

mod command;

/// Random inputs of each target in `cargo test`: a look, not a search.
pub(crate) const SOME: usize = 300;

/// Runs `work` on an input of so many bytes. What it holds at any time beyond `base` bytes may be `factor` times the
/// input: nothing may believe a length that it only read.
#[track_caller]
pub(crate) fn bounded<T>(input: usize, factor: usize, base: usize, work: impl FnOnce() -> T) -> T {
    let mut out = None;
    let held = allocation_counter::measure(|| out = Some(work())).bytes_max;
    let most = (base + factor * input) as u64;
    assert!(held <= most, "{held} bytes are held for an input of {input}, more than {most}");
    out.expect("it was run")
}
