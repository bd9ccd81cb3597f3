//! `/api/v1/partners`: organisations whose key people have compared. Administrators only.

use super::input::{Raw, nothing};
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::Action;
use crate::federation::Partner;
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/partners", Action::ViewAgreements, nothing, list).add(
        Method::POST,
        "/api/v1/partners",
        Action::ManageAgreements,
        |_, _, raw: &Raw| raw.json::<Form>(),
        make,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    /// host:port
    address: String,
    /// As read out by the partner's people.
    fingerprint: String,
}

fn shown(partner: &Partner) -> Value {
    json!({
        "id": partner.id, "name": partner.name, "ipa_code": partner.ipa_code,
        "fingerprint": partner.fingerprint, "address": partner.address,
        "endpoints": partner.mandate.endpoints,
    })
}

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let partners: Vec<Value> = call.web.hub.federation.partners().iter().map(shown).collect();
    Ok(Json(json!({ "partners": partners })).into_response())
}

async fn make(call: Call<Form>) -> Result<Response, Problem> {
    let Form { address, fingerprint } = &call.input;
    let partner = call.web.hub.federation.add_partner(address.trim(), fingerprint.trim()).await;
    let partner = partner.map_err(|e| Problem::of("add a partner", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok((StatusCode::CREATED, Json(shown(&partner))).into_response())
}
