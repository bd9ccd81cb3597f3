//! `/api/v1/clock`: whether the wall clock is believed, and a person's word that it is right. Administrators only.

use super::Web;
use super::input::{self, Raw, nothing};
use super::output;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use crate::media::KeeperError;
use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use serde::Deserialize;
use serde_json::json;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/clock", Action::Status, nothing, show).add(
        Method::POST,
        "/api/v1/clock/confirm",
        Action::Administer,
        read,
        confirm,
    )
}

/// The time by whoever confirms: their watch is the second source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    now: String,
}

fn read(_: &Web, _: &mut Request, raw: &Raw) -> Result<WallTime, Problem> {
    input::time("now", &raw.json::<Confirmed>()?.now)
}

fn state(web: &Web) -> Response {
    let hub = &web.hub;
    Json(json!({ "now": output::time(hub.clock.utc()), "believed": hub.keeper.clock_trusted() })).into_response()
}

async fn show(call: Call<()>) -> Result<Response, Problem> {
    Ok(state(&call.web))
}

async fn confirm(call: Call<WallTime>) -> Result<Response, Problem> {
    let (keeper, time) = (call.web.hub.keeper.clone(), call.input);
    let confirmed = tokio::task::spawn_blocking(move || keeper.confirm_clock(time)).await;
    let stopping = |_| Problem::new(Kind::Unavailable, "UNAVAILABLE", "the hub is stopping");
    confirmed.map_err(stopping)?.map_err(|e: KeeperError| Problem::of("confirm the clock", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(state(&call.web))
}
