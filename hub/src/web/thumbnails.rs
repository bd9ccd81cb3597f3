//! `/api/v1/thumbnails/{organisation}/{event}?request=…`: the picture of a hit, under its search's purpose
//! and case.

use super::Web;
use super::input::Raw;
use super::problem::Problem;
use super::routes::{Call, Routes};
use super::searches::{Found, behalf};
use crate::access::{Action, Request};
use crate::federation::ThumbnailQuery;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use campanile_proto::ids::{EventId, OrganisationId, RequestId};
use campanile_proto::kind::Kind;
use campanile_proto::time::MICROS_PER_SECOND;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/thumbnails/{organisation}/{event}", Action::Thumbnail, read, show)
}

struct Wanted {
    organisation: OrganisationId,
    event: EventId,
    found: Found,
}

fn read(web: &Web, asked: &mut Request, raw: &Raw) -> Result<Wanted, Problem> {
    let (organisation, event) = (raw.name("organisation")?, raw.name("event")?);
    let wanting = || Problem::field("request", "name the search that found it; it may be an hour old");
    let search: RequestId = raw.query("request")?.ok_or_else(wanting)?;
    let (under, found) = web.searches.hit(&asked.principal, search, organisation, event).ok_or_else(wanting)?;
    asked.purpose = under.purpose;
    asked.case_number = under.case_number;
    asked.cameras = vec![found.camera];
    Ok(Wanted { organisation, event, found })
}

async fn show(call: Call<Wanted>) -> Result<Response, Problem> {
    let (hub, wanted) = (&call.web.hub, &call.input);
    let jpeg = if wanted.organisation == hub.organisation.id {
        let found = hub.derived.thumbnail(wanted.event).await;
        found.map_err(|e| Problem::of("show a thumbnail", e.kind(), &e))?
    } else {
        let query = ThumbnailQuery {
            behalf: behalf(hub, &call.pass),
            partner: wanted.organisation,
            camera: wanted.found.camera,
            event: wanted.event,
            from: wanted.found.start,
            // An event of one instant still has an interval around it.
            to: wanted.found.end.max(wanted.found.start.plus_micros(MICROS_PER_SECOND)),
        };
        let asked = hub.federation.thumbnail(query).await;
        Some(asked.map_err(|e| Problem::of_partner(&e))?)
    };
    let gone = || Problem::new(Kind::NotFound, "NO_THUMBNAIL", "there is no picture of this event, or not any more");
    let jpeg = jpeg.ok_or_else(gone)?;
    call.pass.close(1, jpeg.len() as u64).await;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}
