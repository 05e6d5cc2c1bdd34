//! A proxy on the way between nodes that delays what passes, each piece by a random time: within a connection the order
//! stays, as TCP has it; between connections, and so between messages, it does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::support::random::Random;

/// Pieces that may be under way in a direction of a connection.
const UNDER_WAY: usize = 64;

/// One proxied address for each node.
pub struct Proxy {
    /// For each node: how long a piece to or from it takes at most, in milliseconds.
    slow_ms: Vec<Arc<AtomicU64>>,
    _runtime: Runtime,
}

impl Proxy {
    /// Each listens at the first address and passes on to the second.
    pub fn start(ways: &[(String, String)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut slow_ms = Vec::new();
        for (from, to) in ways {
            let listener = runtime.block_on(TcpListener::bind(from)).unwrap();
            let slow = Arc::new(AtomicU64::new(0));
            runtime.spawn(accept(listener, to.clone(), slow.clone()));
            slow_ms.push(slow);
        }
        Self { slow_ms, _runtime: runtime }
    }

    /// From now on a piece takes up to so long.
    pub fn slow(&self, number: usize, most_ms: u64) {
        self.slow_ms[number].store(most_ms, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, to: String, slow: Arc<AtomicU64>) {
    for number in 0.. {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (to, slow) = (to.clone(), slow.clone());
        tokio::spawn(async move {
            // Where nobody listens, ours is closed, too.
            if let Ok(server) = TcpStream::connect(to).await {
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let seed = number * 2;
                tokio::join!(
                    carry(from_client, to_server, slow.clone(), Random::new(seed)),
                    carry(from_server, to_client, slow, Random::new(seed + 1)),
                );
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, slow: Arc<AtomicU64>, mut random: Random) {
    let (queue, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let take = async move {
        let mut due = Instant::now();
        loop {
            let mut piece = Vec::with_capacity(16 << 10);
            match from.read_buf(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let wait = Duration::from_millis(random.below(slow.load(Ordering::Relaxed) + 1));
            due = due.max(Instant::now() + wait);
            if queue.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let give = async move {
        while let Some((due, piece)) = pieces.recv().await {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    let ((), _ended): ((), io::Result<()>) = tokio::join!(take, give);
}
