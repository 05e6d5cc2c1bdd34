//! The ceiling: what HTTP alone allows on this machine. The same routes and answers with the same libraries, over a plain
//! map in one process, without consensus and without a disk.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use compact_str::CompactString;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::process::Server;
use crate::support::ports;
use crate::support::wait::{SETTLE, eventually};

/// The first argument that makes this binary [`serve`].
pub const SERVE: &str = "ceiling";

const INDEX: HeaderName = HeaderName::from_static("x-hraftd-index");

pub fn version(_: &Path) -> Option<String> {
    Some("axum without consensus".to_owned())
}

pub fn start(dir: &Path) -> Vec<Server> {
    let addr = format!("127.0.0.1:{}", ports::free_pair());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([SERVE, &addr]);
    let server = Server::start(&command, addr.clone(), dir.join("log"));
    eventually(SETTLE, "the ceiling serves", || std::net::TcpStream::connect(&addr).map_err(|error| error.to_string()));
    vec![server]
}

#[derive(Default)]
struct Store {
    map: Mutex<HashMap<CompactString, Bytes>>,
    index: AtomicU64,
}

/// Serves until it is killed. Connections are accepted and set up as `src/http` does it.
pub fn serve(addr: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let router = Router::new()
            .route("/hraftd/key", post(put))
            .route("/hraftd/key/{*key}", get(read))
            .with_state(Arc::new(Store::default()));
        let listener = TcpListener::bind(addr).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(
                http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}

async fn put(State(store): State<Arc<Store>>, body: Bytes) -> Response {
    let Ok(pairs) = serde_json::from_slice::<HashMap<CompactString, &RawValue>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let index = store.index.fetch_add(1, Ordering::Relaxed);
    let mut map = store.map.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, value) in pairs {
        map.insert(key, Bytes::copy_from_slice(value.get().as_bytes()));
    }
    drop(map);
    json(index, format!("{{\"ok\":true,\"msg\":\"OK\",\"index\":{index}}}").into_bytes())
}

async fn read(State(store): State<Arc<Store>>, UrlPath(key): UrlPath<CompactString>) -> Response {
    let found = store.map.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let Some(value) = found else { return StatusCode::NOT_FOUND.into_response() };
    let mut out = Vec::with_capacity(key.len() + value.len() + 8);
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(&value);
    out.push(b'}');
    json(store.index.load(Ordering::Relaxed), out)
}

fn json(index: u64, body: Vec<u8>) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(INDEX, HeaderValue::from(index));
    response
}
