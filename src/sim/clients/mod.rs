//! Clients, each on a machine of its own that never fails: one request at a time, at any node.

pub mod access;
pub mod counters;
pub mod fillers;
pub mod leases;
pub mod listings;
pub mod locks;
pub mod polls;
pub mod registers;
pub mod transfers;
pub mod ttls;
pub mod watchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Request;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::net::{Net, NoAnswer};
use super::process::ROOT;
use super::world;
use access::Tokens;

/// Shared by all clients of a run.
#[derive(Debug, Clone)]
pub struct Shared {
    pub net: Net,
    /// Client ports of nodes to ask; some may not be there.
    ports: Arc<Mutex<Vec<u16>>>,
    stop: Arc<AtomicBool>,
    began: Instant,
    /// Where clients are asked who they are: the tokens that they have, by name.
    tokens: Option<Tokens>,
}

impl Shared {
    pub fn new(net: Net, ports: Vec<u16>, closed: bool) -> Self {
        let tokens = closed.then(Tokens::default);
        Self { net, ports: Arc::new(Mutex::new(ports)), stop: Arc::default(), began: Instant::now(), tokens }
    }

    /// Clients ask this one too from now on.
    pub fn add(&self, port: u16) {
        let mut ports = self.ports.lock();
        if !ports.contains(&port) {
            ports.push(port);
        }
    }

    /// Clients end with what they are at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub struct Client {
    pub shared: Shared,
    pub name: String,
    pub rng: StdRng,
    requests: u64,
    /// The name of its token; without one it has the root token.
    token: Option<&'static str>,
}

/// A request without the node that it is for.
#[derive(Debug, Clone)]
pub struct Ask {
    method: &'static str,
    path: String,
    key: Option<String>,
    body: String,
    /// The token to show, where it is not the client's own; it may be refused.
    token: Option<String>,
    if_none_match: Option<u64>,
    /// How long the server waits beside its limit, as it was asked to.
    waits: Duration,
}

impl Ask {
    pub fn new(method: &'static str, path: String, body: String) -> Self {
        Self { method, path, key: None, body, token: None, if_none_match: None, waits: Duration::ZERO }
    }

    pub fn get(path: String) -> Self {
        Self::new("GET", path, String::new())
    }

    /// With an `Idempotency-Key`.
    pub fn keyed(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// With this token, which may be refused.
    pub fn showing(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Whether it may be refused: its token may be no good, or not known where it asks for what is there, however old.
    fn may_be_refused(&self) -> bool {
        self.token.is_some() || self.path.contains("level=none")
    }

    /// As a long poll: until the key is another than the one that was changed at this index.
    pub fn polling(self, if_none_match: Option<u64>, waits: Duration) -> Self {
        let path = format!("{}&wait={}ms", self.path, waits.as_millis());
        Self { path, if_none_match, waits, ..self }
    }
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// `X-Hraftd-Index`.
    pub index: u64,
    /// True for a page that is not the last.
    pub more: bool,
    /// `X-Hraftd-Staleness-Ms`.
    pub staleness_ms: Option<u64>,
    pub json: Value,
}

/// The outcome of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    Done(Answer),
    /// Nothing was done, and nothing will be.
    Refused(Option<Answer>),
    /// Nobody knows.
    Unknown,
}

impl Client {
    pub fn new(shared: &Shared, name: String) -> Self {
        Self { shared: shared.clone(), name, rng: StdRng::seed_from_u64(world::random()), requests: 0, token: None }
    }

    /// With the token of this name, where clients have tokens.
    pub fn with_token(self, name: &'static str) -> Self {
        Self { token: Some(name), ..self }
    }

