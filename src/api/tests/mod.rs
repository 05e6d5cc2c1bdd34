//! The API over real loopback sockets, with a map in place of a node.

mod access;
mod edges;
mod fake;
#[path = "../../../tests/fuzz/api.rs"]
mod fuzz;
mod key_requests;
mod leases;
mod limits;
mod listings;
mod locks;
mod one_key;
mod overload;
mod raft_requests;
mod txns;
mod visible;
mod watch_requests;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::*;
use crate::http::{HttpLimits, serve};
use fake::Fake;

const SOON: Duration = Duration::from_secs(10);

fn settings() -> ApiSettings {
    ApiSettings {
        root: crate::api::RootTokens::default(),
        sessions: crate::api::Sessions::default(),
        max_value_bytes: 1000,
        max_request_bytes: 4000,
        read_level: ReadLevel::Linearizable,
        idempotency_window_ms: 600_000,
        hosts: Hosts::new(true, &[], []),
        max_at_work: 1000,
        max_waiting: 1000,
        port: Arc::default(),
        security: Arc::default(),
        https: false,
        log: RequestLog::default(),
        alive: (Pulses::none(), Duration::from_secs(1)),
    }
}

struct Server {
    addr: SocketAddr,
    fake: Fake,
}

/// An answer taken apart; header names in lower case.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Asserts the shape of an error and that its message has `part`.
    #[track_caller]
    fn is_error(&self, status: u16, code: &str, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.body.starts_with(&format!("{{\"ok\":false,\"code\":\"{code}\",\"msg\":\"")), "{self:?}");
        assert!(self.body.contains(part), "{part}: {self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("retry-after").is_some(), status == 503);
        assert_eq!(self.header("allow").is_some(), status == 405, "{self:?}");
    }

    #[track_caller]
    fn is_ok(&self, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (200, body), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
    }
}

impl Server {
    async fn start() -> Self {
        Self::with(Fake::default(), settings()).await
    }

    async fn with(fake: Fake, settings: ApiSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let api = Api::new(fake.clone(), settings);
        tokio::spawn(serve(vec![listener], api, Vec::new(), HttpLimits::default(), std::future::pending::<()>()));
        Self { addr, fake }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn raw(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        answer(&mut client).await
    }

    /// A request as curl sends it.
    async fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        self.ask_with(method, target, &[], body.as_bytes()).await
    }

    async fn ask_with(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
        let length = body.len();
        let addr = self.addr;
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let mut client = self.connect().await;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        client.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        answer(&mut client).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "").await
    }
}

/// Reads until the server closes.
async fn answer(client: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    timeout(SOON, client.read_to_end(&mut all)).await.unwrap().unwrap();
    let all = String::from_utf8(all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {all:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}
