//! `/api/v1/coverage`: how much of each day each of our cameras recorded, and why not all of it.

use super::Web;
use super::input::{self, Raw};
use super::output;
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use crate::catalog::Camera;
use crate::coverage::{self, Day, Hole, Reported, Span};
use crate::hub::Hub;
use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use campanile_proto::ids::CameraId;
use campanile_proto::kind::Kind;
use campanile_proto::time::{WallTime, kept_since};
use campanile_proto::types::v1::Stream;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/coverage", Action::ViewCoverage, read, show)
}

struct Wanted {
    camera: Option<CameraId>,
    within: Span,
}

/// What nobody names: everything that is still kept, until now.
fn read(web: &Web, asked: &mut Request, raw: &Raw) -> Result<Wanted, Problem> {
    let camera = raw.query::<CameraId>("camera")?;
    let time = |name: &'static str| raw.query::<String>(name)?.map(|text| input::time(name, &text)).transpose();
    let now = web.hub.clock.utc();
    // Of what is past its term nothing is known any more, and nothing is missing.
    let oldest = kept_since(now, web.hub.config.retention_days);
    let (from, to) = (time("from")?.unwrap_or(oldest).max(oldest), time("to")?.unwrap_or(now).min(now));
    if from >= to {
        let sentence = "`from` must be before `to`, and both within the time that is kept";
        return Err(Problem { field: Some("from"), ..Problem::new(Kind::Invalid, "BAD_INTERVAL", sentence) });
    }
    asked.cameras = camera.into_iter().collect();
    asked.interval = Some((from, to));
    Ok(Wanted { camera, within: Span { from, to } })
}

async fn show(call: Call<Wanted>) -> Result<Response, Problem> {
    let (hub, Wanted { camera, within }) = (call.web.hub.clone(), call.input);
    let cameras = hub.catalog.cameras().await.map_err(|e| Problem::of(ATTEMPT, e.kind(), &e))?;
    let wanted = |of: &&Camera| camera.map_or(!of.removed, |id| of.id == id);
    let zone = TimeZone::get(&hub.config.time_zone).unwrap_or(TimeZone::UTC);
    let mut answer = Vec::new();
    for camera in cameras.iter().filter(wanted) {
        let holes = reported(&hub, camera.id, within).await?.holes(within);
        let days: Vec<Value> = coverage::days(&holes, within, &zone).iter().map(day).collect();
        answer.push(json!({ "id": camera.id, "name": camera.name, "site": camera.site, "days": days }));
    }
    call.pass.close(answer.len() as u64, 0).await;
    if answer.is_empty() && camera.is_some() {
        return Err(Problem::not_found());
    }
    Ok(Json(json!({ "time_zone": hub.config.time_zone, "cameras": answer })).into_response())
}

const ATTEMPT: &str = "show the coverage";

/// Of the main stream, which is the record: the sub-stream is there to search and to scrub.
pub(super) async fn reported(hub: &Hub, camera: CameraId, within: Span) -> Result<Reported, Problem> {
    let Span { from, to } = within;
    let segments = hub.catalog.segments(camera, Stream::Main, from, to).await;
    let segments = segments.map_err(|e| Problem::of(ATTEMPT, e.kind(), &e))?;
    let mut gaps = hub.catalog.gaps(camera, from, to).await.map_err(|e| Problem::of(ATTEMPT, e.kind(), &e))?;
    gaps.retain(|gap| gap.stream == Stream::Main);
    let heard = hub.catalog.owner(camera).map(|edge| hub.fleet.last_seen(edge));
    let heard = match heard {
        Some(seen) => seen.await.map_err(|e| Problem::of(ATTEMPT, e.kind(), &e))?,
        None => None,
    };
    Ok(coverage::reported(&segments, &gaps, heard.unwrap_or(WallTime(0)), hub.clock.utc()))
}

fn day(day: &Day) -> Value {
    json!({
        "date": day.date.to_string(),
        "from": output::time(day.span.from),
        "to": output::time(day.span.to),
        "seconds": seconds(day.span.micros()),
        "recorded_seconds": seconds(day.recorded_us),
        // Rounded down.
        "recorded_percent": day.recorded_hundredths() as f64 / 100.0,
        "gaps": day.holes.iter().map(hole).collect::<Vec<_>>(),
    })
}

pub(super) fn hole(hole: &Hole) -> Value {
    json!({
        "start": output::time(hole.span.from),
        "end": output::time(hole.span.to),
        "cause": hole.cause.code(),
        "sentence": hole.cause.sentence(),
    })
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