    /// What it shows.
    pub fn authorization(&self, shown: Option<&String>) -> Option<String> {
        let tokens = self.shared.tokens.as_ref()?;
        let own = || self.token.and_then(|name| tokens.now(name).secret);
        let token = shown.cloned().or_else(own).unwrap_or_else(|| ROOT.to_owned());
        Some(format!("Bearer {token}"))
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    pub fn goes_on(&self) -> bool {
        !self.shared.stop.load(Ordering::Relaxed)
    }

    pub async fn pause(&mut self, at_most_ms: u64) {
        let ms = self.below(at_most_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    pub fn any_port(&mut self) -> u16 {
        let ports = self.shared.ports.lock();
        ports[self.rng.random_range(0..ports.len())]
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_nanos()).unwrap()
    }

    /// A name that no other request has.
    pub fn next_key(&mut self) -> String {
        self.requests += 1;
        format!("{}-{}", self.name, self.requests)
    }

    /// Asks a node, and waits for about so long.
    pub async fn ask(&mut self, port: u16, ask: &Ask, patience: Duration) -> Outcome {
        let sep = if ask.path.contains('?') { '&' } else { '?' };
        // The server's own limit is mostly the shorter one, and sometimes the client goes away first. A repetition must be
        // the same request.
        let server_ms = patience.as_millis() as u64 * if ask.key.is_none() && self.below(4) == 0 { 2 } else { 1 };
        let limit = if ask.path.starts_with("/hraftd/raft")
            || ask.path.starts_with("/hraftd/lock")
            || ask.path.starts_with("/hraftd/lease")
        {
            String::new()
        } else {
            format!("{sep}timeout={}ms", server_ms.max(1))
        };
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{limit}", ask.path))
            .header("host", "127.0.0.1")
            .header("content-type", "application/json");
        if let Some(key) = &ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(index) = ask.if_none_match {
            request = request.header("if-none-match", format!("\"{index}\""));
        }
        if let Some(header) = self.authorization(ask.token.as_ref()) {
            request = request.header("authorization", header);
        }
        let request = request.body(ask.body.clone().into_bytes()).unwrap();
        let patience = patience + ask.waits + Duration::from_millis(200);
        match self.shared.net.request(port, request, patience).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let number = |name: &str| -> Option<u64> { response.headers().get(name)?.to_str().ok()?.parse().ok() };
                let (index, staleness_ms) = (number("x-hraftd-index"), number("x-hraftd-staleness-ms"));
                let json = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
                let more = response.headers().contains_key("link");
                let answer = Answer { status, index: index.unwrap_or(0), more, staleness_ms, json };
                world::note("answered", &[port.into(), status.into(), answer.index]);
                match status {
                    200 | 201 | 304 | 404 => Outcome::Done(answer),
                    409 | 412 | 501 | 503 => Outcome::Refused(Some(answer)),
                    // What frees room is taken by a full state, too.
                    507 if ask.method != "DELETE" => Outcome::Refused(Some(answer)),
                    410 => Outcome::Refused(Some(answer)),
                    401 | 403 if ask.may_be_refused() => Outcome::Refused(Some(answer)),
                    500 if answer.json["msg"].as_str().is_some_and(|msg| !msg.contains("stop")) => {
                        world::fail(format!("{} {} at {port} was answered {answer:?}", ask.method, ask.path));
                        Outcome::Unknown
                    }
                    500 | 504 => Outcome::Unknown,
                    _ => {
                        world::fail(format!("{} {} at {port} was answered {answer:?}", ask.method, ask.path));
                        Outcome::Unknown
                    }
                }
            }
            Err(NoAnswer::Refused) => Outcome::Refused(None),
            Err(NoAnswer::Broken) => Outcome::Unknown,
        }
    }

    /// Repeats a request with an `Idempotency-Key` at any node until it has an answer that is no mere refusal.
    pub async fn until_answered(&mut self, ask: &Ask, patience: Duration) -> Answer {
        loop {
            let port = self.any_port();
            match self.ask(port, ask, patience).await {
                Outcome::Done(answer) => return answer,
                Outcome::Refused(Some(answer)) if ![503, 507].contains(&answer.status) => return answer,
                _ => self.pause(50).await,
            }
        }
    }
}
