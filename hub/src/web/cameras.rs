//! `/api/v1/cameras`: our own, and those of partners that agreements let us use.

use super::Web;
use super::input::{self, Raw, nothing};
use super::output;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use crate::catalog::Mask;
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use campanile_proto::ids::{CameraId, EdgeId};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn add(routes: Routes) -> Routes {
    let change = Action::Administer;
    routes
        .add(Method::GET, "/api/v1/cameras", Action::ListCameras, nothing, list)
        .add(Method::POST, "/api/v1/cameras/{id}/move", change, read_move, give)
        .add(Method::POST, "/api/v1/cameras/{id}/mask", change, read_mask, mask)
        .add(Method::DELETE, "/api/v1/cameras/{id}/mask", change, read_unmask, unmask)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveForm {
    /// The box it belongs to from now on.
    edge: String,
}

fn read_move(_: &Web, asked: &mut Request, raw: &Raw) -> Result<(CameraId, EdgeId), Problem> {
    let camera = raw.name::<CameraId>("id")?;
    asked.cameras = vec![camera];
    Ok((camera, input::id("edge", &raw.json::<MoveForm>()?.edge)?))
}

async fn give(call: Call<(CameraId, EdgeId)>) -> Result<Response, Problem> {
    let (camera, edge) = call.input;
    let moved = call.web.hub.fleet.move_camera(camera, edge).await;
    moved.map_err(|e| Problem::of("move a camera", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskForm {
    /// Of the authority or the town that says so.
    act: String,
    author: String,
}

fn read_mask(web: &Web, asked: &mut Request, raw: &Raw) -> Result<Mask, Problem> {
    let (camera, form) = (raw.name::<CameraId>("id")?, raw.json::<MaskForm>()?);
    let act = input::line("act", &form.act)?;
    let author = input::line("author", &form.author)?;
    asked.cameras = vec![camera];
    // The act is what the register is searched by.
    asked.case_number = Some(act.clone());
    Ok(Mask { camera, since: web.hub.clock.utc(), act, author })
}

async fn mask(call: Call<Mask>) -> Result<Response, Problem> {
    let masked = call.web.hub.fleet.mask(call.input).await;
    masked.map_err(|e| Problem::of("mask a camera", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn read_unmask(_: &Web, asked: &mut Request, raw: &Raw) -> Result<CameraId, Problem> {
    let camera = raw.name::<CameraId>("id")?;
    asked.cameras = vec![camera];
    Ok(camera)
}

async fn unmask(call: Call<CameraId>) -> Result<Response, Problem> {
    let unmasked = call.web.hub.fleet.unmask(call.input).await;
    unmasked.map_err(|e| Problem::of("unmask a camera", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let hub = &call.web.hub;
    let own = hub.catalog.cameras().await.map_err(|e| Problem::of("list cameras", e.kind(), &e))?;
    let masks = hub.catalog.masks().await.map_err(|e| Problem::of("list cameras", e.kind(), &e))?;
    let mask = |camera: &Value| {
        let its = masks.iter().find(|mask| camera["id"] == mask.camera.to_string());
        its.map(|mask| json!({ "since": output::time(mask.since), "act": mask.act, "author": mask.author }))
    };
    let town = |mut camera: Value, id: String, name: &str, own: bool| {
        camera["organisation_id"] = id.into();
        camera["organisation"] = name.into();
        camera["own"] = own.into();
        camera
    };
    let here = hub.organisation.id.to_string();
    let mut cameras: Vec<Value> = own
        .iter()
        .filter(|camera| !camera.removed)
        .map(|camera| {
            let mut shown = output::camera(camera);
            shown["masked"] = json!(mask(&shown));
            town(shown, here.clone(), &hub.organisation.name, true)
        })
        .collect();
    for granted in hub.federation.granted_cameras() {
        let mut camera = output::card(granted.camera, granted.card.as_ref());
        let right = |right: &campanile_proto::federation::v1::Right| {
            right.as_str_name().trim_start_matches("RIGHT_").to_lowercase()
        };
        camera["rights"] = granted.rights.iter().map(right).collect::<Vec<_>>().into();
        cameras.push(town(camera, granted.partner.to_string(), &granted.partner_name, false));
    }
    Ok(Json(json!({ "cameras": cameras })).into_response())
}
