//! `/api/v1/cameras`: our own, and those of partners that agreements let us use.

use super::Web;
use super::input::{self, Raw, nothing};
use super::output;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use campanile_proto::ids::{CameraId, EdgeId};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/cameras", Action::ListCameras, nothing, list).add(
        Method::POST,
        "/api/v1/cameras/{id}/move",
        Action::Administer,
        read_move,
        give,
    )
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

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let hub = &call.web.hub;
    let own = hub.catalog.cameras().await.map_err(|e| Problem::of("list cameras", e.kind(), &e))?;
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
        .map(|camera| town(output::camera(camera), here.clone(), &hub.organisation.name, true))
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
