//! The state of a node and of the cluster, in the form that Go's hraftd has.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::Params;
use crate::api::App;
use crate::api::response::{SERVED_BY, json, text};
use crate::api::service::Service;
use crate::formats::{NEWEST, OLDEST, Speaks};
use crate::node::{self, About, Cluster, ClusterServer, Stats};

/// The vote of a member.
#[derive(Serialize, ToSchema)]
pub enum Suffrage {
    Voter,
    Nonvoter,
}

impl Suffrage {
    pub(in crate::api) fn new(voter: bool) -> Self {
        if voter { Self::Voter } else { Self::Nonvoter }
    }
}

/// The role of a node.
#[derive(Serialize, ToSchema)]
pub enum StateShape {
    Leader,
    Follower,
    Candidate,
    Learner,
    Shutdown,
    Lost,
}

impl From<node::State> for StateShape {
    fn from(state: node::State) -> Self {
        match state {
            node::State::Leader => Self::Leader,
            node::State::Follower => Self::Follower,
            node::State::Candidate => Self::Candidate,
            node::State::Learner => Self::Learner,
            node::State::Shutdown => Self::Shutdown,
            node::State::Lost => Self::Lost,
        }
    }
}

/// `GET /hraftd/raft/state`.
#[derive(Serialize, ToSchema)]
pub struct StateAnswer {
    ok: bool,
    msg: StateShape,
}

/// The role of this node
#[utoipa::path(get, path = "/hraftd/raft/state", tag = "raft", responses(
    (status = 200, description = "in one word", body = StateAnswer)
))]
pub async fn state<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Response {
    json::response_of(StatusCode::OK, &StateAnswer { ok: true, msg: app.service.state().into() })
}

/// One node's own view; every number a string, as Go's hraftd has it.
#[derive(Serialize, ToSchema)]
pub struct StatsShape {
    applied_index: String,
    commit_index: String,
    fsm_pending: String,
    /// A duration as Go prints it, `0` on the leader, `never`.
    last_contact: String,
    last_log_index: String,
    last_log_term: String,
    last_snapshot_index: String,
    last_snapshot_term: String,
    latest_configuration: Vec<MemberShape>,
    latest_configuration_index: String,
    num_peers: String,
    protocol_version: &'static str,
    protocol_version_max: &'static str,
    protocol_version_min: &'static str,
    snapshot_version_max: &'static str,
    snapshot_version_min: &'static str,
    state: StateShape,
    term: String,
    /// The cluster's format; empty while the node loads.
    format: String,
    /// The newest and the oldest that this node understands.
    format_max: String,
    format_min: String,
}

/// A member of the latest configuration.
#[derive(Serialize, ToSchema)]
pub struct MemberShape {
    id: String,
    address: String,
    suffrage: Suffrage,
}

impl From<Stats> for StatsShape {
    fn from(stats: Stats) -> Self {
        Self {
            applied_index: stats.applied_index.to_string(),
            commit_index: stats.commit_index.to_string(),
            fsm_pending: stats.fsm_pending.to_string(),
            last_contact: match stats.last_contact {
                None => "never".to_owned(),
                // On the leader, without a unit.
                Some(Duration::ZERO) => "0".to_owned(),
                Some(ago) => text::go_duration(ago),
            },
            last_log_index: stats.last_log_index.to_string(),
            last_log_term: stats.last_log_term.to_string(),
            last_snapshot_index: stats.last_snapshot_index.to_string(),
            last_snapshot_term: stats.last_snapshot_term.to_string(),
            latest_configuration: stats
                .latest_configuration
                .iter()
                .map(|member| MemberShape {
                    id: member.id.to_string(),
                    address: member.id.raddr.to_string(),
                    suffrage: Suffrage::new(member.voter),
                })
                .collect(),
            latest_configuration_index: stats.latest_configuration_index.to_string(),
            num_peers: stats.num_peers.to_string(),
            // Constants, for programs that read Go's hraftd.
            protocol_version: "3",
            protocol_version_max: "3",
            protocol_version_min: "0",
            snapshot_version_max: "1",
            snapshot_version_min: "0",
            state: stats.state.into(),
            term: stats.term.to_string(),
            format: stats.format.map(|format| format.to_string()).unwrap_or_default(),
            format_max: NEWEST.to_string(),
            format_min: OLDEST.to_string(),
        }
    }
}

