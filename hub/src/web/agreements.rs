//! `/api/v1/agreements`: proposing, reading, signing and revoking. Administrators only.

use super::input::{self, Raw, nothing};
use super::problem::Problem;
use super::routes::{Call, Routes};
use super::{Web, output};
use crate::access::{Action, Request};
use crate::federation::{AgreementDraft, AgreementRow, Mutual};
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use campanile_proto::federation::v1::{Grant, Purpose, Right};
use campanile_proto::ids::{AgreementId, CameraId, OrganisationId};
use campanile_proto::time::WallTime;
use serde::Deserialize;
use serde_json::{Value, json};

const MAX_GRANTS: usize = 256;
const MAX_REASON_CHARACTERS: usize = 500;

pub(super) fn add(routes: Routes) -> Routes {
    const ONE: &str = "/api/v1/agreements/{id}";
    let read_id = |_: &Web, _: &mut Request, raw: &Raw| raw.name::<AgreementId>("id");
    routes
        .add(Method::GET, "/api/v1/agreements", Action::ViewAgreements, nothing, list)
        .add(Method::POST, "/api/v1/agreements", Action::ManageAgreements, read_draft, propose)
        .add(Method::GET, ONE, Action::ViewAgreements, read_id, show)
        .add(Method::POST, "/api/v1/agreements/{id}/sign", Action::ManageAgreements, read_offer, sign)
        .add(Method::POST, "/api/v1/agreements/{id}/confirm", Action::ManageAgreements, read_id, confirm)
        .add(Method::POST, "/api/v1/agreements/{id}/revoke", Action::ManageAgreements, read_reason, revoke)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    title: String,
    partner: String,
    valid_days: u32,
    /// Each one written out; or none, and the fields below mean the same rights in both directions.
    #[serde(default)]
    grants: Vec<DraftGrant>,
    #[serde(default)]
    rights: Vec<String>,
    #[serde(default)]
    purposes: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    lookback_hours: u32,
    /// Ours; absent: all there are now.
    cameras: Option<Vec<String>>,
}

