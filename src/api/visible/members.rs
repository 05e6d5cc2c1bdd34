//! `GET /hraftd/raft/members`: how each member is, as it says itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::admin::Params;
use crate::api::admin::status::{StateShape, Suffrage};
use crate::api::response::json;
use crate::api::service::Service;
use crate::node::{Patient, State as Role, Vitals};
use crate::raft_types::RaftId;

/// What a member tells of itself.
#[derive(Serialize, ToSchema)]
pub struct VitalsShape {
    version: String,
    term: u64,
    /// Whom it voted for in that term; itself where it leads.
    #[schema(required = true)]
    voted_for: Option<String>,
    /// The leader that it believes in.
    #[schema(required = true)]
    leader: Option<String>,
    last_log_index: u64,
    /// The last entry that it knows to be committed.
    commit_index: u64,
    applied_index: u64,
    /// How long ago, at most, it heard a leader; 0 where it leads, null for never.
    #[schema(required = true)]
    contact_ms: Option<u64>,
    /// Of a hundred flushes of the last minute, how long all but one took at most; null without any.
    #[schema(required = true)]
    flush_p99_ms: Option<f64>,
    /// How many flushes there were.
    flushes: u64,
    #[schema(required = true)]
    disk_free_bytes: Option<u64>,
    snapshot_bytes: u64,
    heartbeat_ms: u64,
    /// The shortest.
    election_timeout_ms: u64,
    /// Leaders that it saw in the last ten minutes.
    leader_changes: u64,
    /// Members that it does not reach.
    unreached: Vec<String>,
    /// What keeps it from going on.
    hindrances: Vec<String>,
}

/// One member.
#[derive(Serialize, ToSchema)]
pub struct MemberDetail {
    id: String,
    suffrage: Suffrage,
    /// `Lost`: it does not answer.
    state: StateShape,
    /// How long its answer took.
    answer_ms: f64,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    why: Option<String>,
    /// Left out where it does not answer, or is too old to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = VitalsShape, required = false)]
    vitals: Option<VitalsShape>,
}

/// How each member is.
#[derive(Serialize, ToSchema)]
pub struct MembersShape {
    /// Who was asked.
    node: String,
    /// Ordered by id; empty before the node is a member.
    members: Vec<MemberDetail>,
    /// The terms of the newest committed entries in the log of the node that was asked.
    terms: Vec<TermShape>,
}

/// Entries from here on are of this term, until the next begins.
#[derive(Serialize, ToSchema)]
pub struct TermShape {
    index: u64,
    term: u64,
}

type Names = BTreeMap<RaftId, String>;

fn told(vitals: Vitals, names: &Names) -> VitalsShape {
    let name = |id: RaftId| names.get(&id).cloned().unwrap_or_else(|| format!("the node with the Raft id {id}"));
    VitalsShape {
        version: vitals.version.into(),
        term: vitals.term,
        voted_for: vitals.voted_for.map(name),
        leader: vitals.leader.map(name),
        last_log_index: vitals.last_log_index,
        commit_index: vitals.commit_index,
        applied_index: vitals.applied_index,
        contact_ms: vitals.contact_ms,
        flush_p99_ms: vitals.flush_p99.map(|(us, _)| us as f64 / 1e3),
        flushes: vitals.flush_p99.map_or(0, |(_, count)| count),
        disk_free_bytes: vitals.free_bytes,
        snapshot_bytes: vitals.snapshot_bytes,
        heartbeat_ms: vitals.timers_ms.0,
        election_timeout_ms: vitals.timers_ms.1,
        leader_changes: vitals.leader_changes,
        unreached: vitals.reaches.into_iter().filter(|(_, reached)| !reached).map(|(id, _)| name(id)).collect(),
        hindrances: vitals.hindrances,
    }
}

fn detail(patient: Patient, names: &Names) -> MemberDetail {
    let (state, why, vitals) = match patient.vitals {
        Ok(Some(vitals)) => (vitals.state, None, Some(told(vitals, names))),
        Ok(None) => (Role::Follower, Some("it is too old to tell how it is".to_owned()), None),
        Err(why) => (Role::Lost, Some(why), None),
    };
    MemberDetail {
        id: patient.id,
        suffrage: Suffrage::new(patient.voter),
        state: state.into(),
        answer_ms: patient.round_trip.as_micros() as f64 / 1e3,
        why,
        vitals,
    }
}

/// How each member is, as it says itself
///
/// All members are asked at once, each for at most 1.5 s, and once for all requests that wait.
#[utoipa::path(get, path = "/hraftd/raft/members", tag = "raft", responses(
    (status = 200, description = "role, term, vote, log, disk and links of each", body = MembersShape)
))]
pub async fn members<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Response {
    let patients = app.service.ask_vitals().await;
    let names: Names = patients.iter().map(|patient| (patient.raft_id, patient.id.clone())).collect();
    let members = patients.into_iter().map(|patient| detail(patient, &names)).collect();
    let terms = app.service.newest_terms().into_iter().map(|(index, term)| TermShape { index, term }).collect();
    json::response_of(StatusCode::OK, &MembersShape { node: app.service.id().to_string(), members, terms })
}
