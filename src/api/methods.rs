//! The routes by name, and what is answered where a path or a method is none of them.
//!
//! A leaf: [`route`](super::route) knows the handlers, this list knows only names, so that the page
//! that shows the list need not know who serves it.

use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;

use super::response::error::ApiError;

/// All routes, in the order in which `GET /` shows them. 405 takes its `Allow` from here: `GET`
/// stands for `HEAD` too.
pub const LIST: &[&str] = &[
    "GET /",
    "GET /openapi.json",
    "GET /livez",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /hraftd/key",
    "POST /hraftd/key",
    "DELETE /hraftd/key",
    "GET /hraftd/key/{key}",
    "PUT /hraftd/key/{key}",
    "POST /hraftd/key/{key}",
    "DELETE /hraftd/key/{key}",
    "GET /hraftd/watch",
    "POST /hraftd/txn",
    "GET /hraftd/lock",
    "GET /hraftd/lock/{name}",
    "POST /hraftd/lock/{name}",
    "PUT /hraftd/lock/{name}",
    "DELETE /hraftd/lock/{name}",
    "GET /hraftd/lease",
    "POST /hraftd/lease",
    "GET /hraftd/lease/{id}",
    "PUT /hraftd/lease/{id}",
    "DELETE /hraftd/lease/{id}",
    "GET /hraftd/raft/stats",
    "GET /hraftd/raft/cluster",
    "GET /hraftd/raft/state",
    "GET /hraftd/raft/node",
    "GET /hraftd/raft/health",
    "GET /hraftd/raft/ready",
    "GET /hraftd/raft/events",
    "GET /hraftd/raft/entry/{index}",
    "GET /hraftd/raft/doctor",
    "POST /hraftd/raft/join",
    "DELETE /hraftd/raft/remove",
    "POST /hraftd/raft/leader",
];

/// Has no end, so that there is no head alone.
pub const WATCH: &str = "/hraftd/watch";

/// The route of a raw path, as [`LIST`] writes it; `None`: there is none.
pub fn route_of(path: &str) -> Option<&'static str> {
    // Most are about one key.
    if let Some(rest) = path.strip_prefix("/hraftd/key/").or_else(|| path.strip_prefix("/key/")) {
        return Some(if rest.is_empty() { "/hraftd/key" } else { "/hraftd/key/{key}" });
    }
    let is_short = path.starts_with("/raft/") || path == "/key";
    let routes = LIST.iter().filter_map(|line| line.split_once(' ')).map(|(_, route)| route);
    routes.into_iter().find(|route| {
        let route = if is_short { route.strip_prefix("/hraftd").unwrap_or(route) } else { route };
        let fixed = route.split_once('{').map(|(fixed, _)| fixed);
        fixed.map_or(route == path, |fixed| path.strip_prefix(fixed).is_some_and(|rest| !rest.is_empty()))
    })
}

/// Has no end, either.
pub const EVENTS: &str = "/hraftd/raft/events";

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
        if method == "GET" && listed != WATCH && listed != EVENTS {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

/// Answers a method that a path does not take: `OPTIONS` with the methods that it takes, which is
/// how proxies ask whether a server lives; any other with an error.
pub fn other_method(head: &Parts) -> Result<Response, ApiError> {
    let methods = allowed(head.uri.path());
    if head.method == Method::OPTIONS {
        return Ok(options(&methods));
    }
    let mut error = ApiError::method(&head.method, methods);
    if head.method == Method::PUT
        && matches!(head.uri.path(), "/hraftd/key" | "/key")
        && let ApiError::MethodNotAllowed { msg, .. } = &mut error
    {
        msg.push_str("; PUT /hraftd/key/{key} stores a value, and so does POST /hraftd/key with {\"key\":value}");
    }
    Err(error)
}

fn options(methods: &str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::try_from(format!("{methods}, OPTIONS")).ok();
    response.headers_mut().extend(allow.map(|allow| (ALLOW, allow)));
    response
}

/// Answers a path that does not exist; `OPTIONS *` is about the server as a whole.
pub fn no_route(head: &Parts) -> Result<Response, ApiError> {
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return Ok(options("GET, HEAD, PUT, POST, DELETE"));
    }
    Err(ApiError::no_route(head.uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_paths() {
        for (path, route) in [
            ("/", Some("/")),
            ("/key", Some("/hraftd/key")),
            ("/key/a/b", Some("/hraftd/key/{key}")),
            ("/hraftd/key/", Some("/hraftd/key")),
            ("/hraftd/lock", Some("/hraftd/lock")),
            ("/hraftd/lock/a/b", Some("/hraftd/lock/{name}")),
            ("/hraftd/lease/41", Some("/hraftd/lease/{id}")),
            ("/raft/stats", Some("/hraftd/raft/stats")),
            ("/metrics", Some("/metrics")),
            ("/lock/a", None),
            ("/hraftd/metrics", None),
            ("/evil", None),
        ] {
            assert_eq!(route_of(path), route, "{path}");
        }
    }

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
            ("/hraftd/lock", "GET, HEAD"),
            ("/hraftd/lock/a", "GET, HEAD, POST, PUT, DELETE"),
            ("/hraftd/lease", "GET, HEAD, POST"),
            ("/hraftd/lease/41", "GET, HEAD, PUT, DELETE"),
            ("/raft/stats", "GET, HEAD"),
            ("/hraftd/raft/remove", "DELETE"),
        ] {
            assert_eq!(allowed(path), methods, "{path}");
        }
    }
}
