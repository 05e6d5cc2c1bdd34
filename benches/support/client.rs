//! A client with one request in flight, in any of the protocols.

use super::template::{Protocol, Target};
use super::{grpc, http1, http2, resp};

pub enum Client {
    Http(Box<http1::Connection>),
    Http2(Box<http2::Client>),
    Grpc(Box<grpc::Client>),
    Resp(resp::Connection),
}

impl Client {
    pub async fn put(&mut self, key: usize) -> Result<(), String> {
        match self {
            Self::Http(connection) => connection.put(key).await,
            Self::Http2(client) => client.put(key).await,
            Self::Grpc(client) => client.put(key).await,
            Self::Resp(connection) => connection.put(key).await,
        }
    }

    pub async fn get(&mut self, key: usize) -> Result<(), String> {
        match self {
            Self::Http(connection) => connection.get(key).await,
            Self::Http2(client) => client.get(key).await,
            Self::Grpc(client) => client.get(key).await,
            Self::Resp(connection) => connection.get(key).await,
        }
    }
}

/// Opens `count` clients. Those of gRPC, or of HTTP/2, share at most `channels` connections.
pub async fn open(target: &Target, count: usize, channels: usize) -> Result<Vec<Client>, String> {
    let mut clients = Vec::new();
    match target.protocol {
        Protocol::Http => {
            for addr in target.addrs.iter().cycle().take(count) {
                clients.push(Client::Http(Box::new(http1::Connection::open(addr, target).await?)));
            }
        }
        Protocol::Resp => {
            for addr in target.addrs.iter().cycle().take(count) {
                clients.push(Client::Resp(resp::Connection::open(addr, target).await?));
            }
        }
        Protocol::Http2 | Protocol::Grpc => {
            let mut open = Vec::new();
            let channels = channels.max(target.addrs.len()).min(count);
            for addr in target.addrs.iter().cycle().take(channels) {
                open.push(grpc::Channel::open(addr).await?);
            }
            for channel in open.iter().cycle().take(count) {
                let channel = channel.clone();
                clients.push(match target.protocol {
                    Protocol::Http2 => Client::Http2(Box::new(http2::Client::new(channel, target)?)),
                    _ => Client::Grpc(Box::new(grpc::Client::new(channel, target)?)),
                });
            }
        }
    }
    Ok(clients)
}
