//! `/api/v1/holds`: footage that an act keeps beyond its term. Placed and released by administrators, read by
//! operators too.

use super::input::{self, Raw, nothing};
use super::playbacks;
use super::problem::Problem;
use super::routes::{Call, Routes};
use super::viewings::Source;
use super::{Web, output};
use crate::access::{Action, Request};
use crate::coverage::Span;
use crate::holds::{Hold, HoldsError, Part, State, StreamAccount, Terms};
use crate::media::hls;
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use campanile_proto::ids::{CameraId, HoldId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn add(routes: Routes) -> Routes {
    let read_id = |_: &Web, _: &mut Request, raw: &Raw| raw.name::<HoldId>("id");
    routes
        .add(Method::GET, "/api/v1/holds", Action::ViewHolds, nothing, list)
        .add(Method::POST, "/api/v1/holds", Action::PlaceHold, read_terms, place)
        .add(Method::GET, "/api/v1/holds/{id}", Action::ViewHolds, read_id, show)
        .add(Method::POST, "/api/v1/holds/{id}/release", Action::ReleaseHold, read_release, release)
        .add(Method::POST, "/api/v1/holds/{id}/playbacks", Action::ReadHold, read_wanted, play)
}

fn failed(attempt: &'static str) -> impl Fn(HoldsError) -> Problem {
    move |error| match &error {
        HoldsError::Bad(bad) => Problem::field(bad.field, bad.sentence.clone()),
        HoldsError::NothingHeld => Problem::new(Kind::NotFound, "NOTHING_HELD", "nothing of this interval is held"),
        other => Problem::of(attempt, other.kind(), other),
    }
}

async fn list(call: Call<()>) -> Result<Response, Problem> {
    let holds = call.web.hub.holds.all().await.map_err(failed("list holds"))?;
    let holds: Vec<Value> = holds.iter().map(|(hold, state)| shown(hold, *state)).collect();
    Ok(Json(json!({ "holds": holds })).into_response())
}

async fn show(call: Call<HoldId>) -> Result<Response, Problem> {
    let (hold, state) = call.web.hub.holds.one(call.input).await.map_err(failed("show a hold"))?;
    Ok(Json(with_account(&call.web, &hold, state).await?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermsForm {
    act: String,
    author: String,
    approver: String,
    reason: String,
    cameras: Vec<String>,
    from: String,
    to: String,
    until: String,
}

struct Placing {
    id: HoldId,
    terms: Terms,
}

fn read_terms(_: &Web, asked: &mut Request, raw: &Raw) -> Result<Placing, Problem> {
    let form: TermsForm = raw.json()?;
    let cameras: Vec<CameraId> =
        form.cameras.iter().map(|text| input::id("cameras", text)).collect::<Result<_, _>>()?;
    let terms = Terms {
        act: form.act.trim().to_owned(),
        author: form.author.trim().to_owned(),
        approver: form.approver.trim().to_owned(),
        reason: form.reason.trim().to_owned(),
        cameras,
        from: input::time("from", &form.from)?,
        to: input::time("to", &form.to)?,
        until: input::time("until", &form.until)?,
    };
    let id = HoldId::ordered();
    asked.hold = Some(id);
    asked.cameras.clone_from(&terms.cameras);
    asked.interval = Some((terms.from, terms.to));
    // The act is what the register is searched by.
    asked.case_number = Some(terms.act.clone());
    Ok(Placing { id, terms })
}

async fn place(call: Call<Placing>) -> Result<Response, Problem> {
    let Call { web, pass, input: Placing { id, terms }, .. } = call;
    let hold = web.hub.holds.place(id, terms).await.map_err(failed("place a hold"))?;
    let shown = with_account(&web, &hold, State::Copying).await?;
    pass.close(1, 0).await;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseForm {
    by: String,
    reason: String,
}

fn read_release(_: &Web, asked: &mut Request, raw: &Raw) -> Result<(HoldId, ReleaseForm), Problem> {
    let (id, form) = (raw.name::<HoldId>("id")?, raw.json::<ReleaseForm>()?);
    let form = ReleaseForm { by: input::line("by", &form.by)?, reason: input::line("reason", &form.reason)? };
    asked.hold = Some(id);
    Ok((id, form))
}

async fn release(call: Call<(HoldId, ReleaseForm)>) -> Result<Response, Problem> {
    let Call { web, pass, input: (id, form), .. } = call;
    web.hub.holds.release(id, form.by, form.reason).await.map_err(failed("release a hold"))?;
    pass.close(1, 0).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedForm {
    camera: String,
    from: String,
    to: String,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    case_number: String,
}

struct Wanted {
    hold: HoldId,
    camera: CameraId,
    interval: (WallTime, WallTime),
}

fn read_wanted(_: &Web, asked: &mut Request, raw: &Raw) -> Result<Wanted, Problem> {
    let (hold, form) = (raw.name::<HoldId>("id")?, raw.json::<WantedForm>()?);
    let camera = input::id("camera", &form.camera)?;
    let interval = (input::time("from", &form.from)?, input::time("to", &form.to)?);
    asked.purpose = input::purpose(&form.purpose);
    asked.case_number = Some(form.case_number);
    asked.cameras = vec![camera];
    asked.interval = Some(interval);
    asked.hold = Some(hold);
    Ok(Wanted { hold, camera, interval })
}

async fn play(call: Call<Wanted>) -> Result<Response, Problem> {
    let Call { web, pass, input: wanted, .. } = call;
    let holds = &web.hub.holds;
    let (hold, _) = holds.one(wanted.hold).await.map_err(failed("play what is held"))?;
    let opened = holds.open_playback(pass.request_id(), wanted.hold, wanted.camera, wanted.interval).await;
    let opened = opened.map_err(failed("play what is held"))?;
    let listing = opened.listing.clone();
    let asked = Span { from: wanted.interval.0, to: wanted.interval.1 };
    playbacks::opened(&web, Source::Held(Box::new(opened)), asked, listing, pass, Some(hold.terms.until)).await
}

fn shown(hold: &Hold, state: State) -> Value {
    let terms = &hold.terms;
    json!({
        "id": hold.id, "state": state, "act": terms.act, "author": terms.author, "approver": terms.approver,
        "reason": terms.reason, "cameras": terms.cameras,
        "from": output::time(terms.from), "to": output::time(terms.to), "until": output::time(terms.until),
        "placed": output::time(hold.placed), "complete": hold.complete.map(output::time),
        "over": hold.over.as_ref().map(|over| json!({
            "at": output::time(over.at), "released_by": over.released_by, "why": over.why,
        })),
    })
}

async fn with_account(web: &Web, hold: &Hold, state: State) -> Result<Value, Problem> {
    let accounts = web.hub.holds.account(hold).await.map_err(failed("show a hold"))?;
    let mut shown = shown(hold, state);
    shown["account"] = accounts.iter().map(account).collect();
    Ok(shown)
}

/// Seconds by what became of them, and each stretch that is not held.
fn account(account: &StreamAccount) -> Value {
    let seconds = |part: &Part| (part.span.to - part.span.from) as f64 / MICROS_PER_SECOND as f64;
    let mut sums = serde_json::Map::new();
    for part in &account.parts {
        let sum = sums.get(part.sort.name()).and_then(Value::as_f64).unwrap_or(0.0);
        sums.insert(part.sort.name().to_owned(), (sum + seconds(part)).into());
    }
    let missing = account.parts.iter().filter(|part| part.sort != crate::holds::Sort::Held);
    let missing: Vec<Value> = missing
        .map(|part| {
            let (from, to) = (output::time(part.span.from), output::time(part.span.to));
            json!({ "from": from, "to": to, "what": part.sort.name(), "cause": part.cause })
        })
        .collect();
    json!({
        "camera": account.camera, "stream": hls::stream_name(account.stream), "seconds": sums, "missing": missing,
    })
}
