//! How much a test does of what only repeats: more rounds, more seconds, more writes.

/// `plain` in `cargo test`, `full` where `HRAFTD_TESTS=full` is set, as `.ci/run` does.
pub fn extent<T>(plain: T, full: T) -> T {
    match std::env::var("HRAFTD_TESTS") {
        Ok(value) if value == "full" => full,
        Ok(value) => panic!("HRAFTD_TESTS={value}: only \"full\" means something"),
        Err(_) => plain,
    }
}
