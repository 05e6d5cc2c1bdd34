//! The routes by name, and what is answered where a path or a method is none of them.
//!
//! A leaf: [`route`](super::route) knows the handlers, this list knows only names, so that the page
//! that shows the list need not know who serves it.

use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;

use super::response::error::ApiError;

/// What a route needs where authentication is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it tells nothing of what is stored, nor of the cluster.
    Public,
    /// Who asks must be known.
    Known,
    /// Its handler demands grants for the keys and locks that it is about.
    Data,
    /// `status`.
    Status,
    /// `members`.
    Members,
    /// `admin`, and also where authentication is off.
    Tokens,
    /// A root token, also where authentication is off.
    Root,
}

impl Needs {
    /// Needs a root token where authentication is off.
    pub fn is_about_tokens(self) -> bool {
        matches!(self, Needs::Tokens | Needs::Root | Needs::Known)
    }
}

/// All routes, in the order in which `GET /` shows them, and what each needs. 405 takes its `Allow` from here: `GET`
/// stands for `HEAD` too.
pub const ROUTES: &[(&str, Needs)] = &[
    ("GET /", Needs::Public),
    ("GET /openapi.json", Needs::Public),
    ("GET /ui/", Needs::Public),
    ("GET /ui/{file}", Needs::Public),
    ("GET /livez", Needs::Public),
    ("GET /healthz", Needs::Public),
    ("GET /readyz", Needs::Public),
    ("GET /metrics", Needs::Status),
    ("GET /hraftd/key", Needs::Data),
    ("POST /hraftd/key", Needs::Data),
    ("DELETE /hraftd/key", Needs::Data),
    ("GET /hraftd/key/{key}", Needs::Data),
    ("PUT /hraftd/key/{key}", Needs::Data),
    ("POST /hraftd/key/{key}", Needs::Data),
    ("DELETE /hraftd/key/{key}", Needs::Data),
    ("GET /hraftd/watch", Needs::Data),
    ("POST /hraftd/txn", Needs::Data),
    ("GET /hraftd/lock", Needs::Data),
    ("GET /hraftd/lock/{name}", Needs::Data),
    ("POST /hraftd/lock/{name}", Needs::Data),
    ("PUT /hraftd/lock/{name}", Needs::Data),
    ("DELETE /hraftd/lock/{name}", Needs::Data),
    ("GET /hraftd/lease", Needs::Data),
    ("POST /hraftd/lease", Needs::Data),
    ("GET /hraftd/lease/{id}", Needs::Data),
    ("PUT /hraftd/lease/{id}", Needs::Data),
    ("DELETE /hraftd/lease/{id}", Needs::Data),
    ("GET /hraftd/backup", Needs::Data),
    ("GET /hraftd/raft/stats", Needs::Status),
    ("GET /hraftd/raft/cluster", Needs::Status),
    ("GET /hraftd/raft/members", Needs::Status),
    ("GET /hraftd/raft/state", Needs::Status),
    ("GET /hraftd/raft/node", Needs::Status),
    ("GET /hraftd/raft/health", Needs::Public),
    ("GET /hraftd/raft/ready", Needs::Public),
    ("GET /hraftd/raft/events", Needs::Status),
    ("GET /hraftd/raft/entry/{index}", Needs::Status),
    ("GET /hraftd/raft/doctor", Needs::Status),
    ("POST /hraftd/raft/join", Needs::Members),
    ("DELETE /hraftd/raft/remove", Needs::Members),
    ("POST /hraftd/raft/leader", Needs::Members),
    ("PUT /hraftd/auth", Needs::Root),
    ("DELETE /hraftd/auth", Needs::Root),
    ("POST /hraftd/auth/session", Needs::Known),
    ("DELETE /hraftd/auth/session", Needs::Public),
    ("GET /hraftd/auth/whoami", Needs::Known),
    ("GET /hraftd/auth/token", Needs::Tokens),
    ("GET /hraftd/auth/token/{name}", Needs::Tokens),
    ("PUT /hraftd/auth/token/{name}", Needs::Tokens),
    ("DELETE /hraftd/auth/token/{name}", Needs::Tokens),
];

/// The routes, as `GET /` shows them.
pub fn list() -> Vec<&'static str> {
    ROUTES.iter().map(|(line, _)| *line).collect()
}

/// What a request needs by its method and raw path. What is no route needs to be known, so that nobody else learns what
/// there is; whoever answers it may well demand more.
pub fn needs(method: &Method, path: &str) -> Needs {
    // Where the page is, without its slash: it only leads there.
    if *method == Method::OPTIONS || path == PAGE {
        return Needs::Public;
    }
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    // Those of keys and of Raft answer without the `/hraftd` too.
    let short = |listed: &'static str| {
        listed.strip_prefix("/hraftd").filter(|rest| rest.starts_with("/raft/") || rest.starts_with("/key"))
    };
    let same = |listed: &'static str| match listed.split_once('{') {
        Some((fixed, _)) => path.starts_with(fixed) || short(fixed).is_some_and(|short| path.starts_with(short)),
        None => path == listed || short(listed) == Some(path),
    };
    let found =
        ROUTES.iter().find(|(line, _)| line.split_once(' ').is_some_and(|(of, listed)| of == method && same(listed)));
    found.map_or(Needs::Data, |(_, needs)| *needs)
}

/// Leads to the page; people type it so.
pub const PAGE: &str = "/ui";

/// Has no end, so that there is no head alone.
pub const WATCH: &str = "/hraftd/watch";

/// The route of a raw path, as [`ROUTES`] writes it; `None`: there is none.
pub fn route_of(path: &str) -> Option<&'static str> {
    // Most are about one key.
    if let Some(rest) = path.strip_prefix("/hraftd/key/").or_else(|| path.strip_prefix("/key/")) {
        return Some(if rest.is_empty() { "/hraftd/key" } else { "/hraftd/key/{key}" });
    }
    let is_short = path.starts_with("/raft/") || path == "/key";
    let routes = ROUTES.iter().filter_map(|(line, _)| line.split_once(' ')).map(|(_, route)| route);
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
    for (method, listed) in
        ROUTES.iter().filter_map(|(line, _)| line.split_once(' ')).filter(|(_, listed)| is_same(listed))
    {
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
