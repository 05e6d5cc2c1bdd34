//! A client of either kind, with one request in flight.

use crate::{grpc, http1};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Http,
    Grpc,
}

/// What a client is to ask, but for the numbers of the keys.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub wire: Wire,
    /// Clients take turns.
    pub addrs: Vec<String>,
    pub size: usize,
    pub linearizable: bool,
    /// Of gRPC, for all clients together.
    pub channels: usize,
}

impl Wanted {
    /// Sizes have keys of their own.
    pub fn a_key(&self) -> String {
        format!("v{}-00000000", self.size)
    }

    pub fn value(&self) -> String {
        "abcdefghijklmnopqrstuvwxyz0123456789".chars().cycle().take(self.size).collect()
    }
}

/// The bytes of a request; only the number of the key differs from one to the next.
pub struct Template {
    bytes: Vec<u8>,
    number: std::ops::Range<usize>,
}

impl Template {
    /// Of a request that has this key once.
    pub fn new(key: &str, bytes: Vec<u8>) -> Self {
        let end = bytes.windows(key.len()).position(|part| part == key.as_bytes()).map_or(0, |at| at + key.len());
        Self { bytes, number: end - 8..end }
    }

    pub fn with(&mut self, mut key: usize) -> &[u8] {
        for digit in self.bytes[self.number.clone()].iter_mut().rev() {
            *digit = b'0' + (key % 10) as u8;
            key /= 10;
        }
        &self.bytes
    }
}

pub enum Client {
    Http(http1::Connection),
    Grpc(Box<grpc::Client>),
}

impl Client {
    pub async fn put(&mut self, key: usize) -> Result<(), String> {
        match self {
            Self::Http(connection) => connection.put(key).await,
            Self::Grpc(client) => client.put(key).await,
        }
    }

    pub async fn get(&mut self, key: usize) -> Result<(), String> {
        match self {
            Self::Http(connection) => connection.get(key).await,
            Self::Grpc(client) => client.get(key).await,
        }
    }
}

/// So many clients; those of gRPC share at most so many channels.
pub async fn open(wanted: &Wanted, count: usize, channels: usize) -> Result<Vec<Client>, String> {
    let mut clients = Vec::new();
    match wanted.wire {
        Wire::Http => {
            for addr in wanted.addrs.iter().cycle().take(count) {
                clients.push(Client::Http(http1::Connection::open(addr, wanted).await?));
            }
        }
        Wire::Grpc => {
            let mut open = Vec::new();
            let channels = channels.max(wanted.addrs.len()).min(count);
            for addr in wanted.addrs.iter().cycle().take(channels) {
                open.push(grpc::Channel::open(addr).await?);
            }
            for channel in open.iter().cycle().take(count) {
                clients.push(Client::Grpc(Box::new(grpc::Client::new(channel.clone(), wanted)?)));
            }
        }
    }
    Ok(clients)
}
