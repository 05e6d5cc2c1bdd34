//! A rolling restart that nobody notices.
