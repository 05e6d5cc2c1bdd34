//! The way to a cluster: which endpoint is asked, when another is, and what is told in the end.
//!
//! A request is put to the endpoints in turn, and begins with the one that answered last. Whatever may have been received
//! is repeated elsewhere only as it is, with its `Idempotency-Key`.
//!
//! * [`request`]: what is asked. [`answer`]: what came, whole or as a stream. [`connect`]: connections.

mod answer;
mod connect;
mod request;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderValue};
use hyper::{Response, StatusCode, Uri};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{sleep, timeout};

use crate::config::{Access, Endpoint};
use crate::exit::{EX_FAILURE, EX_NOPERM, EX_TEMPFAIL, EX_UNAVAILABLE, Exit};
use crate::node_id::HostPort;
use crate::tls;

use answer::message;

pub(super) use answer::innermost;
use connect::Connector;

pub(super) use answer::{Answer, Stream, now};
pub(super) use request::{Request, encoded, key_path, query};

/// A whole answer is no longer than this: what is longer is a stream, and each line of one is no longer.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Between two rounds of the endpoints.
const PAUSE: Duration = Duration::from_millis(200);

/// A node says it in the words of HTTP.
const NO_TOKEN: &str = "this cluster wants to know who asks: give --token-file FILE, or $HRAFTD_TOKEN_FILE";

/// Connections kept for an endpoint.
const IDLE_CONNECTIONS: usize = 512;

/// The way to a cluster.
pub(super) struct Cluster {
    client: Client<Connector, Full<Bytes>>,
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    first: AtomicUsize,
    token: Option<HeaderValue>,
    timeout: Duration,
}

/// How one request to one node ended that has no answer that counts.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nothing was done.
    NotDone(String),
    /// It may have been done, or may still be.
    Unknown(String),
    /// It will not be answered otherwise: the end of the process.
    Final(Exit),
}

/// Why an endpoint gave no answer that counts.
enum Failed {
    /// There was no connection: nothing was sent.
    Unreachable(String),
    /// Another may do better, or this one later. Nothing was done.
    Busy(String),
    /// It may have been done.
    Unknown(String),
    /// No other can do better.
    Final(Exit),
}

impl Cluster {
    /// Reads the files; connections are opened when they are needed.
    ///
    /// # Errors
    /// A file that cannot be used: 64.
    pub(super) fn new(access: &Access) -> Result<Self, Exit> {
        let token = access.token_file.as_ref().map(|path| token(path)).transpose()?;
        let tls = match access.endpoints.iter().any(|endpoint| endpoint.tls) {
            true => Some(trust(access)?),
            false => None,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(Connector { tls });
        let (endpoints, first) = (access.endpoints.clone(), AtomicUsize::new(0));
        Ok(Self { client, endpoints, first, token, timeout: access.timeout })
    }

    /// Asks the endpoints in turn until one gives an answer that another would give too, a refusal included.
    ///
    /// # Errors
    /// The end of the process: 69, 75 or 77.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Exit> {
        self.in_turn(request, async |endpoint| self.whole(endpoint, request).await).await
    }

