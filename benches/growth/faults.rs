//! What makes a follower slow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Passes connections on, and holds back all that comes for so long.
pub struct Proxy {
    pub addr: String,
    delay_ms: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens at `addr` for what goes to `target`.
    pub fn start(addr: &str, target: &str) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let delay_ms = Arc::<AtomicU64>::default();
        let proxy = Self { addr: addr.to_owned(), delay_ms: delay_ms.clone() };
        let target = target.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let _ = from.set_nodelay(true);
                    let (from, to, delay_ms) = (from.try_clone().unwrap(), to.try_clone().unwrap(), delay_ms.clone());
                    thread::spawn(move || pass_on(from, to, &delay_ms));
                }
            }
        });
        proxy
    }

    pub fn delay(&self, by: Duration) {
        self.delay_ms.store(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

/// A delay is that of a message, not a limit of the rate: what comes meanwhile is held back no longer than the first.
fn pass_on(mut from: TcpStream, mut to: TcpStream, delay_ms: &AtomicU64) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        thread::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed)));
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
