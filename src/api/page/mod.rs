//! The page for browsers, `/ui/`: files that are part of the binary.
//!
//! Anybody may load them: they are the same everywhere, and show nothing before they have asked this API. They work
//! behind any path of a proxy, because every address in them is relative.

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use xxhash_rust::xxh3::xxh3_64;

use super::response::error::{ApiError, Problem};

/// Nothing from elsewhere, no script or style in the document, and no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
);

/// A file of the page.
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal $kind:literal,)*) => {
        &[$(File { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../page/", $name)) },)*]
    };
}

/// All of them; the first is the page.
const FILES: &[File] = files![
    "index.html" "text/html; charset=utf-8",
    "style.css" "text/css; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "api.js" "text/javascript; charset=utf-8",
    "app.js" "text/javascript; charset=utf-8",
    "cluster.js" "text/javascript; charset=utf-8",
    "dom.js" "text/javascript; charset=utf-8",
    "history.js" "text/javascript; charset=utf-8",
    "keys.js" "text/javascript; charset=utf-8",
    "live.js" "text/javascript; charset=utf-8",
    "meaning.js" "text/javascript; charset=utf-8",
    "value.js" "text/javascript; charset=utf-8",
    "watch.js" "text/javascript; charset=utf-8",
    "write.js" "text/javascript; charset=utf-8",
];

/// Whether the list of routes is asked for by somebody who would rather see the page.
pub fn is_for_browser(headers: &HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/html"));
    headers.get_all(ACCEPT).iter().any(accepts)
}

/// Leads a browser elsewhere, relative to where it is.
pub fn lead_to(place: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(place));
    response
}

/// Leads to the page.
pub async fn short() -> Response {
    lead_to("ui/")
}

/// The page for browsers
#[utoipa::path(get, path = "/ui/", tag = "raft", responses(
    (status = 200, description = "the page", body = String, content_type = "text/html"),
    (status = 304, description = "it is what If-None-Match has"),
))]
pub async fn page(headers: HeaderMap) -> Response {
    serve(&FILES[0], &headers)
}

/// A part of that page
#[utoipa::path(get, path = "/ui/{file}", tag = "raft", params(("file" = String, Path)), responses(
    (status = 200, description = "the file", body = String, content_type = "text/javascript"),
    (status = 304, description = "it is what If-None-Match has"),
    (status = 404, description = "the page has no such file", body = Problem),
))]
pub async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|file| file.name == name);
    found.map(|file| serve(file, &headers)).ok_or_else(|| ApiError::no_route(&format!("/ui/{name}")))
}

fn serve(file: &File, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:016x}\"", xxh3_64(file.bytes));
    let is_same = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains(&tag));
    let mut response = Response::default();
    if headers.get_all(IF_NONE_MATCH).iter().any(is_same) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(file.bytes);
    }
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    out.insert(CONTENT_SECURITY_POLICY, POLICY);
    out.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // A node of another version has other files.
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.extend(HeaderValue::try_from(tag).ok().map(|tag| (ETAG, tag)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most bytes of all files together: it is to be there at once, and in the binary of everybody.
    const MAX_BYTES: usize = 150_000;

    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(bytes <= MAX_BYTES, "{bytes} bytes");
        for File { name, bytes, .. } in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            let elsewhere = text.replace("http://www.w3.org/", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{name} names another origin");
            assert!(!text.contains("innerHTML") && !text.contains("eval("), "{name} could take a value for markup");
        }
    }

    #[test]
    fn every_file_is_listed_and_the_document_has_no_code_of_its_own() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
        let mut there: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let mut listed: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        there.sort();
        listed.sort_unstable();
        assert_eq!(there, listed);
        let html = std::str::from_utf8(FILES[0].bytes).unwrap();
        assert!(!html.contains("style=") && !html.contains("<style"), "{html}");
        assert!(!html.split_whitespace().any(|word| word.starts_with("on") && word.contains('=')), "{html}");
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
    }
}
