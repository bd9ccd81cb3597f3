//! `/api/v1/people`: accounts and their passwords. Administrators only.

use super::Web;
use super::input::{Raw, nothing};
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

pub(super) fn add(routes: Routes) -> Routes {
    let read_name = |_: &Web, _: &mut Request, raw: &Raw| raw.name::<String>("name");
    routes
        .add(Method::GET, "/api/v1/people", Action::ManagePeople, nothing, list)
        .add(Method::POST, "/api/v1/people", Action::ManagePeople, |_, _, raw: &Raw| raw.json::<Form>(), make)
        .add(Method::POST, "/api/v1/people/{name}/password", Action::ManagePeople, read_name, password)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    name: String,
}

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let names = call.web.hub.people.names().await.map_err(|e| Problem::of("list accounts", e.kind(), &e))?;
    Ok(Json(json!({ "people": names })).into_response())
}

async fn make(call: Call<Form>) -> Result<Response, Problem> {
    let password = call.web.hub.people.add(&call.input.name).await;
    let password = password.map_err(|e| Problem::of("make an account", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok((StatusCode::CREATED, Json(json!({ "name": call.input.name, "password": password }))).into_response())
}

async fn password(call: Call<String>) -> Result<Response, Problem> {
    let password = call.web.hub.people.reset_password(&call.input).await;
    let password = password.map_err(|e| Problem::of("change a password", e.kind(), &e))?;
    call.pass.close(1, 0).await;
    Ok(Json(json!({ "name": call.input, "password": password })).into_response())
}
