//! A proxy that makes a follower slow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Forwards connections, and holds back all bytes for an adjustable time.
pub struct Proxy {
    delay_ms: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens at `addr` for what goes to `target`.
    pub fn start(addr: &str, target: &str) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let delay_ms = Arc::<AtomicU64>::default();
        let proxy = Self { delay_ms: delay_ms.clone() };
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

/// Copies bytes until either side closes. The delay is that of a message and does not limit the rate: bytes that arrive
/// during a delay are sent together when it ends.
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
