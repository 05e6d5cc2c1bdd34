//! `GET /hraftd/raft/doctor`: what is wrong with the cluster, and what mends it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::admin::Params;
use crate::api::response::json;
use crate::api::service::Service;
use crate::node::{Finding, Severity};

/// How bad a finding is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SeverityShape {
    Critical,
    Warning,
    Info,
}

/// One thing that is wrong.
#[derive(Serialize, ToSchema)]
pub struct FindingShape {
    severity: SeverityShape,
    /// What is wrong.
    what: String,
    /// The numbers that show it.
    evidence: BTreeMap<&'static str, f64>,
    /// The full id of the node that it is about.
    node: String,
    /// What mends it.
    #[serde(rename = "do")]
    remedy: String,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
pub struct DoctorShape {
    /// Nothing is critical, and there is no warning.
    ok: bool,
    /// The worst first.
    findings: Vec<FindingShape>,
}

impl From<Finding> for FindingShape {
    fn from(finding: Finding) -> Self {
        let Finding { severity, what, evidence, node, remedy } = finding;
        let severity = match severity {
            Severity::Critical => SeverityShape::Critical,
            Severity::Warning => SeverityShape::Warning,
            Severity::Info => SeverityShape::Info,
        };
        Self { severity, what, evidence: evidence.into_iter().collect(), node, remedy }
    }
}

/// What is wrong, the worst first
///
/// All members are asked at once, and those that do not answer are among the findings.
#[utoipa::path(get, path = "/hraftd/raft/doctor", tag = "raft", responses(
    (status = 200, description = "the findings; none at a healthy cluster", body = DoctorShape)
))]
pub async fn doctor<S: Service>(State(app): State<Arc<App<S>>>, _: Params<()>) -> Response {
    let findings = app.service.examine().await;
    let ok = findings.iter().all(|finding| finding.severity == Severity::Info);
    let findings = findings.into_iter().map(FindingShape::from).collect();
    json::response_of(StatusCode::OK, &DoctorShape { ok, findings })
}
