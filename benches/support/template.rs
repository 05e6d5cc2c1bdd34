//! Requests that are prepared once and sent often.

use std::ops::Range;
use std::sync::Arc;

use rustls::ClientConfig;

/// Digits of a key's number.
const NUMBER_DIGITS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, as hraftd speaks it.
    Http,
    /// HTTP/2, as hraftd speaks it.
    Http2,
    /// gRPC, as etcd speaks it.
    Grpc,
    /// The protocol of redis.
    Resp,
}

/// Where requests go and what they ask, except for the number of the key.
#[derive(Debug, Clone)]
pub struct Target {
    pub protocol: Protocol,
    /// Clients are spread over these evenly.
    pub addrs: Vec<String>,
    pub value_bytes: usize,
    /// Whether gets are linearizable; otherwise the asked node answers from what it has.
    pub linearizable: bool,
    /// Connections of gRPC or HTTP/2 that all clients share.
    pub channels: usize,
    /// What clients of HTTP trust and show, where they speak TLS.
    pub secure: Option<Secure>,
}

/// What clients trust, and the token that they show.
#[derive(Debug, Clone)]
pub struct Secure {
    pub config: Arc<ClientConfig>,
    pub token: String,
}

impl Target {
    /// The key with number 0. Values of each size have keys of their own.
    pub fn first_key(&self) -> String {
        format!("v{}-{:0NUMBER_DIGITS$}", self.value_bytes, 0)
    }

    pub fn value(&self) -> String {
        "abcdefghijklmnopqrstuvwxyz0123456789".chars().cycle().take(self.value_bytes).collect()
    }
}

/// The bytes of a request, of which only the number of the key changes.
pub struct Template {
    bytes: Vec<u8>,
    number: Range<usize>,
}

impl Template {
    /// A template of a request that holds this key exactly once.
    pub fn new(key: &str, bytes: Vec<u8>) -> Self {
        let start = bytes.windows(key.len()).position(|part| part == key.as_bytes()).unwrap();
        let end = start + key.len();
        Self { bytes, number: end - NUMBER_DIGITS..end }
    }

    pub fn with_key(&mut self, mut number: usize) -> &[u8] {
        for digit in self.bytes[self.number.clone()].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.bytes
    }
}