/// This node's own view of Raft
///
/// Every value but the members is a string, in the order of Go's hraftd, and three more at the end. `X-Hraftd-Served-By` says whose view it is.
#[utoipa::path(get, path = "/hraftd/raft/stats", tag = "raft", responses(
    (status = 200, description = "as Go's hraftd has it", body = StatsShape)
))]
pub async fn stats<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Response {
    let mut response = json::response_of(StatusCode::OK, &StatsShape::from(app.service.stats()));
    // The address that was asked may be a balancer's.
    response.headers_mut().extend(app.served_by.clone().map(|by| (SERVED_BY, by)));
    response
}

/// All members, asked at once.
#[derive(Serialize, ToSchema)]
pub struct ClusterShape {
    /// The format that all members understand, and use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false)]
    format: Option<u32>,
    /// `https` where the node that was asked speaks TLS to clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    scheme: Option<&'static str>,
    current: ServerShape,
    #[schema(required = true)]
    leader: Option<ServerShape>,
    servers: Vec<ServerShape>,
    /// Faults that an operator should mend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// One member.
#[derive(Serialize, ToSchema)]
pub struct ServerShape {
    address: String,
    id: String,
    state: StateShape,
    suffrage: Suffrage,
    /// Its version, where it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = FormatsShape, required = false)]
    formats: Option<FormatsShape>,
}

/// The formats that a node understands.
#[derive(Serialize, ToSchema)]
pub struct FormatsShape {
    oldest: u32,
    newest: u32,
}

impl From<&Speaks> for FormatsShape {
    fn from(speaks: &Speaks) -> Self {
        Self { oldest: speaks.oldest.0, newest: speaks.newest.0 }
    }
}

impl From<ClusterServer> for ServerShape {
    fn from(server: ClusterServer) -> Self {
        Self {
            address: server.id.raddr.to_string(),
            id: server.id.to_string(),
            state: server.state.into(),
            suffrage: Suffrage::new(server.voter),
            formats: server.speaks.as_ref().map(FormatsShape::from),
            version: server.speaks.map(|speaks| speaks.version.into()),
        }
    }
}

/// All members, asked at once
#[utoipa::path(get, path = "/hraftd/raft/cluster", tag = "raft", responses(
    (status = 200, description = "who leads, and what each says it is doing", body = ClusterShape)
))]
pub async fn cluster<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Response {
    let Cluster { format, current, leader, servers, warnings } = app.service.cluster().await;
    let shape = ClusterShape {
        format: format.map(|format| format.0),
        scheme: app.settings.https.then_some("https"),
        current: current.into(),
        leader: leader.map(ServerShape::from),
        servers: servers.into_iter().map(ServerShape::from).collect(),
        warnings,
    };
    json::response_of(StatusCode::OK, &shape)
}

/// The node that was asked.
#[derive(Serialize, ToSchema)]
pub struct NodeShape {
    #[serde(rename = "startTime")]
    #[schema(format = "date-time")]
    start_time: String,
    #[serde(rename = "nodeID")]
    node_id: String,
    hostname: String,
    #[serde(rename = "IP")]
    ip: String,
    version: &'static str,
    /// `https` where it speaks TLS to clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    scheme: Option<&'static str>,
    /// The formats that it understands.
    formats: FormatsShape,
    /// The cluster's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false)]
    format: Option<u32>,
    /// The index of the state that `digest` is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    applied_index: Option<u64>,
    /// A digest of the state: equal on all nodes at an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^[0-9a-f]{16}$")]
    digest: Option<String>,
}

/// The node that was asked
#[utoipa::path(get, path = "/hraftd/raft/node", tag = "raft", responses(
    (status = 200, description = "who it is, and a digest of its state", body = NodeShape)
))]
pub async fn node<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Response {
    let About { start_time, id, hostname, digest, format } = app.service.about();
    let shape = NodeShape {
        start_time: text::rfc3339(start_time),
        node_id: id.to_string(),
        hostname,
        ip: id.raddr.host.clone(),
        version: env!("CARGO_PKG_VERSION"),
        scheme: app.settings.https.then_some("https"),
        formats: FormatsShape::from(&Speaks::own()),
        format: format.map(|format| format.0),
        applied_index: digest.map(|(_, index)| index),
        digest: digest.map(|(digest, _)| format!("{digest:016x}")),
    };
    json::response_of(StatusCode::OK, &shape)
}
