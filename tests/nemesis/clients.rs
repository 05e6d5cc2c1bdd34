//! A client that asks whichever node, on connections that it keeps.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::support::http::{Conn, Reply};

pub struct Clients<'a> {
    haddrs: &'a [String],
    conns: Vec<Option<Conn>>,
    patience: Duration,
}

impl<'a> Clients<'a> {
    pub fn new(haddrs: &'a [String], patience: Duration) -> Self {
        Self { haddrs, conns: haddrs.iter().map(|_| None).collect(), patience }
    }

    /// Asks a node; `None` where there was no answer.
    pub fn ask(
        &mut self,
        rng: &mut StdRng,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Option<Reply> {
        let at = rng.random_range(0..self.haddrs.len());
        let opened = self.conns[at].take().map_or_else(|| Conn::open_within(&self.haddrs[at], self.patience), Ok);
        let asked = opened.and_then(|mut conn| {
            let reply = conn.request(method, target, headers, body.map(str::as_bytes))?;
            Ok((conn, reply))
        });
        match asked {
            Ok((conn, reply)) => {
                let ends = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                self.conns[at] = (!ends).then_some(conn);
                if reply.status >= 500 {
                    // It has its reasons; no need to hear them a thousand times a second.
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                Some(reply)
            }
            Err(_) => {
                std::thread::park_timeout(Duration::from_millis(20 + rng.random_range(0..50)));
                None
            }
        }
    }
}
