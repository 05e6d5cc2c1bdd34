//! `GET /openapi.json`: this API for programs, generated from the `#[utoipa::path]` beside each
//! handler.
//!
//! [`Common`] adds what all requests of a kind have in common: headers and refusals.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use axum::http::Method;
use axum::response::Response;
use bytes::Bytes;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, PathItem, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::access::cluster;
use super::admin::{self, Params};
use super::methods::{self, Needs};
use super::{auth, backup, lease, lock, metrics, page, txn, visible, watch};
use crate::api::keys::{delete, get, incr, listing, post, put};
use crate::api::request::read::Level;
use crate::api::response::error::Problem;
use crate::api::response::json;

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "raft", responses(
    (status = 200, description = "OpenAPI 3.1", body = serde_json::Value)
))]
pub async fn openapi(_: Params<()>) -> Response {
    json::response(document())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hraftd",
        description = "A clustered key-value server on Raft. Any node takes any request. Paths under /hraftd/key and \
                       /hraftd/raft answer without the /hraftd too."
    ),
    paths(
        get::get,
        get::head,
        post::post,
        put::put,
        delete::delete,
        incr::post,
        listing::get,
        listing::delete::delete,
        txn::post,
        lock::list::list,
        lock::get,
        lock::acquire::post,
        lock::renew,
        lock::release,
        lease::list::list,
        lease::post,
        lease::get,
        lease::keep_alive,
        lease::revoke,
        backup::get,
        auth::on,
        auth::off,
        auth::session::begin,
        auth::session::end,
        auth::whoami,
        auth::list::list,
        auth::list::get,
        auth::token::put,
        auth::token::delete,
        watch::watch,
        admin::index,
        openapi,
        admin::probes::livez,
        admin::probes::healthz,
        admin::probes::readyz,
        metrics::metrics,
        admin::status::stats,
        admin::status::cluster,
        admin::status::state,
        admin::status::node,
        admin::health,
        admin::ready,
        visible::events::events,
        visible::entry::entry,
        visible::doctor::doctor,
        visible::members::members,
        page::page,
        page::file,
        admin::membership::join,
        admin::membership::remove,
        admin::membership::leader,
    ),
    components(schemas(Problem, Level)),
    tags(
        (name = "keys", description = "One key or many"),
        (name = "txn", description = "Transactions"),
        (name = "auth", description = "Authentication and tokens"),
        (name = "locks", description = "Locks and leader election"),
        (name = "leases", description = "One heartbeat for many keys and locks"),
        (name = "watch", description = "Changes as they happen"),
        (name = "backup", description = "All of it, at one index"),
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
        let components = document.components.get_or_insert_default();
        let scheme = |scheme| SecurityScheme::Http(Http::new(scheme));
        components.add_security_scheme("token", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("password", scheme(HttpAuthScheme::Basic));
        let cookie = "from POST /hraftd/auth/session; __Host-hraftd_session under TLS";
        let cookie = ApiKeyValue::with_description("hraftd_session", cookie);
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
            // Forms that overlap: one of them at least, not exactly one.
            if let RefOr::T(Schema::OneOf(forms)) = schema {
                let forms = std::mem::take(&mut forms.items);
                let any_of = forms.into_iter().fold(AnyOfBuilder::new(), |any_of, form| any_of.item(form));
                *schema = RefOr::T(Schema::AnyOf(any_of.build()));
            }
        }
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                operation.operation_id = Some(format!("{method} {path}"));
                if methods::needs(&method_of(method), path) != Needs::Public {
                    let why = "who asks is not known, where authentication is on";
                    let refused = RefOr::T(problem(why, method != "head"));
                    operation.responses.responses.entry("401".to_owned()).or_insert(refused);
                    // The empty one: where authentication is off, or something is granted to all.
                    let ways =
                        ["token", "password", "session"].map(|way| SecurityRequirement::new(way, Vec::<String>::new()));
                    operation.security = Some(ways.into_iter().chain([SecurityRequirement::default()]).collect());
                    names_a_cluster(operation, method);
                }
                complete(operation, method);
            }
        }
    }
}

/// What all requests may have that are not public: the cluster that they are for.
fn names_a_cluster(operation: &mut Operation, method: &str) {
    let value = || ObjectBuilder::new().schema_type(Type::String).pattern(Some(cluster::PATTERN));
    let named = ParameterBuilder::new()
        .name(cluster::NAME)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "the id of the cluster that the request is for: any other refuses it; ? only asks for the id",
        ))
        .schema(Some(value()));
    operation.parameters.get_or_insert_default().push(RefOr::T(named.build()));
    let why = "the node is of another cluster than the request names; nothing was done";
    operation.responses.responses.insert("421".to_owned(), RefOr::T(problem(why, method != "head")));
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let told = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).description(Some(
            "the cluster of the node, where the request has this header, too, and its client is known",
        ));
        response.headers.insert(cluster::NAME.to_owned(), told.build().into());
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, head, put, post, delete, .. } = item;
    let methods = [("get", get), ("head", head), ("put", put), ("post", post), ("delete", delete)];
    methods.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn method_of(name: &str) -> Method {
    Method::from_bytes(name.to_ascii_uppercase().as_bytes()).unwrap_or_default()
}

fn complete(operation: &mut Operation, method: &str) {
    let has_body = !matches!(method, "get" | "head");
    let of_raft = operation.tags.iter().flatten().any(|tag| tag == "raft");
    let mut refusals = vec![
        ("400", "the request makes no sense; the message says why"),
        ("403", "a browser's request from another site, a Host that is not this one, or a token without the grant"),
        ("500", "a fault of hraftd"),
    ];
    if !of_raft {
        refusals.push(("409", "refused in the present state; nothing was done"));
        refusals.push(("503", "no leader, not ready, removed from the cluster, or overloaded; nothing was done"));
        refusals.push(("504", "not in time; of a write, the outcome is unknown"));
    }
    if has_body {
        refusals.push(("408", "the body did not arrive in time"));
        refusals.push(("413", "a value or a body over its limit; the message names the flag"));
        refusals.push(("415", "the body is compressed"));
    }
    let responses = &mut operation.responses.responses;
    for (status, why) in refusals {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(why, method != "head")));
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
        if status == "401" {
            let header = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
            response.headers.insert("WWW-Authenticate".to_owned(), header.into());
        }
        if status == "415" {
            let header = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
            response.headers.insert("Accept-Encoding".to_owned(), header.into());
        }
        if status == "503" {
            let header = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::Integer))).build();
            response.headers.insert("Retry-After".to_owned(), header.into());
        }
    }
}

fn problem(why: &str, has_body: bool) -> utoipa::openapi::Response {
    let response = ResponseBuilder::new().description(why);
    if !has_body {
        return response.build();
    }
    response.content("application/json", Content::new(Some(Ref::from_schema_name("Problem")))).build()
}