    /// As [`send`](Self::send), and a refusal is an error: 1.
    ///
    /// # Errors
    /// The end of the process: 1, 69, 75 or 77.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Exit> {
        self.send(&Request::get(path).once()).await?.ok()
    }

    /// Asks this endpoint alone, once.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(super) async fn send_to(&self, endpoint: &Endpoint, request: &Request) -> Result<Answer, Exit> {
        let given = timeout(request.attempt, self.whole(endpoint, request)).await;
        given.unwrap_or_else(|_| Err(late(endpoint))).map_err(|failed| match failed {
            Failed::Unreachable(why) => unreachable(&why),
            Failed::Busy(why) => Exit::error(EX_TEMPFAIL, why),
            Failed::Unknown(why) if request.is_write() => unknown(&why),
            Failed::Unknown(why) => Exit::error(EX_TEMPFAIL, why),
            Failed::Final(exit) => exit,
        })
    }

    /// Asks this endpoint alone, once, and tells what was not done from what may have been.
    ///
    /// # Errors
    /// There is no answer, or one that says nothing of the request.
    pub(super) async fn try_at(&self, endpoint: &Endpoint, request: &Request) -> Result<Answer, Ended> {
        let asked = async {
            let sent = now();
            let response = self.ask(endpoint, request).await.map_err(|failed| match failed {
                Failed::Unreachable(why) | Failed::Busy(why) => Ended::NotDone(why),
                Failed::Unknown(why) => Ended::Unknown(why),
                Failed::Final(exit) => Ended::Final(exit),
            })?;
            // Whatever stands before the node may have passed it on.
            collect(endpoint, response, sent).await.map_err(|failed| match failed {
                Failed::Unreachable(why) | Failed::Busy(why) | Failed::Unknown(why) => Ended::Unknown(why),
                Failed::Final(exit) => Ended::Final(exit),
            })
        };
        let late = |_| Err(Ended::Unknown(format!("{endpoint}: it did not answer in time")));
        timeout(request.attempt, asked).await.unwrap_or_else(late)
    }

    /// As [`send`](Self::send), for an answer that comes by and by: one of status 200.
    ///
    /// # Errors
    /// The end of the process: 1, 69, 75 or 77.
    pub(super) async fn open(&self, request: &Request) -> Result<Stream, Exit> {
        self.open_or_refused(request).await?.map_err(|answer| answer.refused())
    }

    /// As [`open`](Self::open), with the answer where it is another.
    ///
    /// # Errors
    /// The end of the process: 69, 75 or 77.
    pub(super) async fn open_or_refused(&self, request: &Request) -> Result<Result<Stream, Answer>, Exit> {
        let opened = self.in_turn(request, async |endpoint| {
            let sent = now();
            let response = self.ask(endpoint, request).await?;
            if response.status() == StatusCode::OK {
                return Ok(Ok(Stream::new(endpoint.clone(), response)));
            }
            collect(endpoint, response, sent).await.map(Err)
        });
        opened.await
    }

    /// Begins with the next endpoint, the next time.
    pub(super) fn next_endpoint(&self) {
        let next = (self.first.load(Ordering::Relaxed) + 1) % self.endpoints.len();
        self.first.store(next, Ordering::Relaxed);
    }

    /// The client address of the leader, if one is known.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn leader(&self) -> Result<Option<Endpoint>, Exit> {
        let cluster = self.get("/hraftd/raft/cluster").await?.json()?;
        let id = cluster["leader"]["id"].as_str().unwrap_or_default();
        Ok(id.split(',').next().and_then(|haddr| self.endpoint_of(haddr)))
    }

    /// The endpoints of `access` and all members beside them.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn all_members(&self, access: &Access) -> Result<Vec<Endpoint>, Exit> {
        let told = self.get("/hraftd/raft/cluster").await?.with_list("servers")?.json()?;
        let mut all = access.endpoints.clone();
        for server in told["servers"].as_array().into_iter().flatten() {
            let haddr = server["id"].as_str().and_then(|id| id.split(',').next());
            if let Some(member) = haddr.and_then(|haddr| self.endpoint_of(haddr)).filter(|member| !all.contains(member))
            {
                all.push(member);
            }
        }
        Ok(all)
    }

    /// The endpoint at a client address that a node told; it speaks what the others do.
    pub(super) fn endpoint_of(&self, haddr: &str) -> Option<Endpoint> {
        let addr: HostPort = haddr.parse().ok()?;
        Some(Endpoint { tls: self.endpoints.iter().any(|endpoint| endpoint.tls), addr })
    }

    async fn in_turn<T>(
        &self,
        request: &Request,
        ask: impl AsyncFn(&Endpoint) -> Result<T, Failed>,
    ) -> Result<T, Exit> {
        let (began, within) = (Instant::now(), request.within.unwrap_or(self.timeout));
        let (mut unknown_why, mut busy_why, mut unreachable_why) = (None, None, None);
        loop {
            let (first, mut somebody) = (self.first.load(Ordering::Relaxed), false);
            for turn in 0..self.endpoints.len() {
                let at = (first + turn) % self.endpoints.len();
                let endpoint = &self.endpoints[at];
                let left = within.max(request.attempt).saturating_sub(began.elapsed());
                let given = timeout(left.min(request.attempt), ask(endpoint)).await;
                match given.unwrap_or_else(|_| Err(late(endpoint))) {
                    Ok(answer) => {
                        self.first.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(Failed::Final(exit)) => return Err(exit),
                    Err(Failed::Unreachable(why)) => unreachable_why = Some(why),
                    Err(Failed::Busy(why)) => {
                        busy_why = Some(why);
                        somebody = true;
                    }
                    Err(Failed::Unknown(why)) if !request.is_repeatable() => return Err(unknown(&why)),
                    Err(Failed::Unknown(why)) => {
                        unknown_why = Some(why);
                        somebody = true;
                    }
                }
            }
            let nobody = !somebody && unknown_why.is_none();
            if request.once || nobody || began.elapsed() + PAUSE >= within {
                break;
            }
            sleep(PAUSE).await;
        }
        Err(match (unknown_why, busy_why, unreachable_why) {
            (Some(why), _, _) if request.is_write() => unknown(&why),
            // What one that answers says is worth more than that another does not.
            (_, Some(why), _) | (Some(why), None, _) => Exit::error(EX_TEMPFAIL, why),
            (None, None, why) => unreachable(&why.unwrap_or_default()),
        })
    }

    async fn whole(&self, endpoint: &Endpoint, request: &Request) -> Result<Answer, Failed> {
        let sent = now();
        let response = self.ask(endpoint, request).await?;
        collect(endpoint, response, sent).await
    }

    /// The head of an answer that another endpoint would give too.
    async fn ask(&self, endpoint: &Endpoint, request: &Request) -> Result<Response<Incoming>, Failed> {
        let scheme = if endpoint.tls { "https" } else { "http" };
        let uri: Result<Uri, _> = format!("{scheme}://{}{}", endpoint.addr, request.path).parse();
        let uri = uri.map_err(|error| Failed::Final(Exit::usage(format!("{}: {error}", request.path))))?;
        let mut asked =
            hyper::Request::builder().method(&request.method).uri(uri).header(HOST, endpoint.addr.to_string());
        if let Some(token) = &self.token {
            asked = asked.header(AUTHORIZATION, token);
        }
        if request.is_write() {
            asked = asked.header(CONTENT_LENGTH, request.body.len());
        }
        for (name, value) in &request.headers {
            asked = asked.header(name, value);
        }
        let asked = asked.body(Full::new(request.body.clone()));
        let asked = asked.map_err(|error| Failed::Final(Exit::error(EX_FAILURE, error.to_string())))?;
        let response = self.client.request(asked).await.map_err(|error| broken(endpoint, &error))?;
        let why = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let answer = collect_any(endpoint, response, now()).await?;
                let refused = match answer.code() == "unauthorized" && self.token.is_none() {
                    true => Exit::error(EX_NOPERM, format!("{endpoint}: {NO_TOKEN}")),
                    false => Exit { code: EX_NOPERM, ..answer.refused() },
                };
                return Err(Failed::Final(refused));
            }
            StatusCode::SERVICE_UNAVAILABLE => Failed::Busy,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Failed::Unknown,
            _ => return Ok(response),
        };
        let answer = collect_any(endpoint, response, now()).await?;
        Err(why(format!("{endpoint}: {}", message(answer.status, &answer.body))))
    }
}

