//! `/api/v1/session`: signing in and out.

use super::input::{Raw, nothing};
use super::problem::Problem;
use super::routes::{Call, Routes, Visitor};
use crate::access::{Action, Password, PeopleError, Principal};
use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use campanile_proto::kind::Kind;
use campanile_proto::types::v1::Act;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroize;

const PATH: &str = "/api/v1/session";

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(Method::POST, PATH, Action::SignIn, |_, _, raw: &Raw| raw.json::<Credentials>(), sign_in)
        .add(Method::GET, PATH, Action::ListCameras, nothing, show)
        .add(Method::DELETE, PATH, Action::SignOut, nothing, sign_out)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    user: String,
    password: String,
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

async fn sign_in(mut call: Call<Credentials>) -> Result<Response, Problem> {
    let hub = &call.web.hub;
    let from = match call.visitor {
        Visitor::Network(address) => address.to_string(),
        Visitor::Local { uid } => format!("uid {uid}"),
    };
    let password = Password::new(std::mem::take(&mut call.input.password));
    let (token, session) = match hub.people.sign_in(&call.input.user, password, &from).await {
        Ok(signed_in) => signed_in,
        Err(error) => {
            // What is refused before a password is looked at leaves no entry: it could be repeated without end.
            if matches!(error, PeopleError::WrongPassword) {
                hub.door.note(Act::SignIn, &call.input.user, "WRONG_PASSWORD").await;
            }
            return Err(refused(&error));
        }
    };
    hub.door.note(Act::SignIn, &session.name, "").await;
    let name = hub.people.cookie_name(call.web.secure_cookies);
    let secure = if call.web.secure_cookies { "; Secure" } else { "" };
    let cookie = format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let mut response = Json(json!({ "name": session.name, "role": session.role })).into_response();
    let cookie = HeaderValue::try_from(cookie).map_err(|_| Problem::not_found())?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

fn refused(error: &PeopleError) -> Problem {
    match error {
        PeopleError::WrongPassword => Problem::new(Kind::Unauthenticated, "WRONG_PASSWORD", error.to_string()),
        PeopleError::TooMany { seconds } => Problem {
            retry_after: Some(*seconds),
            ..Problem::new(Kind::Exhausted, "TOO_MANY_ATTEMPTS", error.to_string())
        },
        other => Problem::of("sign in", other.kind(), other),
    }
}

async fn show(call: Call<()>) -> Result<Response, Problem> {
    let (name, role) = match call.who() {
        Principal::Operator { name, role } => (name.clone(), role.clone()),
        other => (other.label(), "administrator".to_owned()),
    };
    let organisation = &call.web.hub.organisation;
    Ok(Json(json!({
        "name": name,
        "role": role,
        "organisation": { "id": organisation.id, "name": organisation.name },
        "time_zone": call.web.hub.config.time_zone,
        "retention_days": call.web.hub.config.retention_days,
        "now": super::output::time(call.web.hub.clock.utc()),
    }))
    .into_response())
}

async fn sign_out(call: Call<()>) -> Result<Response, Problem> {
    let people = &call.web.hub.people;
    if let Some(token) = &call.token {
        people.sign_out(token);
    }
    call.web.viewings.close_of(&call.who().label()).await;
    let name = people.cookie_name(call.web.secure_cookies);
    let secure = if call.web.secure_cookies { "; Secure" } else { "" };
    let cookie = format!("{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}");
    let cookie = HeaderValue::try_from(cookie).map_err(|_| Problem::not_found())?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}
