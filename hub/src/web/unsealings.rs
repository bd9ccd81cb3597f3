//! `/api/v1/unsealings`: the keys of one segment's fragments, for somebody who has its file in hand.
//!
//! A fragment's key opens that fragment and nothing else: the segment's own key, and the hour's, never leave the hub.

use super::Web;
use super::input::{self, Raw};
use super::problem::Problem;
use super::routes::{Call, Routes};
use crate::access::{Action, Request};
use crate::hub::Hub;
use crate::media::{For, Keeper};
use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use campanile_proto::ids::{CameraId, SegmentId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{WallTime, kept_since, kept_until};
use campanile_proto::types::v1::{KeyKind, SegmentHeader, Stream};
use prost::Message;
use serde::Deserialize;
use serde_json::json;

const ATTEMPT: &str = "unseal the segment";
/// Ten minutes of nothing but key frames, thirty a second.
const MAX_FRAGMENTS: u32 = 18_000;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::POST, "/api/v1/unsealings", Action::Unseal, read, unseal)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    /// `SegmentHeader` as it stands in the file, and the payload of its record; hexadecimal.
    segment: String,
    wrapped_key: String,
    /// How many fragments the file holds.
    fragments: u32,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    case_number: String,
}

struct Wanted {
    header: SegmentHeader,
    header_bytes: Vec<u8>,
    wrapped: Vec<u8>,
    fragments: u32,
}

fn read(web: &Web, asked: &mut Request, raw: &Raw) -> Result<Wanted, Problem> {
    let form: Form = raw.json()?;
    let bytes = |field, text: &str| hex::decode(text).map_err(|_| Problem::field(field, "write it in hexadecimal"));
    let (header_bytes, wrapped) = (bytes("segment", &form.segment)?, bytes("wrapped_key", &form.wrapped_key)?);
    let unreadable = || Problem::field("segment", "send the header of a segment file as it stands there");
    let header = SegmentHeader::decode(header_bytes.as_slice()).map_err(|_| unreadable())?;
    if !matches!(header.stream(), Stream::Main | Stream::Sub) {
        return Err(Problem::field("segment", "send one of the main or the sub-stream: an index holds no picture"));
    }
    if form.fragments > MAX_FRAGMENTS {
        return Err(Problem::field("fragments", format!("a segment has at most {MAX_FRAGMENTS}")));
    }
    let now = web.hub.clock.utc();
    asked.purpose = input::purpose(&form.purpose);
    asked.case_number = Some(form.case_number);
    asked.cameras = vec![CameraId::try_from(&header.camera_id).map_err(|_| unreadable())?];
    asked.interval = Some(match header.key_kind() {
        KeyKind::Hour => {
            let hour = i64::try_from(header.hour).ok().filter(|hour| *hour <= now.hour()).ok_or_else(unreadable)?;
            (WallTime::from_hour(hour), WallTime::from_hour(hour + 1))
        }
        // What its box believed the time was says nothing: somewhen of what is kept.
        _ => (kept_since(now, web.hub.config.retention_days), now),
    });
    Ok(Wanted { header, header_bytes, wrapped, fragments: form.fragments })
}

async fn unseal(call: Call<Wanted>) -> Result<Response, Problem> {
    let Call { web, pass, input: wanted, .. } = call;
    let hub = &web.hub;
    if wanted.header.key_kind() != KeyKind::Hour {
        demand_within_term(hub, &wanted.header).await?;
    }
    let registered = hub.door.registered(pass.request_id()).ok_or_else(Problem::not_found)?;
    let key = hub.keeper.unwrap(For::Access(registered), &wanted.header, &wanted.header_bytes, &wanted.wrapped);
    let key = key.map_err(|e| Problem::of(ATTEMPT, e.kind(), &e))?;
    // 0 is the init section's.
    let keys: Vec<String> = (0..=wanted.fragments).map(|n| hex::encode(key.fragment_key(n).expose())).collect();
    pass.close(keys.len() as u64, 0).await;
    Ok(Json(json!({ "keys": keys })).into_response())
}

/// A reserve key lives for as long as its box seals to it: when this was recorded says what the box reported of it.
async fn demand_within_term(hub: &Hub, header: &SegmentHeader) -> Result<(), Problem> {
    let unknown =
        || Problem::new(Kind::NotFound, "NOT_FOUND", "its box has not reported this segment: its time is not known");
    let id = SegmentId::try_from(&header.segment_id).map_err(|_| unknown())?;
    let camera = CameraId::try_from(&header.camera_id).map_err(|_| unknown())?;
    let days = hub.config.retention_days;
    let (oldest, newest) = (WallTime(i64::MIN / 2), WallTime(i64::MAX / 2));
    let rows = hub.catalog.segments(camera, header.stream(), oldest, newest).await;
    let rows = rows.map_err(|e| Problem::of(ATTEMPT, e.kind(), &e))?;
    let row = rows.into_iter().find(|row| row.id == id).ok_or_else(unknown)?;
    if kept_until(row.start, days.min(header.retention_days)) <= hub.clock.utc() {
        return Err(Problem::new(Kind::Expired, "EXPIRED", "the term of this footage is over"));
    }
    Ok(())
}
