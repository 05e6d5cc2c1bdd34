//! A proxy on the way between nodes that delays what passes, each piece by a random time: within a connection the order
//! stays, as TCP has it; between connections, and so between messages, it does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Pieces that may be under way in a direction of a connection.
const UNDER_WAY: usize = 64;

/// What is known of a node's way, by all of its connections.
#[derive(Default)]
struct Way {
    /// How long a piece to or from it takes at most, in milliseconds.
    slow_ms: AtomicU64,
    /// Pieces that came.
    came: AtomicU64,
    /// The last of them that went on.
    last: AtomicU64,
    /// Pieces that were held back.
    late: AtomicU64,
    /// Those of them that went on after one that had come later, of another connection or the other direction.
    overtaken: AtomicU64,
}

/// One proxied address for each node.
pub struct Proxy {
    ways: Vec<Arc<Way>>,
    _runtime: Runtime,
}

impl Proxy {
    /// Each listens at the first address and passes on to the second.
    pub fn start(ways: &[(String, String)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let started = ways.iter().map(|(from, to)| {
            let listener = runtime.block_on(TcpListener::bind(from)).unwrap();
            let way = Arc::new(Way::default());
            runtime.spawn(accept(listener, to.clone(), way.clone()));
            way
        });
        Self { ways: started.collect(), _runtime: runtime }
    }

    /// From now on a piece takes up to so long.
    pub fn slow(&self, number: usize, most_ms: u64) {
        self.ways[number].slow_ms.store(most_ms, Ordering::Relaxed);
    }

    /// How many pieces were held back, and how many of these were overtaken.
    pub fn counts(&self) -> (u64, u64) {
        let all = |of: fn(&Way) -> &AtomicU64| self.ways.iter().map(|way| of(way).load(Ordering::Relaxed)).sum();
        (all(|way| &way.late), all(|way| &way.overtaken))
    }

    pub fn told(&self) -> String {
        let (late, overtaken) = self.counts();
        format!("{late} pieces late, {overtaken} overtaken")
    }
}

async fn accept(listener: TcpListener, to: String, way: Arc<Way>) {
    for number in 0.. {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (to, way) = (to.clone(), way.clone());
        tokio::spawn(async move {
            // Where nobody listens, ours is closed, too.
            if let Ok(server) = TcpStream::connect(to).await {
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let seed = number * 2;
                tokio::join!(
                    carry(from_client, to_server, way.clone(), StdRng::seed_from_u64(seed)),
                    carry(from_server, to_client, way, StdRng::seed_from_u64(seed + 1)),
                );
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Arc<Way>, mut rng: StdRng) {
    let (queue, mut pieces) = mpsc::channel::<(Instant, u64, Vec<u8>)>(UNDER_WAY);
    let seen = way.clone();
    let take = async move {
        let mut due = Instant::now();
        loop {
            let mut piece = Vec::with_capacity(16 << 10);
            match from.read_buf(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let wait = Duration::from_millis(rng.random_range(0..seen.slow_ms.load(Ordering::Relaxed) + 1));
            due = due.max(Instant::now() + wait);
            let number = seen.came.fetch_add(1, Ordering::Relaxed);
            if queue.send((due, number, piece)).await.is_err() {
                return;
            }
        }
    };
    let give = async move {
        while let Some((due, number, piece)) = pieces.recv().await {
            if due > Instant::now() {
                sleep_until(due).await;
                way.late.fetch_add(1, Ordering::Relaxed);
                let is_overtaken = way.last.load(Ordering::Relaxed) > number;
                way.overtaken.fetch_add(u64::from(is_overtaken), Ordering::Relaxed);
            }
            way.last.fetch_max(number, Ordering::Relaxed);
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    let ((), _ended): ((), io::Result<()>) = tokio::join!(take, give);
}
