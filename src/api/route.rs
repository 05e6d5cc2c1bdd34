//! Which path and method go to which handler.
//!
//! `/hraftd/key…` and `/hraftd/raft…` answer without the `/hraftd` too; newer routes have one path.
//!
//! Requests about keys do not come here: they are most of all, and the way through a router is
//! eight allocations ([`KeyRoute`](super::keys::KeyRoute)). A key must be spared the decoding of a
//! router's path parameters, and so must the name of a lock: handlers read the raw path.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use futures_util::future::BoxFuture;

use super::admission::Pass;
use super::service::Service;
use super::{App, Kind, admin, lock, txn, watch};
use crate::api::response::Answer;
use crate::api::response::error::ApiError;

/// All routes, in the order in which `GET /` shows them. 405 takes its `Allow` from here: `GET`
/// stands for `HEAD` too.
pub const LIST: &[&str] = &[
    "GET /",
    "GET /openapi.json",
    "GET /hraftd/key",
    "POST /hraftd/key",
    "DELETE /hraftd/key",
    "GET /hraftd/key/{key}",
    "PUT /hraftd/key/{key}",
    "POST /hraftd/key/{key}",
    "DELETE /hraftd/key/{key}",
    "GET /hraftd/watch",
    "POST /hraftd/txn",
    "GET /hraftd/lock/{name}",
    "POST /hraftd/lock/{name}",
    "PUT /hraftd/lock/{name}",
    "DELETE /hraftd/lock/{name}",
    "GET /hraftd/raft/stats",
    "GET /hraftd/raft/cluster",
    "GET /hraftd/raft/state",
    "GET /hraftd/raft/node",
    "GET /hraftd/raft/health",
    "GET /hraftd/raft/ready",
    "POST /hraftd/raft/join",
    "DELETE /hraftd/raft/remove",
    "POST /hraftd/raft/leader",
];

/// Has no end, so that there is no head alone.
const WATCH: &str = "/hraftd/watch";

