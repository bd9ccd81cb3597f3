//! The page: files that are part of the program, so that nothing else is loaded from anywhere.

use super::input::nothing;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::Action;
use axum::Json;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Address, content type, content.
const FILES: [(&str, &str, &[u8]); 10] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../console/index.html")),
    ("/console/style.css", "text/css; charset=utf-8", include_bytes!("../console/style.css")),
    ("/console/main.js", JAVASCRIPT, include_bytes!("../console/main.js")),
    ("/console/api.js", JAVASCRIPT, include_bytes!("../console/api.js")),
    ("/console/words.js", JAVASCRIPT, include_bytes!("../console/words.js")),
    ("/console/time.js", JAVASCRIPT, include_bytes!("../console/time.js")),
    ("/console/axis.js", JAVASCRIPT, include_bytes!("../console/axis.js")),
    ("/console/region.js", JAVASCRIPT, include_bytes!("../console/region.js")),
    ("/console/results.js", JAVASCRIPT, include_bytes!("../console/results.js")),
    ("/console/player.js", JAVASCRIPT, include_bytes!("../console/player.js")),
];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &[u8] = include_bytes!("../console/icon.svg");

pub(super) fn add(routes: Routes) -> Routes {
    let mut routes = routes.add(Method::GET, "/api/v1/organisation", Action::ReadPage, nothing, organisation).add(
        Method::GET,
        "/console/icon.svg",
        Action::ReadPage,
        nothing,
        |_| async { Ok(file("image/svg+xml", ICON)) },
    );
    for (path, kind, content) in FILES {
        let show = move |_: Call<()>| async move { Ok(file(kind, content)) };
        routes = routes.add(Method::GET, path, Action::ReadPage, nothing, show);
    }
    routes
}

fn file(kind: &'static str, content: &'static [u8]) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], content).into_response()
}

/// Whose hub it is, for the sign-in form: two towns' pages must not be taken for one another.
async fn organisation(call: Call<()>) -> Result<Response, Problem> {
    let organisation = &call.web.hub.organisation;
    Ok(Json(json!({ "id": organisation.id, "name": organisation.name })).into_response())
}
