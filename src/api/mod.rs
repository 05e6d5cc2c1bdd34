//! The client HTTP API: routes, limits, JSON and status codes.
//!
//! The only code, with `network`, that knows HTTP; what the answers mean is [`crate::node`]'s. Contract: every answer
//! is as API.md has it, every error has its JSON shape and is never a 200, nothing of a refused request is stored,
//! and a handler that panics answers 500.
//!
//! The router has one handler, which matches the *raw* path itself: axum's routing decodes percent escapes, which a
//! key must be spared, and its 404 and 405 are not in our shape. Requests about keys go to it past the router ([`Api`]).
//!
//! Reading order: [`route`], then [`keys`], [`listing`], [`txn`], [`lock`] and [`raft`]; [`error`] is the one place that
//! knows status codes.

mod admin;
mod admission;
mod keys;
mod lock;
mod request;
mod response;
mod route;
mod service;
mod spec;
#[cfg(test)]
mod tests;
mod txn;
mod watch;
mod write;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::Either;
use tokio::time::{Instant, Sleep};

use crate::http::{Excess, Handler};
use crate::node::{NodeError, ReadLevel};

pub use service::Service;

use admission::{Admission, Pass};
use response::Answer;
use response::error::ApiError;
use response::memory::Answers;
use route::Route;

/// How much later than its deadline a request is given up here: the node's own answer says more, so it goes first.
const GRACE: Duration = Duration::from_millis(100);

/// What the command line decides for this API.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The most bytes the JSON text of one value may have (`--max-value`).
    pub max_value_bytes: usize,
    /// The most bytes a request body may have (`--max-request`).
    pub max_request_bytes: usize,
    /// The level of a GET that names none (`--read-level`).
    pub read_level: ReadLevel,
    /// How long the outcome of a write with an `Idempotency-Key` is kept, in milliseconds (`--idempotency-window`).
    pub idempotency_window_ms: u64,
    /// Whether the port is bound to loopback alone: then a `Host` that is not loopback is refused.
    pub loopback_only: bool,
    /// Requests about keys, locks and the like at a time, but for those that wait for something to happen.
    pub max_at_work: usize,
    /// Long polls, waiters for locks and watchers at a time.
    pub max_waiting: usize,
}

/// The client port, for [`crate::http::serve`]; over anything that does what a node does, as tests have no cluster.
pub struct Api<S> {
    app: Arc<App<S>>,
    router: Router,
}

impl<S> std::fmt::Debug for Api<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self { app: self.app.clone(), router: self.router.clone() }
    }
}

impl<S: Service> Api<S> {
    /// Before the first request.
    pub fn new(service: S, settings: ApiSettings) -> Self {
        let app = Arc::new(App::new(service, settings));
        Self { router: Router::new().fallback(handle::<S>).with_state(app.clone()), app }
    }
}

impl<S: Service> Handler for Api<S> {
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send + use<S> {
        // It is the router's one handler; the way through the router is eight allocations.
        match Route::of(request.uri().path()) {
            Some(Route::Keys | Route::Key(_)) => Either::Left(handle(State(self.app.clone()), request)),
            _ => Either::Right(self.router.answer(request)),
        }
    }
}

struct App<S> {
    service: S,
    settings: ApiSettings,
    /// This node's public id, the usual `X-Hraftd-Served-By`.
    served_by: Option<HeaderValue>,
    /// For the bodies of all requests together.
    room: request::body::Room,
    /// For all watchers together.
    large: watch::Large,
    /// What is taken on at a time.
    admission: Admission,
    /// For the answers of all requests together.
    answers: Answers,
}

impl<S: Service> App<S> {
    fn new(service: S, settings: ApiSettings) -> Self {
        Self {
            served_by: response::served_by(service.id()),
            room: request::body::Room::new(settings.max_request_bytes),
            large: watch::Large::default(),
            admission: Admission::new(settings.max_at_work, settings.max_waiting),
            answers: Answers::new(settings.max_value_bytes),
            service,
            settings,
        }
    }
}

async fn handle<S: Service>(State(app): State<Arc<App<S>>>, request: Request) -> Response {
    // The panic hook has logged what and where.
    AssertUnwindSafe(dispatch(&app, request)).catch_unwind().await.unwrap_or_else(|_panic| {
        ApiError::Node(NodeError::Internal("a fault of this program; its log has more. Please report it".to_owned()))
            .into_response()
    })
}

async fn dispatch<S: Service>(app: &Arc<App<S>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    tracing::debug!(method = %head.method, uri = %head.uri, "request");
    let Some(route) = Route::of(head.uri.path()) else {
        let refused = request::origin::check(&head, app.settings.loopback_only).err();
        return refused.unwrap_or_else(|| ApiError::no_route(head.uri.path())).into_response();
    };
    let allowed = request::origin::check(&head, app.settings.loopback_only);
    if let Route::Other(other) = route {
        let answer = match allowed {
            Ok(()) => Box::pin(admin::respond(app, other, &head, body)).await,
            Err(refused) => Err(refused),
        };
        return answer.unwrap_or_else(IntoResponse::into_response);
    }
    let pass = allowed.and_then(|()| match head.extensions.get::<Excess>() {
        None => app.admission.enter(&head.method),
        Some(Excess) => Err(admission::too_many_connections()),
    });
    let answer = match pass {
        Ok(pass) => answer(app, route, &head, body, pass).await,
        Err(refused) => Err(refused),
    };
    let response = answer.unwrap_or_else(|error| Answer::refused(error, app)).into_response(app);
    if route == Route::Watch {
        return response;
    }
    let ran = route == Route::Txn && response.status().is_success();
    app.answers
        .admit(response)
        .unwrap_or_else(|| Answer::refused(response::memory::no_room(ran), app).into_response(app))
}

/// A request about keys, locks and the like that was taken on.
async fn answer<S: Service>(
    app: &Arc<App<S>>,
    route: Route<'_>,
    head: &Parts,
    body: Body,
    mut pass: Pass<'_>,
) -> Result<Answer, ApiError> {
    match route {
        Route::Keys => keys::answer(app, None, head, body, &mut pass).await,
        Route::Key(raw) => keys::answer(app, Some(raw), head, body, &mut pass).await,
        Route::Lock(raw) => Box::pin(lock::answer(app, raw, head, body, &mut pass)).await,
        Route::Txn => Box::pin(txn::answer(app, head, body)).await,
        Route::Watch => Box::pin(watch::answer(app, head, pass)).await,
        Route::Other(_) => Err(ApiError::no_route(head.uri.path())),
    }
}

/// Runs `work` unless `sleep` ends first; one timer serves all the steps of a request.
async fn within<T>(mut sleep: std::pin::Pin<&mut Sleep>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = sleep.as_mut() => None,
    }
}

/// The timer of a request that must be done by `deadline`.
fn timer(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline + GRACE)
}
