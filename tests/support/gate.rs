//! A gate before a node: it lets so many pieces of traffic through, and holds what comes then.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// What all connections share.
#[derive(Debug, Default)]
struct State {
    /// So many pieces may still pass, of both directions.
    left: usize,
    /// One waits.
    held: bool,
    ended: bool,
    streams: Vec<TcpStream>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap()
}

/// A gate; what it holds is lost when it is dropped.
pub struct Gate {
    pub addr: SocketAddr,
    shared: Shared,
    accepts: Option<JoinHandle<()>>,
}

impl Gate {
    /// Before the node at `to`: lets `pieces` through. A request of a few kilobytes is one, and so is its answer.
    pub fn new(to: &str, pieces: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Shared::default();
        lock(&shared).left = pieces;
        let (to, of_thread) = (to.to_owned(), shared.clone());
        let accepts = std::thread::spawn(move || {
            let mut pipes = Vec::new();
            for stream in listener.incoming() {
                if lock(&of_thread).ended {
                    break;
                }
                let (Ok(client), Ok(node)) = (stream, TcpStream::connect(&to)) else { continue };
                for (from, into) in [(&client, &node), (&node, &client)] {
                    lock(&of_thread).streams.push(from.try_clone().unwrap());
                    let (from, into, shared) =
                        (from.try_clone().unwrap(), into.try_clone().unwrap(), of_thread.clone());
                    pipes.push(std::thread::spawn(move || pipe(from, into, &shared)));
                }
            }
            pipes.into_iter().for_each(|pipe| pipe.join().unwrap());
        });
        Self { addr, shared, accepts: Some(accepts) }
    }

    /// True once there is something that it holds.
    pub fn holds(&self) -> bool {
        lock(&self.shared).held
    }
}

fn pipe(mut from: TcpStream, mut into: TcpStream, shared: &Shared) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let mut state = lock(shared);
        while state.left == 0 && !state.ended {
            state.held = true;
            state = shared.1.wait(state).unwrap();
        }
        if state.ended {
            break;
        }
        state.left -= 1;
        drop(state);
        if into.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = into.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

impl Drop for Gate {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.ended = true;
        state.streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        drop(state);
        self.shared.1.notify_all();
        // It looks when somebody comes.
        drop(TcpStream::connect(self.addr));
        drop(self.accepts.take().map(JoinHandle::join));
    }
}
