//! The client HTTP API: routes, limits, JSON and status codes.
//!
//! The only code, with `network`, that knows HTTP; what the answers mean is [`crate::node`]'s.
//! Contract:
//!
//! * Every answer is as `docs/api.md` has it.
//! * Every error has its JSON shape and is never a 200; nothing of a refused request is stored.
//! * A handler that panics answers 500.
//!
//! Reading order: [`route`], [`access`], then [`keys`], [`txn`], [`lock`], [`lease`], [`watch`], [`backup`] and [`admin`]. They read
//! requests with [`request`] and answer with [`response`]; [`response::error`] is the one place
//! that knows status codes.

mod access;
mod admin;
mod admission;
mod auth;
mod backup;
mod keys;
mod lease;
mod lock;
mod methods;
mod metrics;
mod nodes;
mod page;
mod request;
mod response;
mod retry_shares;
mod route;
mod service;
mod spec;
#[cfg(test)]
mod tests;
mod timing;
mod txn;
mod visible;
mod watch;
mod write;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::Either;

use crate::http::{Excess, Handler, PortNumbers};
use crate::node::{NodeError, ReadLevel};
use crate::observe::{AuthRefusal, Logged, Pulses, RequestLogNow, SecurityNumbers};

pub use access::{RootTokens, Sessions};
pub use request::hosts::Hosts;
pub use service::Service;
pub use timing::TokenName;

use access::cluster::Told;
use access::{Access, Head};
use admission::{Admission, Pass};
use keys::KeyRoute;
use metrics::RequestNumbers;
use request::body::BodyMemory;
use request::{content, origin};
use response::Answer;
use response::error::{ApiError, Refused, RefusedFor};
use response::memory::{self, AnswerMemory, OnlyRead};
use retry_shares::{Client, RetryShares};
use timing::{Parts as TimeParts, Work};

/// The settings that the command line decides.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The most bytes the JSON text of one value may have (`--max-value`).
    pub max_value_bytes: usize,
    /// The most bytes a request body may have (`--max-request`).
    pub max_request_bytes: usize,
    /// The read level of a GET that names none (`--read-level`).
    pub read_level: ReadLevel,
    /// How long the outcome of a write with an `Idempotency-Key` is kept, in milliseconds
    /// (`--idempotency-window`).
    pub idempotency_window_ms: u64,
    /// The hosts that a request may name (`--allow-host`).
    pub hosts: Hosts,
    /// The most requests about keys, locks and the like at a time, without those that wait for
    /// something to happen.
    pub max_at_work: usize,
    /// The most long polls, waiters for locks and watchers at a time.
    pub max_waiting: usize,
    /// What the client port counts.
    pub port: Arc<PortNumbers>,
    /// What certificates and tokens count.
    pub security: Arc<SecurityNumbers>,
    /// Clients speak TLS.
    pub https: bool,
    /// Which requests are logged.
    pub log: RequestLogNow,
    /// The threads that must turn, and how long each may take for that.
    pub alive: (Pulses, Duration),
    /// The root tokens of this node.
    pub root: RootTokens,
    /// What signs the sessions of browsers.
    pub sessions: Sessions,
}

/// The client port, for [`crate::http::serve`]; over anything that does what a node does, as tests
/// have no cluster.
pub struct Api<S> {
    app: Arc<App<S>>,
    router: Router,
    /// Whom it serves; `None` before there is a connection.
    client: Option<Client>,
}

impl<S> std::fmt::Debug for Api<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self { app: self.app.clone(), router: self.router.clone(), client: self.client }
    }
}

impl<S: Service> Api<S> {
    /// The API over a node, or over what stands in for one.
    pub fn new(service: S, settings: ApiSettings) -> Self {
        let app = Arc::new(App::new(service, settings));
        Self { router: route::router(&app), app, client: None }
    }
}

impl<S: Service> Handler for Api<S> {
    fn serving(self, client: IpAddr) -> Self {
        Self { client: Some(Client::at(client)), ..self }
    }