enum Terms {
    Written(AgreementDraft),
    Mutual { terms: Mutual, all_cameras: bool },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftGrant {
    clause: String,
    /// `us`: our cameras for the partner; `partner`: the partner's for us.
    owner: Owner,
    right: String,
    cameras: Vec<String>,
    purposes: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    lookback_hours: u32,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Owner {
    Us,
    Partner,
}

fn read_draft(web: &Web, _: &mut Request, raw: &Raw) -> Result<Terms, Problem> {
    let draft: Draft = raw.json()?;
    let (us, partner): (_, OrganisationId) = (web.hub.organisation.id, input::id("partner", &draft.partner)?);
    let Draft { title, valid_days, grants, .. } = draft;
    if grants.len() > MAX_GRANTS {
        return Err(Problem::field("grants", format!("at most {MAX_GRANTS} grants")));
    }
    if !grants.is_empty() {
        let grants = grants.into_iter().map(|grant| read_grant(grant, us, partner)).collect::<Result<_, _>>()?;
        return Ok(Terms::Written(AgreementDraft { title, partner, grants, valid_days }));
    }
    let terms = Mutual {
        us,
        partner,
        title,
        rights: draft.rights.iter().map(|text| read_right(text)).collect::<Result<_, _>>()?,
        purposes: read_purposes(&draft.purposes)?,
        roles: draft.roles,
        lookback_hours: draft.lookback_hours,
        our_cameras: read_cameras(draft.cameras.as_deref().unwrap_or_default())?,
        valid_days,
    };
    Ok(Terms::Mutual { terms, all_cameras: draft.cameras.is_none() })
}

fn read_right(text: &str) -> Result<Right, Problem> {
    Right::from_str_name(&format!("RIGHT_{}", text.to_ascii_uppercase()))
        .filter(|right| *right != Right::Unspecified)
        .ok_or_else(|| Problem::field("rights", "name search, thumbnail, playback, live or export"))
}

fn read_purposes(texts: &[String]) -> Result<Vec<Purpose>, Problem> {
    let unknown = || Problem::field("purposes", "name known purposes, such as urban-security");
    texts.iter().map(|text| input::purpose(text).ok_or_else(unknown)).collect()
}

fn read_cameras(texts: &[String]) -> Result<Vec<CameraId>, Problem> {
    texts.iter().map(|text| input::id("cameras", text)).collect()
}

fn read_grant(grant: DraftGrant, us: OrganisationId, partner: OrganisationId) -> Result<Grant, Problem> {
    let (owner, beneficiary) = match grant.owner {
        Owner::Us => (us, partner),
        Owner::Partner => (partner, us),
    };
    Ok(Grant {
        right: read_right(&grant.right)?.into(),
        camera_ids: read_cameras(&grant.cameras)?.into_iter().map(Into::into).collect(),
        purposes: read_purposes(&grant.purposes)?.into_iter().map(Into::into).collect(),
        clause: grant.clause,
        owner_id: owner.into(),
        beneficiary_id: beneficiary.into(),
        roles: grant.roles,
        lookback_hours: grant.lookback_hours,
    })
}

/// Every camera of ours there is now; at least one.
async fn all_cameras(web: &Web) -> Result<Vec<CameraId>, Problem> {
    let cameras = web.hub.catalog.cameras().await.map_err(|e| Problem::of("list cameras", e.kind(), &e))?;
    let present: Vec<CameraId> = cameras.iter().filter(|camera| !camera.removed).map(|camera| camera.id).collect();
    if present.is_empty() {
        return Err(Problem::field(
            "cameras",
            "no box of this town has reported a camera yet; wait for one, or name them",
        ));
    }
    Ok(present)
}

fn shown(row: &AgreementRow) -> Value {
    let agreement = &row.agreement;
    let party = |party: &campanile_proto::federation::v1::Party| {
        let card = party.card.clone().unwrap_or_default();
        let id = OrganisationId::try_from(&card.organisation_id).ok();
        json!({ "id": id, "name": card.name, "signed": id.is_some_and(|id| row.signers.contains(&id)) })
    };
    let organisation = |bytes: &bytes::Bytes| OrganisationId::try_from(bytes).ok();
    let grant = |grant: &Grant| {
        let cameras: Vec<_> = grant.camera_ids.iter().filter_map(|id| CameraId::try_from(id).ok()).collect();
        let purposes: Vec<_> = grant
            .purposes()
            .map(|p| p.as_str_name().trim_start_matches("PURPOSE_").to_lowercase().replace('_', "-"))
            .collect();
        json!({
            "clause": grant.clause, "owner": organisation(&grant.owner_id),
            "beneficiary": organisation(&grant.beneficiary_id),
            "right": grant.right().as_str_name().trim_start_matches("RIGHT_").to_lowercase(),
            "cameras": cameras, "purposes": purposes, "roles": grant.roles, "lookback_hours": grant.lookback_hours,
        })
    };
    json!({
        "id": row.id, "title": agreement.title, "state": row.state.name(),
        "parties": agreement.parties.iter().map(party).collect::<Vec<_>>(),
        "grants": agreement.grants.iter().map(grant).collect::<Vec<_>>(),
        "valid_from": output::time(WallTime(agreement.valid_from_us)),
        "valid_until": output::time(WallTime(agreement.valid_until_us)),
        "revoked_at": row.revoked_at.map(output::time),
    })
}

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let agreements: Vec<Value> = call.web.hub.federation.agreements().iter().map(shown).collect();
    Ok(Json(json!({ "agreements": agreements })).into_response())
}

async fn show(call: Call<AgreementId>) -> Result<Response, Problem> {
    one(&call.web, call.input)
}

fn one(web: &Web, id: AgreementId) -> Result<Response, Problem> {
    let agreements = web.hub.federation.agreements();
    let row = agreements.iter().find(|row| row.id == id).ok_or_else(Problem::not_found)?;
    Ok(Json(shown(row)).into_response())
}

async fn propose(call: Call<Terms>) -> Result<Response, Problem> {
    let draft = match call.input {
        Terms::Written(draft) => draft,
        Terms::Mutual { mut terms, all_cameras: all } => {
            if all {
                terms.our_cameras = all_cameras(&call.web).await?;
            }
            AgreementDraft::mutual(terms)
        }
    };
    let proposed = call.web.hub.federation.propose(draft).await;
    let id = proposed.map_err(|e| Problem::of("propose an agreement", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok((StatusCode::CREATED, one(&call.web, id)?).into_response())
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Offer {
    /// Where the partner left our cameras open; absent: all there are now.
    cameras: Option<Vec<String>>,
}

fn read_offer(_: &Web, _: &mut Request, raw: &Raw) -> Result<(AgreementId, Option<Vec<CameraId>>), Problem> {
    let offer: Offer = if raw.is_empty() { Offer::default() } else { raw.json()? };
    Ok((raw.name("id")?, offer.cameras.map(|texts| read_cameras(&texts)).transpose()?))
}

async fn sign(call: Call<(AgreementId, Option<Vec<CameraId>>)>) -> Result<Response, Problem> {
    let (id, offered) = call.input;
    let offered = match offered {
        Some(offered) => offered,
        None => all_cameras(&call.web).await?,
    };
    let signed = call.web.hub.federation.sign(id, offered).await;
    signed.map_err(|e| Problem::of("sign an agreement", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    one(&call.web, id)
}

async fn confirm(call: Call<AgreementId>) -> Result<Response, Problem> {
    let confirmed = call.web.hub.federation.confirm(call.input).await;
    confirmed.map_err(|e| Problem::of("confirm an agreement", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    one(&call.web, call.input)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: String,
}

fn read_reason(_: &Web, _: &mut Request, raw: &Raw) -> Result<(AgreementId, String), Problem> {
    let Reason { reason } = raw.json()?;
    let length = reason.trim().chars().count();
    if !(1..=MAX_REASON_CHARACTERS).contains(&length) {
        return Err(Problem::field("reason", format!("say why, 1 to {MAX_REASON_CHARACTERS} characters")));
    }
    Ok((raw.name("id")?, reason))
}

async fn revoke(call: Call<(AgreementId, String)>) -> Result<Response, Problem> {
    let (id, reason) = &call.input;
    let revoked = call.web.hub.federation.revoke(*id, reason).await;
    revoked.map_err(|e| Problem::of("revoke an agreement", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    one(&call.web, *id)
}
