//! `/api/v1/register`: reading, checking and proving the register. Administrators only.

use super::input::{Raw, nothing};
use super::problem::Problem;
use super::routes::{Call, Routes};
use super::{Web, output};
use crate::access::{Action, Request};
use crate::federation::root_of;
use crate::register::{Entry, RegisterError};
use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use campanile_proto::ids::{AgreementId, CameraId, HoldId, OrganisationId, RequestId};
use campanile_proto::time::WallTime;
use prost::Message;
use serde_json::{Value, json};

const DEFAULT_PAGE: u32 = 100;

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/api/v1/register", Action::ReadRegister, read_page, page)
        .add(Method::GET, "/api/v1/register/verify", Action::ReadRegister, nothing, verify)
        .add(Method::GET, "/api/v1/register/checkpoint", Action::ReadRegister, nothing, checkpoint)
        .add(Method::GET, "/api/v1/register/inclusion", Action::ReadRegister, read_pair, inclusion)
        .add(Method::GET, "/api/v1/register/consistency", Action::ReadRegister, read_pair, consistency)
}

fn failed(error: RegisterError) -> Problem {
    match error {
        RegisterError::Tampered(what) => Problem::new(
            campanile_proto::kind::Kind::Internal,
            "TAMPERED",
            format!("the register does not verify: {what}; tell the data protection officer"),
        ),
        other => Problem::of("read the register", other.kind(), &other),
    }
}

struct Page {
    from: Option<u64>,
    limit: u32,
}

fn read_page(_: &Web, _: &mut Request, raw: &Raw) -> Result<Page, Problem> {
    Ok(Page { from: raw.query("from")?, limit: raw.query("limit")?.unwrap_or(DEFAULT_PAGE) })
}

/// From `from` on, or the newest.
async fn page(call: Call<Page>) -> Result<Response, Problem> {
    let register = &call.web.hub.register;
    let root = register.root().await.map_err(failed)?;
    let from = call.input.from.unwrap_or(root.size.saturating_sub(u64::from(call.input.limit)));
    let entries = register.page(from, call.input.limit).await.map_err(failed)?;
    let shown: Vec<Value> = entries.iter().map(shown).collect();
    call.pass.close(shown.len() as u64, 0).await;
    Ok(Json(json!({ "size": root.size, "root": hex::encode(root.hash), "entries": shown })).into_response())
}

fn shown(entry: &Entry) -> Value {
    let leaf = &entry.leaf;
    let cameras: Vec<CameraId> = leaf.camera_ids.iter().filter_map(|id| CameraId::try_from(id).ok()).collect();
    let interval = |us: i64| if us == 0 { Value::Null } else { output::time(WallTime(us)) };
    json!({
        "sequence": leaf.sequence,
        "at": output::time(WallTime(leaf.utc_us)),
        "act": leaf.act().as_str_name().trim_start_matches("ACT_").to_lowercase(),
        "phase": leaf.phase().as_str_name().trim_start_matches("PHASE_").to_lowercase(),
        "request_id": RequestId::try_from(&leaf.request_id).ok(),
        "operator": entry.operator,
        "purpose": entry.purpose.as_ref().map(|p| p.trim_start_matches("PURPOSE_").to_lowercase().replace('_', "-")),
        "case_number": entry.case_number,
        "requester": OrganisationId::try_from(&leaf.requester_organisation_id).ok(),
        "cameras": cameras,
        "from": interval(leaf.from_us),
        "to": interval(leaf.to_us),
        "agreement": AgreementId::try_from(&leaf.agreement_id).ok(),
        "clause": leaf.clause,
        "items": leaf.items,
        "bytes_sent": leaf.bytes_sent,
        "reason": leaf.reason,
        "hold": HoldId::try_from(&leaf.hold_id).ok(),
    })
}

async fn verify(call: Call<()>) -> Result<Response, Problem> {
    let hub = &call.web.hub;
    let verified = hub.register.verify().await.map_err(failed)?;
    let witnessed = hub.federation.witnessed_checkpoints().await;
    for (partner, checkpoint) in &witnessed {
        if !hub.register.begins_with(root_of(checkpoint)).await.map_err(failed)? {
            let (size, name) = (checkpoint.tree_size, &partner.name);
            let what = format!("it does not begin with the {size} entries that {name} has witnessed");
            return Err(failed(RegisterError::Tampered(what)));
        }
    }
    Ok(Json(json!({
        "size": verified.root.size, "root": hex::encode(verified.root.hash),
        "checkpoints": verified.checkpoints, "personal_values": verified.personal,
        "witnessed": witnessed.len(),
    }))
    .into_response())
}

/// The signed bytes, and what they say.
async fn checkpoint(call: Call<()>) -> Result<Response, Problem> {
    let signed = call.web.hub.register.checkpoint().await.map_err(failed)?;
    let said = campanile_proto::types::v1::Checkpoint::decode(signed.payload.clone()).unwrap_or_default();
    Ok(Json(json!({
        "size": said.tree_size, "root": hex::encode(&said.root_hash), "at": output::time(WallTime(said.utc_us)),
        "envelope": STANDARD.encode(signed.encode_to_vec()),
    }))
    .into_response())
}

/// `a`: a leaf's sequence or the older size; `b`: the (newer) size.
fn read_pair(_: &Web, _: &mut Request, raw: &Raw) -> Result<(u64, u64), Problem> {
    let missing = |field| Problem::field(field, "give a number");
    let leaf: Option<u64> = raw.query("sequence")?;
    let a = leaf.or(raw.query("old")?).ok_or_else(|| missing("sequence"))?;
    Ok((a, raw.query("size")?.ok_or_else(|| missing("size"))?))
}

async fn inclusion(call: Call<(u64, u64)>) -> Result<Response, Problem> {
    let proof = call.web.hub.register.inclusion(call.input.0, call.input.1).await.map_err(failed)?;
    Ok(Json(json!({ "proof": proof.iter().map(hex::encode).collect::<Vec<_>>() })).into_response())
}

async fn consistency(call: Call<(u64, u64)>) -> Result<Response, Problem> {
    let proof = call.web.hub.register.consistency(call.input.0, call.input.1).await.map_err(failed)?;
    Ok(Json(json!({ "proof": proof.iter().map(hex::encode).collect::<Vec<_>>() })).into_response())
}