/// The methods of a raw path, as the `Allow` header lists them.
fn allowed(path: &str) -> String {
    let path = path.strip_prefix("/hraftd").unwrap_or(path);
    let is_same = |listed: &str| {
        let listed = listed.strip_prefix("/hraftd").unwrap_or(listed);
        listed.split_once('{').map_or(listed == path, |(fixed, _)| path.starts_with(fixed))
    };
    let mut methods = Vec::new();
    for (method, listed) in LIST.iter().filter_map(|line| line.split_once(' ')).filter(|(_, listed)| is_same(listed)) {
        methods.push(method);
        if method == "GET" && listed != WATCH {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

/// Answers a method that a path does not take: `OPTIONS` with the methods that it takes, which is
/// how proxies ask whether a server lives; any other with an error.
pub fn other_method(head: &Parts) -> Result<Response, ApiError> {
    let methods = allowed(head.uri.path());
    if head.method == Method::OPTIONS { Ok(options(&methods)) } else { Err(ApiError::method(&head.method, methods)) }
}

fn options(methods: &str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::try_from(format!("{methods}, OPTIONS")).ok();
    response.headers_mut().extend(allow.map(|allow| (ALLOW, allow)));
    response
}

/// Answers a path that does not exist; `OPTIONS *` is about the server as a whole.
fn no_route(head: &Parts) -> Result<Response, ApiError> {
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return Ok(options("GET, HEAD, PUT, POST, DELETE"));
    }
    Err(ApiError::no_route(head.uri.path()))
}

/// All routes but those of keys.
pub(super) fn router<S: Service>(app: &Arc<App<S>>) -> Router {
    let mut admin = Router::new().route("/", get(admin::index)).route("/openapi.json", get(admin::openapi));
    let raft: [(&str, MethodRouter<Arc<App<S>>>); 9] = [
        ("stats", get(admin::status::stats)),
        ("cluster", get(admin::status::cluster)),
        ("state", get(admin::status::state)),
        ("node", get(admin::status::node)),
        ("health", get(admin::health)),
        ("ready", get(admin::ready)),
        ("join", post(admin::membership::join)),
        ("remove", delete(admin::membership::remove)),
        ("leader", post(admin::membership::leader)),
    ];
    for (name, methods) in raft {
        admin = admin.route(&format!("/hraftd/raft/{name}"), methods.clone()).route(&format!("/raft/{name}"), methods);
    }
    let admin = admin
        .method_not_allowed_fallback(|head: Parts| async move { other_method(&head) })
        .fallback(|head: Parts| async move { no_route(&head) })
        .layer(middleware::from_fn_with_state(app.clone(), check::<S>));

    let locks = || {
        get(data(Kind::Plain, |app, head, _, mut pass| Box::pin(async move { lock::get(app, head, &mut pass).await })))
            .post(data(Kind::Plain, |app, head, body, mut pass| {
                Box::pin(async move { lock::acquire::post(app, head, body, &mut pass).await })
            }))
            .put(data(Kind::Plain, |app, head, body, _| Box::pin(lock::renew(app, head, body))))
            .delete(data(Kind::Plain, |app, head, body, _| Box::pin(lock::release(app, head, body))))
    };
    let refused = data::<S>(Kind::Plain, |app, head, _, _| {
        Box::pin(async { other_method(head).map(|response| app.answer_here(Ok(response))) })
    });
    let watches = get(data(Kind::Watch, |app, head, _, pass| Box::pin(watch::watch(app, head, pass))));
    let about_data = Router::new()
        .route("/hraftd/txn", post(data(Kind::Txn, |app, head, body, _| Box::pin(txn::post(app, head, body)))))
        .route(WATCH, watches.head(refused.clone()))
        .route("/hraftd/lock/", locks())
        .route("/hraftd/lock/{*name}", locks())
        .method_not_allowed_fallback(refused);
    admin.merge(about_data).with_state(app.clone())
}

/// axum adds an `Allow` to all that answers a method which a route does not take, a 403 and a 503
/// too; only a 405 and an `OPTIONS` have one, which they brought themselves.
pub fn without_foreign_allow(mut response: Response) -> Response {
    if !matches!(response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NO_CONTENT) {
        response.headers_mut().remove(ALLOW);
    }
    response
}

/// A page of another site gets nothing, not even a 404.
async fn check<S: Service>(State(app): State<Arc<App<S>>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match app.check(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(refused) => refused.into_response(),
    }
}

/// Handles a request that was taken on.
type Work<S> = for<'a> fn(&'a Arc<App<S>>, &'a Parts, Body, Pass<'a>) -> BoxFuture<'a, Result<Answer, ApiError>>;

/// A handler of requests about locks, transactions and the like: they pass admission, and have
/// headers of their own.
fn data<S: Service>(
    kind: Kind,
    work: Work<S>,
) -> impl Fn(State<Arc<App<S>>>, Request) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static {
    move |State(app), request| {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let answer = match app.admit(&head) {
                Ok(pass) => work(&app, &head, body, pass).await,
                Err(refused) => Err(refused),
            };
            app.finish(answer, kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_paths() {
        for (path, methods) in [
            ("/", "GET, HEAD"),
            ("/hraftd/key", "GET, HEAD, POST, DELETE"),
            ("/key", "GET, HEAD, POST, DELETE"),
            ("/hraftd/key/", "GET, HEAD, PUT, POST, DELETE"),
            ("/key/a%2Fb/c", "GET, HEAD, PUT, POST, DELETE"),
            ("/hraftd/watch", "GET"),
            ("/hraftd/txn", "POST"),
            ("/hraftd/lock/a", "GET, HEAD, POST, PUT, DELETE"),
            ("/raft/stats", "GET, HEAD"),
            ("/hraftd/raft/remove", "DELETE"),
        ] {
            assert_eq!(allowed(path), methods, "{path}");
        }
    }
}
