//! `/api/v1/status`: whether everything is well, for administrators.

use super::input::nothing;
use super::output;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::Action;
use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use campanile_proto::signed;
use serde_json::{Value, json};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/status", Action::Status, nothing, status)
}

async fn status(call: Call<()>) -> Result<Response, Problem> {
    let hub = &call.web.hub;
    let edges = hub.fleet.edges().await.map_err(|e| Problem::of("show the status", e.kind(), &e))?;
    let cameras = hub.catalog.cameras().await.map_err(|e| Problem::of("show the status", e.kind(), &e))?;
    let root = hub.register.root().await.map_err(|e| Problem::of("show the status", e.kind(), &e))?;
    let alarms = hub.keeper.alarms();
    let alarm = |code: &str, sentence: String| json!({ "code": code, "sentence": sentence });
    let mut alarms: Vec<Value> = alarms.iter().map(|a| alarm(a.code(), a.to_string())).collect();
    alarms.extend(hub.holds.alarms().iter().map(|a| alarm(a.code(), a.to_string())));
    let live = |row: &crate::federation::AgreementRow| row.state.name() == "live";
    Ok(Json(json!({
        "organisation": {
            "id": hub.organisation.id, "name": hub.organisation.name, "ipa_code": hub.organisation.ipa_code,
            // Read out to a partner's people by telephone.
            "fingerprint": signed::fingerprint(&hub.organisation.long_term.verifying_key()),
        },
        "software": env!("CARGO_PKG_VERSION"),
        "alarms": alarms,
        "now": output::time(hub.clock.utc()),
        "retention_days": hub.config.retention_days,
        "edges": { "enrolled": edges.len(), "connected": edges.iter().filter(|edge| edge.connected).count() },
        "cameras": cameras.iter().filter(|camera| !camera.removed).count(),
        "partners": hub.federation.partners().len(),
        "agreements_live": hub.federation.agreements().iter().filter(|row| live(row)).count(),
        "register": { "size": root.size, "root": hex::encode(root.hash) },
    }))
    .into_response())
}
