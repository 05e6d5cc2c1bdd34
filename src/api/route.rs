//! Which path is which route, and which methods it takes. Knows no handler.
//!
//! `/hraftd/key…` and `/hraftd/raft…` answer without the `/hraftd` too; newer routes have one path.

use axum::http::Method;

/// A path that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/hraftd/key`: many keys.
    Keys,
    /// `/hraftd/key/{key}`: what follows `/key/`, still encoded; may be empty.
    Key(&'a str),
    /// `/hraftd/lock/{name}`: what follows `/lock/`, still encoded; may be empty.
    Lock(&'a str),
    /// `/hraftd/txn`.
    Txn,
    /// `/hraftd/watch`.
    Watch,
    /// All that is not about keys.
    Other(Other),
}

/// The routes with a fixed path that are not about keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Other {
    Index,
    Stats,
    Cluster,
    State,
    Node,
    Health,
    Ready,
    Join,
    Remove,
    Leader,
    OpenApi,
}

/// What `GET /` shows, in this order.
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

impl<'a> Route<'a> {
    /// The route of a raw, still encoded path.
    pub fn of(path: &'a str) -> Option<Self> {
        match path {
            "/" => return Some(Self::Other(Other::Index)),
            "/openapi.json" => return Some(Self::Other(Other::OpenApi)),
            _ => {}
        }
        match path.strip_prefix("/hraftd/") {
            Some("txn") => return Some(Self::Txn),
            Some("watch") => return Some(Self::Watch),
            Some(rest) => {
                if let Some(name) = rest.strip_prefix("lock/") {
                    return Some(Self::Lock(name));
                }
            }
            None => {}
        }
        let path = path.strip_prefix("/hraftd").unwrap_or(path);
        if let Some(key) = path.strip_prefix("/key/") {
            return Some(Self::Key(key));
        }
        if path == "/key" {
            return Some(Self::Keys);
        }
        Some(Self::Other(match path.strip_prefix("/raft/")? {
            "stats" => Other::Stats,
            "cluster" => Other::Cluster,
            "state" => Other::State,
            "node" => Other::Node,
            "health" => Other::Health,
            "ready" => Other::Ready,
            "join" => Other::Join,
            "remove" => Other::Remove,
            "leader" => Other::Leader,
            _ => return None,
        }))
    }
}

impl Other {
    /// The methods it takes, as the `Allow` header lists them.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Join | Self::Leader => "POST",
            Self::Remove => "DELETE",
            _ => "GET, HEAD",
        }
    }

    /// Whether it takes this method.
    pub fn takes(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases = [
            ("/", Some(Route::Other(Other::Index))),
            ("/hraftd/key", Some(Route::Keys)),
            ("/key", Some(Route::Keys)),
            ("/hraftd/key/", Some(Route::Key(""))),
            ("/hraftd/key/a/b//c%2F/", Some(Route::Key("a/b//c%2F/"))),
            ("/key//", Some(Route::Key("/"))),
            ("/key/../raft/stats", Some(Route::Key("../raft/stats"))),
            ("/raft/stats", Some(Route::Other(Other::Stats))),
            ("/hraftd/raft/remove", Some(Route::Other(Other::Remove))),
            ("", None),
            ("*", None),
            ("//", None),
            ("/hraftd", None),
            ("/hraftd/", None),
            ("/hraftdkey", None),
            ("/hraftd/hraftd/key", None),
            ("/keys", None),
            ("/hraftd/raft", None),
            ("/hraftd/raft/stats/", None),
            ("/HRAFTD/KEY", None),
        ];
        for (path, route) in cases {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn the_list_is_of_routes() {
        for line in LIST {
            let (method, path) = line.split_once(' ').unwrap();
            if let Route::Other(other) = Route::of(path).unwrap() {
                assert!(other.takes(&method.parse().unwrap()), "{line}");
            }
        }
    }
}
