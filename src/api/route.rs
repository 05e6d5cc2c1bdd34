//! Which path and method go to which handler.
//!
//! `/hraftd/key…` and `/hraftd/raft…` answer without the `/hraftd` too; newer routes have one path.
//!
//! Requests about keys do not come here: they are most of all, and the way through a router is
//! eight allocations ([`KeyRoute`](super::keys::KeyRoute)). A key must be spared the decoding of a
//! router's path parameters, and so must the name of a lock: handlers read the raw path.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use futures_util::future::BoxFuture;

use super::access::Head;
use super::admission::Pass;
use super::methods::{EVENTS, PAGE, WATCH, no_route, other_method};
use super::service::Service;
use super::{App, Kind, access, admin, auth, backup, lease, lock, metrics, page, spec, timing, txn, visible, watch};
use crate::api::response::Answer;
use crate::api::response::error::ApiError;

/// All routes but those of keys.
pub(super) fn router<S: Service>(app: &Arc<App<S>>) -> Router {
    let mut admin = Router::new().route("/", get(admin::index)).route("/openapi.json", get(spec::openapi));
    admin = admin
        .route("/livez", get(admin::probes::livez))
        .route("/healthz", get(admin::probes::healthz))
        .route("/readyz", get(admin::probes::readyz))
        .route("/metrics", get(metrics::metrics));
    admin = admin.route(PAGE, get(page::short)).route("/ui/", get(page::page)).route("/ui/{*file}", get(page::file));
    let raft: [(&str, MethodRouter<Arc<App<S>>>); 12] = [
        ("stats", get(admin::status::stats)),
        ("cluster", get(admin::status::cluster)),
        ("members", get(visible::members::members)),
        ("state", get(admin::status::state)),
        ("node", get(admin::status::node)),
        ("health", get(admin::health)),
        ("ready", get(admin::ready)),
        ("entry/{index}", get(visible::entry::entry)),
        ("doctor", get(visible::doctor::doctor)),
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
    let leases = get(data(Kind::Plain, |app, head, _, mut pass| {
        Box::pin(async move { lease::get(app, head, &mut pass).await })
    }))
    .put(data(Kind::Plain, |app, head, body, _| Box::pin(lease::keep_alive(app, head, body))))
    .delete(data(Kind::Plain, |app, head, body, _| Box::pin(lease::revoke(app, head, body))));
    let tokens = get(data(Kind::Plain, |app, head, _, mut pass| {
        Box::pin(async move { auth::list::get(app, head, &mut pass).await })
    }))
    .put(data(Kind::Plain, |app, head, body, _| Box::pin(auth::token::put(app, head, body))))
    .delete(data(Kind::Plain, |app, head, body, _| Box::pin(auth::token::delete(app, head, body))));
    let refused = data::<S>(Kind::Plain, |app, head, _, _| {
        Box::pin(async { other_method(head).map(|response| app.answer_here(Ok(response))) })
    });
    let watches = get(data(Kind::Watch, |app, head, _, pass| Box::pin(watch::watch(app, head, pass))));
    let events = || {
        get(data(Kind::Watch, |app, head, _, pass| Box::pin(visible::events::events(app, head, pass))))
            .head(refused.clone())
    };
    let about_data = Router::new()
        .route(EVENTS, events())
        .route(EVENTS.trim_start_matches("/hraftd"), events())
        .route("/hraftd/txn", post(data(Kind::Txn, |app, head, body, _| Box::pin(txn::post(app, head, body)))))
        .route(WATCH, watches.head(refused.clone()))
        .route(
            "/hraftd/lock",
            get(data(Kind::Plain, |app, head, _, mut pass| {
                Box::pin(async move { lock::list::list(app, head, &mut pass).await })
            })),
        )
        .route(
            "/hraftd/lease",
            get(data(Kind::Plain, |app, head, _, mut pass| {
                Box::pin(async move { lease::list::list(app, head, &mut pass).await })
            }))
            .post(data(Kind::Plain, |app, head, body, _| Box::pin(lease::post(app, head, body)))),
        )
        .route(
            "/hraftd/backup",
            get(data(Kind::Plain, |app, head, _, mut pass| {
                Box::pin(async move { backup::get(app, head, &mut pass).await })
            })),
        )
        .route("/hraftd/lease/{id}", leases)
        .route(
            "/hraftd/auth",
            put(data(Kind::Plain, |app, head, body, _| Box::pin(auth::on(app, head, body))))
                .delete(data(Kind::Plain, |app, head, body, _| Box::pin(auth::off(app, head, body)))),
        )
        .route(
            "/hraftd/auth/session",
            post(data(Kind::Plain, |app, head, body, _| Box::pin(auth::session::begin(app, head, body))))
                .delete(data(Kind::Plain, |app, head, body, _| Box::pin(auth::session::end(app, head, body)))),
        )
        .route("/hraftd/auth/whoami", get(data(Kind::Plain, |app, head, _, _| Box::pin(auth::whoami(app, head)))))
        .route(
            "/hraftd/auth/token",
            get(data(Kind::Plain, |app, head, _, mut pass| {
                Box::pin(async move { auth::list::list(app, head, &mut pass).await })
            })),
        )
        .route("/hraftd/auth/token/{name}", tokens)
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
    let mut head = Head::from(head);
    match app.check_all(&mut head).await {
        Ok(()) => next.run(Request::from_parts(head.into_parts(), body)).await,
        Err(refused) => refused.into_response(),
    }
}

/// Handles a request that was taken on.
type Work<S> = for<'a> fn(&'a Arc<App<S>>, &'a Head, Body, Pass<'a>) -> BoxFuture<'a, Result<Answer, ApiError>>;

/// A handler of requests about locks, transactions and the like: they pass admission, and have
/// headers of their own.
fn data<S: Service>(
    kind: Kind,
    work: Work<S>,
) -> impl Fn(State<Arc<App<S>>>, Request) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static {
    move |State(app), request| {
        Box::pin(async move {
            let began = Instant::now();
            let (head, body) = request.into_parts();
            let mut head = Head::from(head);
            let admitted = app.admit(&mut head).await;
            let answer = match admitted {
                Ok(pass) => work(&app, &head, body, pass).await,
                Err(refused) if access::is_strange(&app, &head) => return refused.into_response(),
                Err(refused) => Err(refused),
            };
            app.finish(answer, kind, began, timing::is_asked(&head))
        })
    }
}
