//! Thousands of clients at once: small, asynchronous, each with one connection.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Longer than any answer may take at the default `timeout=` of 10 s, on a machine that has too much to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many connections need as many files; nodes that are started afterwards inherit it. The limit.
pub fn allow_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.maximum.map_or(usize::MAX, |files| usize::try_from(files).unwrap())
}

/// The head of an answer, and how long its body is.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub text: String,
    pub length: Option<usize>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.trim()))
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn open(addr: &str) -> Result<Self, String> {
        let opened =
            timeout(PATIENCE, TcpStream::connect(addr)).await.map_err(|_| "no connection in time".to_owned())?;
        let stream = opened.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).unwrap();
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Asks, and reads the whole answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<(Head, Vec<u8>), String> {
        timeout(PATIENCE, async {
            self.stream.write_all(request).await.map_err(|error| format!("send: {error}"))?;
            let head = self.head().await?;
            let length = head.length.ok_or("an answer of no known length")?;
            while self.buffer.len() < length {
                self.more().await?;
            }
            Ok((head, self.buffer.drain(..length).collect()))
        })
        .await
        .map_err(|_| "no answer in time".to_owned())?
    }

    /// Reads the head of an answer, and not much more.
    pub async fn head(&mut self) -> Result<Head, String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let text: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let text = String::from_utf8_lossy(&text).into_owned();
                let status = text.get(9..12).and_then(|status| status.parse().ok()).ok_or(text.clone())?;
                let mut head = Head { status, text, length: None };
                head.length = head.header("content-length").and_then(|length| length.parse().ok());
                return Ok(head);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), String> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err("closed".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("read: {error}")),
        }
    }
}

/// The bytes of a request.
pub fn request(addr: &str, method: &str, target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// What many clients were answered: how often what.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub fn count(&self, what: &str) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    /// Counts an answer; one that is refused for overload must be as the contract has it.
    pub fn answer(&self, answer: &Result<(Head, Vec<u8>), String>) {
        match answer {
            Ok((head, body)) if head.status == 503 => {
                let body = String::from_utf8_lossy(body);
                assert!(head.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{}", head.text);
                assert!(body.contains(r#""code":"overloaded""#), "{body}");
                self.count("503");
            }
            Ok((head, _)) => self.count(&head.status.to_string()),
            Err(error) => self.count(error),
        }
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    /// All but these.
    pub fn others(&self, expected: &[&str]) -> Vec<(String, u64)> {
        let all = self.0.lock().unwrap().clone();
        all.into_iter().filter(|(what, _)| !expected.contains(&what.as_str())).collect()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.lock().unwrap())
    }
}

/// Opens so many connections, some hundreds at a time.
pub async fn open_many(addr: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let batch = (count - clients.len()).min(500);
        let opened = futures_util::future::join_all((0..batch).map(|_| Client::open(addr))).await;
        clients.extend(opened.into_iter().map(Result::unwrap));
        // A rate, not a wait for something.
        sleep(Duration::from_millis(1)).await;
    }
    clients
}
