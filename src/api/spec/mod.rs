//! `GET /openapi.json`: what this API is, for programs. Generated from the `#[utoipa::path]` beside each handler.
//!
//! * `params`: parameters that requests share. `shapes`: what bodies look like; they are written by hand elsewhere, so
//!   these types describe and are never made.
//!
//! What all requests of a kind have in common (headers, refusals) is added here, once ([`Common`]).

mod params;
mod shapes;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use bytes::Bytes;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Content, PathItem, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{keys_read, keys_write, raft};

pub use params::*;
pub use shapes::*;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hraftd",
        description = "A clustered key-value server on Raft. Any node takes any request. Paths under /hraftd/key and \
                       /hraftd/raft answer without the /hraftd too."
    ),
    paths(
        keys_read::get,
        keys_read::head,
        keys_write::post,
        keys_write::put,
        keys_write::delete,
        keys_write::post_key,
        raft::index,
        raft::openapi,
        raft::stats,
        raft::cluster,
        raft::state,
        raft::about,
        raft::health,
        raft::ready,
        raft::join,
        raft::remove,
        raft::leader,
    ),
    components(schemas(Problem, Level)),
    tags(
        (name = "keys", description = "One key or many"),
        (name = "raft", description = "The node, the cluster, health")
    ),
    modifiers(&Common)
)]
struct Spec;

/// The document, as JSON.
pub fn document() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(Spec::openapi().to_json().unwrap_or_default()));
    DOCUMENT.clone()
}

/// Adds what is not said at each handler.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        document.info.version = env!("CARGO_PKG_VERSION").to_owned();
        for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
            // Forms that overlap: one of them at least, not exactly one.
            if let RefOr::T(Schema::OneOf(forms)) = schema {
                let forms = std::mem::take(&mut forms.items);
                let any_of = forms.into_iter().fold(AnyOfBuilder::new(), |any_of, form| any_of.item(form));
                *schema = RefOr::T(Schema::AnyOf(any_of.build()));
            }
        }
        for item in document.paths.paths.values_mut() {
            for (has_body, operation) in operations(item) {
                complete(operation, has_body);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, head, put, post, delete, .. } = item;
    let with = |has_body| move |operation| (has_body, operation);
    get.iter_mut().chain(head).map(with(false)).chain(put.iter_mut().chain(post).chain(delete).map(with(true)))
}

fn complete(operation: &mut Operation, has_body: bool) {
    let of_raft = operation.tags.iter().flatten().any(|tag| tag == "raft");
    let mut refusals = vec![
        ("400", "the request makes no sense; the message says why"),
        ("403", "a browser's request from another site, or a Host that is not this one"),
        ("500", "a fault of hraftd"),
    ];
    if !of_raft {
        refusals.push(("409", "refused in the present state; nothing was done"));
        refusals.push(("503", "no leader, not ready, or removed from the cluster; nothing was done"));
        refusals.push(("504", "not in time; of a write, the outcome is unknown"));
    }
    if has_body {
        refusals.push(("408", "the body did not arrive in time"));
        refusals.push(("413", "a value or a body over its limit; the message names the flag"));
    }
    let responses = &mut operation.responses.responses;
    for (status, why) in refusals {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(why)));
    }
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else { continue };
        if !of_raft {
            let index = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .build();
            let mut add = |name: &str, schema, what: &str| {
                let header = HeaderBuilder::new().schema(Some(schema)).description(Some(what)).build();
                response.headers.insert(name.to_owned(), header.into());
            };
            add("X-Hraftd-Index", index, "the applied index it was served at");
            add(
                "X-Hraftd-Served-By",
                ObjectBuilder::new().schema_type(Type::String).build(),
                "the node that served it",
            );
        }
        if status == "503" {
            let header = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::Integer))).build();
            response.headers.insert("Retry-After".to_owned(), header.into());
        }
    }
}

fn problem(why: &str) -> utoipa::openapi::Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(why).content("application/json", content).build()
}
