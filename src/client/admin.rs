//! Members and tokens.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::link::{Cluster, Request, encoded, query};
use super::out::{self, flag};
use super::show;
use crate::config::{MembersVerb, TokenVerb};
use crate::exit::{EX_FAILURE, Exit};

/// A change of members takes a minute at most.
const CHANGE: Duration = Duration::from_secs(65);

pub(super) async fn members(cluster: &Cluster, verb: Option<&MembersVerb>, json: bool) -> Result<Exit, Exit> {
    let request = match verb {
        None => {
            let answer = cluster.get("/hraftd/raft/cluster").await?.with_list("servers")?;
            return super::printed(json, &answer, show::status);
        }
        Some(MembersVerb::Remove { id, force }) => {
            let path = query("/hraftd/raft/remove", &[("id", Some(id.clone())), ("force", flag(*force))]);
            Request::plain(Method::DELETE, path, "")
        }
        Some(MembersVerb::Lead { id }) => {
            Request::plain(Method::POST, query("/hraftd/raft/leader", &[("id", id.clone())]), "")
        }
    };
    let answer = cluster.send(&request.attempt(CHANGE)).await?.done()?;
    if json { out::answer(&answer) } else { Ok(Exit::printed("")) }
}

pub(super) async fn token(cluster: &Cluster, verb: &TokenVerb, json: bool) -> Result<Exit, Exit> {
    let path = |name: &str| format!("/hraftd/auth/token/{}", encoded(name));
    let request = match verb {
        TokenVerb::Ls => {
            let answer = cluster.get("/hraftd/auth/token").await?;
            if !answer.json()?.is_array() {
                return Err(answer.is_strange());
            }
            return super::printed(json, &answer, show::tokens);
        }
        TokenVerb::Put { name, grants, ttl, certificate } => {
            let mut shape = json!({"grants": grants});
            if let Some(ttl) = ttl {
                shape["ttl"] = json!(ttl);
            }
            if let Some(certificate) = certificate {
                shape["certificate"] = json!(certificate);
            }
            Request::plain(Method::PUT, path(name), shape.to_string()).header("content-type", "application/json")
        }
        TokenVerb::Rotate { name, grace } => {
            let path = query(&path(name), &[("rotate", flag(true)), ("grace", grace.clone())]);
            Request::plain(Method::PUT, path, "")
        }
        TokenVerb::Rm { name } => Request::plain(Method::DELETE, path(name), ""),
    };
    let answer = cluster.send(&request).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Exit { code: EX_FAILURE, ..answer.refused() });
    }
    let answer = answer.done()?;
    if json {
        return out::answer(&answer);
    }
    match answer.json()?["token"].as_str() {
        Some(token) => Ok(Exit::printed(format!("{token}\n"))),
        None => Ok(Exit::printed("")),
    }
}
