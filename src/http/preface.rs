//! How a connection in HTTP/2 begins.

/// What a client begins with (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// This many bytes of it are no request of HTTP/1.1. One less is what hyper takes for the beginning of one.
pub(super) const TOLD_BY: usize = 12;
