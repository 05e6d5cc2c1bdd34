//! The way to a cluster: which endpoint is asked, when another is, and what is told in the end.
//!
//! A request is put to the endpoints in turn, and begins with the one that answered last. Whatever may have been received
//! is repeated elsewhere only as it is, with its `Idempotency-Key`. Nothing goes over to another cluster than the one that
//! answered first.
//!
//! * [`request`]: what is asked. [`answer`]: what came, whole or as a stream. [`failed`]: why nothing came.
//!   [`connect`]: connections. [`known`]: which cluster it is.

mod answer;
mod connect;
mod failed;
mod known;
mod request;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderValue};
use hyper::{Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{sleep, timeout};

use crate::config::{Access, Endpoint};
use crate::exit::{EX_FAILURE, EX_NOPERM, EX_TEMPFAIL, Exit};
use crate::node_id::HostPort;
use crate::tls;

use answer::message;

pub(super) use answer::innermost;
use connect::Connector;
use failed::{Failed, Reasons, another, broken, foreign, late, unknown, unreachable};
use known::{CLUSTER, Known, OTHER_CLUSTER};

pub(super) use answer::{Answer, Stream, now};
pub(super) use failed::Ended;
pub(super) use request::{Request, encoded, key_path, query};

/// A whole answer is no longer than this: what is longer is a stream, and each line of one is no longer.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// A node says within this time that it is of another cluster.
const LOOK: Duration = Duration::from_secs(2);

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
    known: Arc<Known>,
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
        Ok(Self { client, endpoints, first, token, timeout: access.timeout, known: Arc::default() })
    }

    /// The same cluster at other endpoints.
    pub(super) fn at(&self, endpoints: Vec<Endpoint>) -> Self {
        let (client, token, known) = (self.client.clone(), self.token.clone(), self.known.clone());
        Self { client, endpoints, first: AtomicUsize::new(0), token, timeout: self.timeout, known }
    }

    /// True where all endpoints were of other clusters, when they were asked last: there is nothing to wait for.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.known.is_elsewhere()
    }

    /// Asks the endpoints in turn until one gives an answer that another would give too, a refusal included.
    ///
    /// # Errors
    /// The end of the process: 69, 75 or 77.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Exit> {
        self.learn(request).await?;
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
            Failed::Foreign(why) => foreign(&why),
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
                Failed::Unreachable(why) | Failed::Foreign(why) | Failed::Busy(why) => Ended::NotDone(why),
                Failed::Unknown(why) => Ended::Unknown(why),
                Failed::Final(exit) => Ended::Final(exit),
            })?;
            // Whatever stands before the node may have passed it on.
            collect(endpoint, response, sent).await.map_err(|failed| match failed {
                Failed::Final(exit) => Ended::Final(exit),
                Failed::Unreachable(why) | Failed::Foreign(why) | Failed::Busy(why) | Failed::Unknown(why) => {
                    Ended::Unknown(why)
                }
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

    /// The endpoints of `access` and all members beside them; and why some are left out, which are of other clusters.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn all_members(&self, access: &Access) -> Result<(Vec<Endpoint>, Vec<String>), Exit> {
        let told = self.get("/hraftd/raft/cluster").await?.with_list("servers")?.json()?;
        let (mut all, left_out) = self.without_foreign(&access.endpoints).await;
        for server in told["servers"].as_array().into_iter().flatten() {
            let haddr = server["id"].as_str().and_then(|id| id.split(',').next());
            if let Some(member) = haddr.and_then(|haddr| self.endpoint_of(haddr)).filter(|member| !all.contains(member))
            {
                all.push(member);
            }
        }
        Ok((all, left_out))
    }

    /// These but for those that say that they are of another cluster, and what those say.
    async fn without_foreign(&self, endpoints: &[Endpoint]) -> (Vec<Endpoint>, Vec<String>) {
        let ask = Request::get("/hraftd/raft/state");
        let asked = endpoints.iter().map(async |endpoint| match timeout(LOOK, self.whole(endpoint, &ask)).await {
            Ok(Err(Failed::Foreign(why))) => Err(format!("{why}; it is left out")),
            _ => Ok(endpoint.clone()),
        });
        let (mut kept, mut left_out) = (Vec::new(), Vec::new());
        for looked in join_all(asked).await {
            match looked {
                Ok(endpoint) => kept.push(endpoint),
                Err(why) => left_out.push(why),
            }
        }
        (kept, left_out)
    }

    /// The endpoint at a client address that a node told; it speaks what the others do.
    pub(super) fn endpoint_of(&self, haddr: &str) -> Option<Endpoint> {
        let addr: HostPort = haddr.parse().ok()?;
        Some(Endpoint { tls: self.endpoints.iter().any(|endpoint| endpoint.tls), addr })
    }

    /// Before the first write it is asked whose endpoints these are: if its answer is lost, it may be repeated, and there only.
    async fn learn(&self, request: &Request) -> Result<(), Exit> {
        if !request.is_write() || self.endpoints.len() < 2 || self.known.is_settled() {
            return Ok(());
        }
        let mut ask = Request::get("/hraftd/raft/state");
        ask.within = request.within;
        match self.in_turn(&ask, async |endpoint| self.whole(endpoint, &ask).await).await {
            Ok(_) => self.known.was_asked(),
            // Whoever may not ask for that is told the cluster none the less; or the write says what he may not.
            Err(exit) if self.known.is_known() || exit.code == EX_NOPERM => {}
            Err(exit) => return Err(exit),
        }
        Ok(())
    }

    async fn in_turn<T>(
        &self,
        request: &Request,
        ask: impl AsyncFn(&Endpoint) -> Result<T, Failed>,
    ) -> Result<T, Exit> {
        let (began, within) = (Instant::now(), request.within.unwrap_or(self.timeout));
        let mut reasons = Reasons::default();
        loop {
            let (first, mut somebody, mut foreign_ones) = (self.first.load(Ordering::Relaxed), false, 0);
            for turn in 0..self.endpoints.len() {
                let at = (first + turn) % self.endpoints.len();
                let endpoint = &self.endpoints[at];
                let left = within.max(request.attempt).saturating_sub(began.elapsed());
                let given = timeout(left.min(request.attempt), ask(endpoint)).await;
                match given.unwrap_or_else(|_| Err(late(endpoint))) {
                    Ok(answer) => {
                        self.known.note_elsewhere(false);
                        self.first.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(Failed::Final(exit)) => return Err(exit),
                    Err(Failed::Unreachable(why)) => reasons.unreachable = Some(why),
                    Err(Failed::Foreign(why)) => {
                        reasons.foreign = Some(why);
                        foreign_ones += 1;
                    }
                    Err(Failed::Busy(why)) => {
                        reasons.busy = Some(why);
                        somebody = true;
                    }
                    Err(Failed::Unknown(why)) if !request.is_repeatable() => return Err(unknown(&why)),
                    Err(Failed::Unknown(why)) => {
                        reasons.unknown = Some(why);
                        somebody = true;
                    }
                }
            }
            let is_elsewhere = foreign_ones == self.endpoints.len();
            self.known.note_elsewhere(is_elsewhere);
            if is_elsewhere {
                return Err(reasons.elsewhere(request.is_write()));
            }
            let nobody = !somebody && reasons.unknown.is_none();
            if request.once || nobody || began.elapsed() + PAUSE >= within {
                return Err(reasons.end(request.is_write()));
            }
            sleep(PAUSE).await;
        }
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
        asked = asked.header(CLUSTER, self.known.wanted());
        for (name, value) in &request.headers {
            asked = asked.header(name, value);
        }
        let asked = asked.body(Full::new(request.body.clone()));
        let asked = asked.map_err(|error| Failed::Final(Exit::error(EX_FAILURE, error.to_string())))?;
        let response = self.client.request(asked).await.map_err(|error| broken(endpoint, &error))?;
        // A refusal says it better.
        if response.status() != StatusCode::MISDIRECTED_REQUEST
            && let Err([its, ours]) = self.known.heard(response.headers())
        {
            return Err(another(endpoint, request, &its, &ours));
        }
        let why = match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let answer = collect_any(endpoint, response, now()).await?;
                let refused = match answer.code() == "unauthorized" && self.token.is_none() {
                    true => Exit::error(EX_NOPERM, format!("{endpoint}: {NO_TOKEN}")),
                    false => Exit { code: EX_NOPERM, ..answer.refused() },
                };
                return Err(Failed::Final(refused));
            }
            StatusCode::MISDIRECTED_REQUEST => {
                let answer = collect(endpoint, response, now()).await?;
                let why = format!("{endpoint}: {}", message(answer.status, &answer.body));
                return Err(if answer.code() == OTHER_CLUSTER {
                    Failed::Foreign(why)
                } else {
                    Failed::Unreachable(why)
                });
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
