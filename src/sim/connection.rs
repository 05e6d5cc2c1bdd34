//! A connection between two hosts, for what is more than one exchange: a stream of appends.
//!
//! As TCP has it: what is sent arrives once and in order. What is lost is sent again, which takes its time, and what is sent
//! meanwhile arrives with it; nothing arrives while the way is cut. A process that dies closes its end; a machine that is
//! gone does so only once it is back.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::time::sleep;

use super::host::Host;
use super::net::Net;
use super::world::{self, Word};

/// How much a socket holds that its reader has not taken.
pub const BUFFER: usize = 64 << 10;

/// After which what was lost is sent again.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// One way of a connection.
struct Way {
    net: Net,
    from: u16,
    to: u16,
    /// The host whose messages these are, where its promises are checked.
    speaker: Option<Host>,
}

impl Way {
    async fn travel(&self) {
        while !self.net.travel(self.from, self.to).await {
            sleep(RETRANSMIT).await;
        }
    }

    async fn carry(self, mut source: ReadHalf<DuplexStream>, mut sink: WriteHalf<DuplexStream>) {
        let mut bytes = vec![0; BUFFER];
        while let Ok(count @ 1..) = source.read(&mut bytes).await {
            if let Some(speaker) = &self.speaker {
                world::said(speaker, Word::Append);
            }
            self.travel().await;
            if sink.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
        while self.net.is_dark(self.from) {
            sleep(RETRANSMIT).await;
        }
        self.travel().await;
        let _other_end_is_gone = sink.shutdown().await;
    }
}

/// Joins a client's socket on one host and a server's on another, until both ends are closed.
pub async fn join(net: Net, client: (u16, DuplexStream), server: (Host, DuplexStream)) {
    let ((from, client), (host, server)) = (client, server);
    let (client_source, client_sink) = split(client);
    let (server_source, server_sink) = split(server);
    let to = host.name();
    let there = Way { net: net.clone(), from, to, speaker: None };
    let back = Way { net, from: to, to: from, speaker: Some(host) };
    tokio::join!(there.carry(client_source, server_sink), back.carry(server_source, client_sink));
}
