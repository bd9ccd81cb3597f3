//! `/api/v1/playbacks`: an interval of one camera, ours or a partner's, as HLS (RFC 8216).

use super::input::{self, Raw};
use super::problem::Problem;
use super::routes::{Call, Routes};
use super::searches::behalf;
use super::viewings::{ABSOLUTE_US, Source, Viewing};
use super::{Web, coverage, output};
use crate::access::{Action, Pass, Request};
use crate::coverage::{Hole, Reported, Span};
use crate::federation::PlaybackQuery;
use crate::hub::Hub;
use crate::media::axis::{Axis, Section};
use crate::media::hls::{self, Missing};
use axum::Json;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use campanile_proto::federation::v1::Listing;
use campanile_proto::ids::{CameraId, OrganisationId, RequestId, RunId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{WallTime, kept_until};
use campanile_proto::types::v1::Stream;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What stands in a playlist where nothing is: an empty answer, which a player that does not know EXT-X-GAP reads.
const GAP: &str = "gap.m4s";
/// Before the names of playlists in which a stream that was not recorded borrows the other's pictures.
const WHOLE: &str = "whole-";
const PLAYLIST: &str = "application/vnd.apple.mpegurl";

pub(super) fn add(routes: Routes) -> Routes {
    let read_playlist = |_: &Web, _: &mut Request, raw: &Raw| Ok((raw.name("id")?, raw.name::<String>("playlist")?));
    let read_id = |_: &Web, _: &mut Request, raw: &Raw| raw.name::<RequestId>("id");
    routes
        .add(Method::POST, "/api/v1/playbacks", Action::Playback, read, open)
        .add(Method::GET, "/api/v1/playbacks/{id}", Action::PlaybackLease, read_id, standing)
        .add(Method::DELETE, "/api/v1/playbacks/{id}", Action::PlaybackLease, read_id, close)
        .add(Method::GET, "/api/v1/playbacks/{id}/{playlist}", Action::PlaybackLease, read_playlist, playlist)
        .add(Method::GET, "/api/v1/playbacks/{id}/{stream}/{run}/{part}", Action::PlaybackLease, read_part, part)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    organisation: Option<String>,
    camera: String,
    from: String,
    to: String,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    case_number: String,
}

struct Wanted {
    organisation: OrganisationId,
    camera: CameraId,
    from: WallTime,
    to: WallTime,
}

fn read(web: &Web, asked: &mut Request, raw: &Raw) -> Result<Wanted, Problem> {
    let form: Form = raw.json()?;
    let own = web.hub.organisation.id;
    let organisation = form.organisation.map_or(Ok(own), |text| input::id("organisation", &text))?;
    let camera = input::id("camera", &form.camera)?;
    let (from, to) = (input::time("from", &form.from)?, input::time("to", &form.to)?);
    asked.purpose = input::purpose(&form.purpose);
    asked.case_number = Some(form.case_number);
    asked.cameras = vec![camera];
    asked.interval = Some((from, to));
    Ok(Wanted { organisation, camera, from, to })
}

async fn open(call: Call<Wanted>) -> Result<Response, Problem> {
    let Call { web, pass, input: wanted, .. } = call;
    let hub = &web.hub;
    let (source, listing, kept) = if wanted.organisation == hub.organisation.id {
        let listing = hub.playback.listing(pass.request_id(), wanted.camera, wanted.from, wanted.to).await;
        let listing = listing.map_err(|e| Problem::of("play", e.kind(), &e))?;
        let kept = first_start(&listing).map(|start| kept_until(start, hub.config.retention_days));
        (Source::Own(wanted.camera), listing, kept)
    } else {
        let query = PlaybackQuery {
            behalf: behalf(hub, &pass),
            partner: wanted.organisation,
            camera: wanted.camera,
            from: wanted.from,
            to: wanted.to,
        };
        let playback = hub.federation.open_playback(query).await;
        let playback = playback.map_err(|e| Problem::of_partner(&e))?;
        let listing = playback.listing().clone();
        (Source::Partner(playback), listing, None)
    };
    let asked = Span { from: wanted.from, to: wanted.to };
    opened(&web, source, asked, listing, pass, kept).await
}

/// Takes up what is listed of the span that was asked for as an open playback.
pub(super) async fn opened(
    web: &Web,
    source: Source,
    asked: Span,
    listing: Listing,
    pass: Pass,
    kept: Option<WallTime>,
) -> Result<Response, Problem> {
    let hub = &web.hub;
    if first_start(&listing).is_none() {
        let sentence = "nothing was recorded by this camera in this interval, or it is not kept any more";
        return Err(Problem::new(Kind::NotFound, "NOTHING_RECORDED", sentence));
    }
    let sections = Axis::of(&listing).sections;
    let mut answer = json!({
        "streams": streams(&listing),
        "start": first_start(&listing).map(output::time),
        "end": last_end(&listing).map(output::time),
        "expires": output::time(hub.clock.utc().plus_micros(ABSOLUTE_US)),
        "kept_until": kept.map(output::time),
        "sections": sections.iter().map(section).collect::<Vec<_>>(),
        "gaps": left_out(hub, &source, &sections, asked).await?.iter().map(coverage::hole).collect::<Vec<_>>(),
    });
    let id = web.viewings.add(source, listing, pass)?;
    answer["id"] = id.to_string().into();
    answer["master"] = format!("/api/v1/playbacks/{id}/master.m3u8").into();
    answer["whole"] = format!("/api/v1/playbacks/{id}/{WHOLE}master.m3u8").into();
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// A stretch that plays without a break: where on the player's clock it begins, what time that is, and what was
/// recorded then.
fn section(section: &Section) -> serde_json::Value {
    json!({
        "at": section.at_us as f64 / 1e6,
        "start": output::time(WallTime(section.start_us)),
        "end": output::time(WallTime(section.end_us)),
        "streams": section.streams.iter().map(|stream| hls::stream_name(*stream)).collect::<Vec<_>>(),
    })
}

/// What of the interval is not played, and why.
async fn left_out(hub: &Hub, source: &Source, played: &[Section], asked: Span) -> Result<Vec<Hole>, Problem> {
    let within = Span { to: asked.to.min(hub.clock.utc()), ..asked };
    let span = |section: &Section| Span { from: WallTime(section.start_us), to: WallTime(section.end_us) };
    let played = played.iter().map(span).collect();
    Ok(match source {
        Source::Own(camera) => coverage::reported(hub, *camera, within).await?.playing(played).holes(within),
        // What a hold has not, its own account names.
        Source::Held(_) | Source::Partner(_) => Reported::unnamed(played).holes(within),
    })
}

fn first_start(listing: &Listing) -> Option<WallTime> {
    listing.variants.iter().flat_map(|v| &v.groups).map(|group| WallTime(group.start_us)).min()
}

fn last_end(listing: &Listing) -> Option<WallTime> {
    let end = |start: i64, duration: u64| start.saturating_add(i64::try_from(duration).unwrap_or(0));
    listing.variants.iter().flat_map(|v| &v.groups).map(|g| WallTime(end(g.start_us, g.duration_us))).max()
}

fn streams(listing: &Listing) -> Vec<serde_json::Value> {
    let one = |variant: &campanile_proto::federation::v1::VariantListing| {
        json!({
            "stream": hls::stream_name(variant.stream()), "codecs": variant.codecs,
            "width": variant.width, "height": variant.height, "groups": variant.groups.len(),
        })
    };
    listing.variants.iter().map(one).collect()
}

/// Whether it still plays: a page that asks knows at once that it must show nothing any more (410), and why.
async fn standing(call: Call<RequestId>) -> Result<Response, Problem> {
    call.web.viewings.get(call.input, call.who())?;
    Ok(Json(json!({ "id": call.input, "state": "open" })).into_response())
}

async fn close(call: Call<RequestId>) -> Result<Response, Problem> {
    // Only its own person may know it is there.
    if call.web.viewings.get(call.input, call.who()).is_ok() {
        call.web.viewings.close(call.input).await;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn playlist(call: Call<(RequestId, String)>) -> Result<Response, Problem> {
    let viewing = call.web.viewings.get(call.input.0, call.who())?;
    if call.input.1 == GAP {
        return Ok(([(header::CONTENT_TYPE, "video/mp4")], Bytes::new()).into_response());
    }
    let name = call.input.1.strip_suffix(".m3u8").ok_or_else(Problem::not_found)?;
    let (name, missing, base) = match name.strip_prefix(WHOLE) {
        Some(name) => (name, Missing::Borrowed, WHOLE),
        None => (name, Missing::Gaps, ""),
    };
    let text = match name {
        "master" => hls::master_playlist(&viewing.listing, base),
        name => {
            let axis = Axis::of(&viewing.listing);
            hls::media_playlist(&axis, stream_of(name)?, missing, address).ok_or_else(Problem::not_found)?
        }
    };
    Ok(([(header::CONTENT_TYPE, PLAYLIST)], text).into_response())
}

/// As it stands in a playlist.
fn address(part: hls::Part<'_>) -> String {
    match part {
        hls::Part::Init(stream, run) => format!("{}/{run}/init.mp4", hls::stream_name(stream)),
        hls::Part::Group(stream, group) => {
            let run = RunId::try_from(&group.run_id).map(|run| run.to_string()).unwrap_or_default();
            format!("{}/{run}/{}-{}.m4s", hls::stream_name(stream), group.first, group.last)
        }
        hls::Part::Gap => GAP.to_owned(),
    }
}

enum Part {
    Init,
    Group { first: u64, last: u64 },
}

struct WantedPart {
    id: RequestId,
    stream: Stream,
    run: RunId,
    part: Part,
}

fn read_part(_: &Web, _: &mut Request, raw: &Raw) -> Result<WantedPart, Problem> {
    let file: String = raw.name("part")?;
    let range = file.strip_suffix(".m4s").and_then(|range| range.split_once('-'));
    let numbers = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let part = match numbers {
        Some((first, last)) => Part::Group { first, last },
        None if file == "init.mp4" => Part::Init,
        None => return Err(Problem::not_found()),
    };
    Ok(WantedPart {
        id: raw.name("id")?,
        stream: stream_of(&raw.name::<String>("stream")?)?,
        run: raw.name("run")?,
        part,
    })
}

async fn part(call: Call<WantedPart>) -> Result<Response, Problem> {
    let wanted = &call.input;
    let viewing: Arc<Viewing> = call.web.viewings.get(wanted.id, call.who())?;
    let bytes: Bytes = match wanted.part {
        Part::Init if viewing.has_run(wanted.stream, wanted.run) => {
            viewing.init(&call.web.hub, wanted.stream, wanted.run).await?
        }
        Part::Group { first, last } if viewing.has_group(wanted.stream, wanted.run, first, last) => {
            viewing.group(&call.web.hub, wanted.stream, wanted.run, first, last).await?
        }
        _ => return Err(Problem::not_found()),
    };
    viewing.pass.count(1, bytes.len() as u64);
    Ok(([(header::CONTENT_TYPE, "video/mp4")], bytes).into_response())
}

fn stream_of(name: &str) -> Result<Stream, Problem> {
    match name {
        "main" => Ok(Stream::Main),
        "sub" => Ok(Stream::Sub),
        _ => Err(Problem::not_found()),
    }
}