    fn answer(&self, mut request: Request) -> impl Future<Output = Response> + Send + use<S> {
        if let Some(client) = self.client {
            client.note(&mut request);
        }
        tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
        let (app, from, began) = (self.app.clone(), self.client.map(Client::ip), Instant::now());
        let (route, method) = (app.numbers.route(request.uri().path()), request.method().clone());
        // The text of a request is only kept where all may be logged; of a slow one it is made while there is time.
        let log = self.app.settings.log.get();
        let logged = (log.logged != Logged::Off).then(|| timing::Logged::of(&request));
        let refused = nodes::refuse(&request).map(IntoResponse::into_response);
        let by_script = origin::is_by_script(&request);
        let told = Told::note(&mut request);
        let answer = match (refused, KeyRoute::parse(request.uri().path())) {
            (Some(refused), _) => Either::Left(Either::Left(std::future::ready(refused))),
            (None, Some(_)) => Either::Left(Either::Right(answer_about_keys(self.app.clone(), request, began))),
            (None, None) => Either::Right(self.router.answer(request).map(route::without_foreign_allow)),
        };
        async move {
            let _in_flight = app.numbers.begin();
            // The panic hook has logged what and where.
            let answer = AssertUnwindSafe(answer).catch_unwind().await;
            let mut response = for_own_pages(answer.unwrap_or_else(|_panic| fault()));
            if by_script && response.status() == StatusCode::UNAUTHORIZED {
                // A browser would open a login box over the page.
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            if let Some(told) = told {
                told.tell(&mut response);
            }
            if let Some(refused) = response.extensions().get::<Refused>() {
                app.access.refusals.note(refused, from);
            }
            if let Some(refused) = response.extensions().get::<RefusedFor>() {
                app.numbers.refused(*refused);
            }
            let took = began.elapsed();
            app.numbers.answered(route, &method, response.status(), took);
            if let Some(logged) = logged {
                logged.end(log, &response, took);
            }
            response
        }
    }
}

/// Browsers give the answer to no page of another site, not even as an image.
fn for_own_pages(mut response: Response) -> Response {
    let name = HeaderName::from_static("cross-origin-resource-policy");
    response.headers_mut().insert(name, HeaderValue::from_static("same-origin"));
    response
}

fn fault() -> Response {
    let why = "a fault of this program; its log has more. Please report it".to_owned();
    ApiError::Node(NodeError::Internal(why)).into_response()
}

async fn answer_about_keys<S: Service>(app: Arc<App<S>>, request: Request, began: Instant) -> Response {
    let (head, body) = request.into_parts();
    let mut head = Head::from(head);
    let admitted = app.admit(&mut head).await;
    let Some(route) = KeyRoute::parse(head.uri.path()) else {
        return ApiError::no_route(head.uri.path()).into_response();
    };
    let answer = match admitted {
        Ok(mut pass) => keys::handle(&app, route, &head, body, &mut pass).await,
        Err(refused) if access::is_strange(&app, &head) => return refused.into_response(),
        Err(refused) => Err(refused),
    };
    app.finish(answer, Kind::Plain, began, timing::is_asked(&head))
}

/// The kind of a request, which the memory of its answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// It cannot be undone if there is no room for its answer.
    Txn,
    /// Bounds itself.
    Watch,
}

/// The state that all requests share.
struct App<S> {
    service: S,
    settings: ApiSettings,
    /// This node's public id, the usual `X-Hraftd-Served-By`.
    served_by: Option<HeaderValue>,
    /// For the bodies of all requests together.
    body_memory: BodyMemory,
    /// For the large values of all watchers together.
    large_values: watch::LargeValues,
    /// Bounds what is taken on at a time.
    admission: Admission,
    /// Bounds what is kept of one client's requests.
    retry_shares: RetryShares,
    /// For the answers of all requests together.
    answer_memory: AnswerMemory,
    /// The backups that clients take.
    backups: backup::Backups,
    /// Counts requests.
    numbers: RequestNumbers,
    /// Who may do what.
    access: Access,
}

impl<S: Service> App<S> {
    fn new(service: S, settings: ApiSettings) -> Self {
        Self {
            served_by: response::served_by(service.id()),
            body_memory: BodyMemory::new(settings.max_request_bytes),
            large_values: watch::LargeValues::default(),
            retry_shares: RetryShares::new(settings.idempotency_window_ms),
            admission: Admission::new(settings.max_at_work, settings.max_waiting),
            answer_memory: AnswerMemory::new(settings.max_value_bytes),
            backups: backup::Backups::default(),
            numbers: RequestNumbers::default(),
            access: Access::new(settings.root.clone(), settings.sessions.clone(), settings.security.clone()),
            service,
            settings,
        }
    }

    /// Refuses what no request may be.
    fn check(&self, head: &Parts) -> Result<(), ApiError> {
        origin::check(head, &self.settings.hosts).inspect_err(|refused| {
            if matches!(refused, ApiError::OtherSite(_)) {
                self.settings.security.refused(AuthRefusal::CrossSite);
            }
        })?;
        content::check(head)
    }

    /// Refuses what no request may be, and whom it may not come from.
    async fn check_all(&self, head: &mut Head) -> Result<(), ApiError> {
        self.check(head)?;
        access::authenticate(self, head).await
    }

    /// Takes on a request about keys, locks and the like, or says why not.
    async fn admit(&self, head: &mut Head) -> Result<Pass<'_>, ApiError> {
        self.check_all(head).await?;
        match head.extensions.get::<Excess>() {
            None => self.admission.enter(&head.method),
            Some(Excess) => Err(admission::too_many_connections()),
        }
    }

    /// An answer for which nothing was asked of the node.
    fn answer_here(&self, result: Result<Response, ApiError>) -> Answer {
        let (index, work) = (self.service.applied_index(), Work::Nothing);
        Answer { result, index, served_by: None, read: None, replayed: false, work }
    }

    /// The response to such a request, with the headers that all of them have and room for its
    /// body.
    ///
    /// The request began at `began`, and `is_timed` if it wants to know where its time went.
    fn finish(&self, answer: Result<Answer, ApiError>, kind: Kind, began: Instant, is_timed: bool) -> Response {
        let refused = |error| self.answer_here(Err(error));
        let answer = answer.unwrap_or_else(refused);
        let work = answer.work;
        let mut response = answer.into_response(self.served_by.as_ref());
        if is_timed || self.settings.log.get().may_take(began.elapsed()) {
            let parts = TimeParts::of(&self.service, work, began);
            if is_timed {
                timing::tell(&mut response, &parts);
            }
            response.extensions_mut().insert(parts);
        }
        if kind == Kind::Watch {
            return response;
        }
        let only_read = response.extensions().get::<OnlyRead>().is_some();
        let changed = kind == Kind::Txn && response.status().is_success() && !only_read;
        let admitted = self.answer_memory.admit(response);
        admitted.unwrap_or_else(|| refused(memory::no_room(changed)).into_response(self.served_by.as_ref()))
    }
}