/// A whole answer, of hraftd.
async fn collect(endpoint: &Endpoint, response: Response<Incoming>, sent: Duration) -> Result<Answer, Failed> {
    let answer = collect_any(endpoint, response, sent).await?;
    if !answer.status.is_success() && answer.code().is_empty() && !answer.status.is_redirection() {
        // A port of TLS says so in plain text.
        let said = std::str::from_utf8(&answer.body).ok().filter(|said| said.len() < 200).map(str::trim);
        let said = said.filter(|said| !said.is_empty()).map_or_else(String::new, |said| format!(": {said}"));
        return Err(Failed::Unreachable(format!(
            "{endpoint}: it answers {}, and not as hraftd does{said}",
            answer.status
        )));
    }
    Ok(answer)
}

async fn collect_any(endpoint: &Endpoint, response: Response<Incoming>, sent: Duration) -> Result<Answer, Failed> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BYTES).collect().await.map_err(|error| {
        let why = innermost(error.as_ref());
        match why.contains("length limit") {
            true => Failed::Final(Exit::error(EX_FAILURE, format!("{endpoint}: the answer is too long"))),
            false => Failed::Unknown(format!("{endpoint}: the answer broke off: {why}")),
        }
    })?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), endpoint: endpoint.clone(), sent })
}

fn broken(endpoint: &Endpoint, error: &legacy::Error) -> Failed {
    let why = innermost(error);
    if error.is_connect() {
        return Failed::Unreachable(format!("{endpoint}: {why}"));
    }
    // A TLS port answers plain text with an alert.
    if !endpoint.tls && why.contains("invalid HTTP version") {
        return Failed::Unreachable(format!(
            "{endpoint}: it speaks no plain HTTP; is it TLS? Give --cacert FILE, or https://"
        ));
    }
    Failed::Unknown(format!("{endpoint}: the connection broke: {why}"))
}

fn late(endpoint: &Endpoint) -> Failed {
    Failed::Unknown(format!("{endpoint}: it did not answer in time"))
}

fn unreachable(why: &str) -> Exit {
    Exit::error(EX_UNAVAILABLE, format!("no node is reachable: {why}"))
}

fn unknown(why: &str) -> Exit {
    Exit::error(EX_TEMPFAIL, format!("{why}. The outcome of this write is unknown: read before you repeat it"))
}

fn token(path: &Path) -> Result<HeaderValue, Exit> {
    let bad = |why: &str| Exit::usage(format!("--token-file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| bad(&error.to_string()))?;
    // A file of root tokens may have several, and notes.
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let token = lines.next().ok_or_else(|| bad("it has no token"))?;
    let mut header =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| bad("its token has other than ASCII"))?;
    header.set_sensitive(true);
    Ok(header)
}

fn trust(access: &Access) -> Result<std::sync::Arc<rustls::ClientConfig>, Exit> {
    let read = |flag: &str, path: &Path| {
        std::fs::read(path).map_err(|error| Exit::usage(format!("{flag} {}: {error}", path.display())))
    };
    let roots = access.cacert.as_deref().map(|path| read("--cacert", path)).transpose()?;
    let shown = match &access.identity {
        Some((cert, key)) => Some((read("--cert", cert)?, read("--key", key)?)),
        None => None,
    };
    let shown = shown.as_ref().map(|(cert, key)| (cert.as_slice(), key.as_slice()));
    tls::of_client(roots.as_deref(), shown).map_err(|error| {
        let files = [access.cacert.as_deref(), access.identity.as_ref().map(|(cert, _)| cert.as_path())];
        let files: Vec<String> = files.iter().flatten().map(|file| file.display().to_string()).collect();
        Exit::usage(format!("--cacert, --cert or --key ({}): {error}", files.join(", ")))
    })
}
