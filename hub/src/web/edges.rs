//! `/api/v1/edges`: boxes, and tokens to enrol them. Administrators only.

use super::Web;
use super::input::{Raw, nothing};
use super::output;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use campanile_proto::ids::EdgeId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const MAX_SITE_CHARACTERS: usize = 200;
/// A token travels to a cabinet on paper or in a message.
const DEFAULT_MINUTES: u64 = 24 * 60;
const MAX_MINUTES: u64 = 7 * 24 * 60;

pub(super) fn add(routes: Routes) -> Routes {
    let read_id = |_: &Web, _: &mut Request, raw: &Raw| raw.name::<EdgeId>("id");
    routes
        .add(Method::GET, "/api/v1/edges", Action::ViewEdges, nothing, list)
        .add(Method::POST, "/api/v1/edges/tokens", Action::IssueToken, read_token, token)
        .add(Method::DELETE, "/api/v1/edges/{id}", Action::RevokeEdge, read_id, revoke)
        .add(Method::POST, "/api/v1/edges/{id}/release", Action::ReleaseEdge, read_id, release)
}

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let edges = call.web.hub.fleet.edges().await.map_err(|e| Problem::of("list boxes", e.kind(), &e))?;
    let shown: Vec<Value> = edges
        .iter()
        .map(|edge| {
            let mut shown = json!({
                "id": edge.id, "name": edge.name, "site_name": edge.site_name,
                "enrolled": output::time(edge.enrolled), "standing": edge.standing, "reason": edge.reason,
                "connected": edge.connected, "software": edge.software,
                "last_seen": edge.last_seen.map(output::time),
            });
            if let Some(health) = &edge.health {
                shown["health"] = json!({
                    "disk_free_bytes": health.disk_free_bytes, "disk_total_bytes": health.disk_total_bytes,
                    "memory_bytes": health.memory_bytes, "load": health.load,
                    "outbox_waiting": health.outbox_waiting,
                    "clock": health.clock().as_str_name().trim_start_matches("TIME_SOURCE_").to_lowercase(),
                    "clock_uncertainty_us": health.clock_uncertainty_us,
                    "analyse_restarts": health.analyse_restarts, "temperature_celsius": health.temperature_celsius,
                });
            }
            shown
        })
        .collect();
    Ok(Json(json!({ "edges": shown })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    site_name: String,
    valid_minutes: Option<u64>,
}

fn read_token(_: &Web, _: &mut Request, raw: &Raw) -> Result<TokenForm, Problem> {
    let form: TokenForm = raw.json()?;
    let length = form.site_name.trim().chars().count();
    if !(1..=MAX_SITE_CHARACTERS).contains(&length) || form.site_name.chars().any(char::is_control) {
        return Err(Problem::field("site_name", format!("name the site, 1 to {MAX_SITE_CHARACTERS} characters")));
    }
    if form.valid_minutes.is_some_and(|minutes| !(1..=MAX_MINUTES).contains(&minutes)) {
        return Err(Problem::field("valid_minutes", format!("1 to {MAX_MINUTES} minutes")));
    }
    Ok(form)
}

async fn token(call: Call<TokenForm>) -> Result<Response, Problem> {
    let minutes = call.input.valid_minutes.unwrap_or(DEFAULT_MINUTES);
    let made = call.web.hub.fleet.new_token(call.input.site_name.trim(), Duration::from_secs(minutes * 60)).await;
    let token = made.map_err(|e| Problem::of("make a token", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok((StatusCode::CREATED, Json(json!({ "token": token, "valid_minutes": minutes }))).into_response())
}

async fn revoke(call: Call<EdgeId>) -> Result<Response, Problem> {
    let revoked = call.web.hub.fleet.revoke(call.input).await;
    revoked.map_err(|e| Problem::of("revoke a box", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn release(call: Call<EdgeId>) -> Result<Response, Problem> {
    let released = call.web.hub.fleet.release(call.input).await;
    released.map_err(|e| Problem::of("release a box", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
