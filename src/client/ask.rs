//! Asks one endpoint after another.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::config::ClientTask;
use crate::exit::{EX_FAILURE, EX_NOPERM, EX_TEMPFAIL, EX_UNAVAILABLE, Exit};
use crate::node_id::HostPort;

/// An endpoint answers within this time, or another is asked. A doctor takes three seconds at most.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An answer is no longer than this.
const MAX_BYTES: usize = 16 << 20;

/// The way to a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    client: Client,
    endpoints: Vec<HostPort>,
    token: Option<String>,
}

/// An answer with status 200.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
}

impl Answer {
    /// The answer as JSON.
    pub(super) fn json(&self) -> Result<Value, Exit> {
        let unlike = |error| Exit::error(EX_FAILURE, format!("the answer is not hraftd's: {error}"));
        serde_json::from_str(&self.text).map_err(unlike)
    }
}

/// Why an endpoint gave no answer that counts.
enum Failed {
    /// Another may do better.
    TryNext(Exit),
    /// None can.
    Final(Exit),
}

impl Cluster {
    pub(super) fn new(task: &ClientTask) -> Result<Self, Exit> {
        let read = |path: &std::path::PathBuf| {
            let read = std::fs::read_to_string(path);
            let token = read.map_err(|error| Exit::usage(format!("--token-file {}: {error}", path.display())))?;
            Ok(token.trim().to_owned())
        };
        let token = task.token_file.as_ref().map(read).transpose()?;
        let client = Client::builder().no_proxy().timeout(TIMEOUT).connect_timeout(TIMEOUT / 2);
        let client = client.redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| Exit::error(EX_FAILURE, format!("cannot make a client: {error}")))?;
        Ok(Self { client, endpoints: task.endpoints.clone(), token })
    }

    /// Asks the endpoints in turn, until one answers.
    ///
    /// # Errors
    /// The end of the process: 1, 69, 75 or 77.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Exit> {
        let mut last = Exit::error(EX_UNAVAILABLE, "no endpoint was given");
        for endpoint in &self.endpoints {
            match self.ask(endpoint, path).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(exit)) => return Err(exit),
                // What one that answers says is worth more than that another does not.
                Err(Failed::TryNext(exit)) if exit.code != EX_UNAVAILABLE || last.code == EX_UNAVAILABLE => last = exit,
                Err(Failed::TryNext(_)) => {}
            }
        }
        Err(last)
    }

    /// Asks this one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn get_at(&self, endpoint: &HostPort, path: &str) -> Result<Answer, Exit> {
        self.ask(endpoint, path).await.map_err(|failed| match failed {
            Failed::TryNext(exit) | Failed::Final(exit) => exit,
        })
    }

    /// The client address of the leader, if one is known.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn leader(&self) -> Result<Option<HostPort>, Exit> {
        let cluster = self.get("/hraftd/raft/cluster").await?.json()?;
        let id = cluster["leader"]["id"].as_str().unwrap_or_default();
        Ok(id.split(',').next().and_then(|haddr| haddr.parse().ok()))
    }

    async fn ask(&self, endpoint: &HostPort, path: &str) -> Result<Answer, Failed> {
        let mut request = self.client.get(format!("http://{endpoint}{path}"));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let unreachable = |why: &dyn std::fmt::Display| {
            Failed::TryNext(Exit::error(EX_UNAVAILABLE, format!("no node is reachable: {endpoint}: {why}")))
        };
        let mut response = request.send().await.map_err(|error| unreachable(&innermost(&error)))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&innermost(&error)))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_BYTES {
                return Err(Failed::Final(Exit::error(EX_FAILURE, format!("{endpoint}: the answer is too long"))));
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status == StatusCode::OK {
            return Ok(Answer { text });
        }
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let msg = said["msg"].as_str().map_or_else(|| format!("status {status}"), str::to_owned);
        let exit = |code| Exit::error(code, format!("{endpoint}: {msg}"));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failed::Final(exit(EX_NOPERM)),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Failed::TryNext(exit(EX_TEMPFAIL)),
            _ => Failed::Final(exit(EX_FAILURE)),
        })
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}
