//! Shapes of JSON that more than one resource answers with.

use crate::catalog::Camera;
use campanile_proto::federation::v1::{CameraCard, SearchHit};
use campanile_proto::ids::{CameraId, EventId};
use campanile_proto::time::WallTime;
use serde_json::{Value, json};

/// RFC 3339 in UTC with microseconds; null beyond year 9999.
pub(super) fn time(at: WallTime) -> Value {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(at) => format!("{at:.6}").into(),
        Err(_) => Value::Null,
    }
}

pub(super) fn hit(hit: &SearchHit) -> Value {
    let id = |bytes: &bytes::Bytes| CameraId::try_from(bytes).map(|id| id.to_string()).unwrap_or_default();
    let event = EventId::try_from(&hit.event_id).map(|id| id.to_string()).unwrap_or_default();
    let union = hit.union.unwrap_or_default();
    let labels: Vec<Value> =
        hit.labels.iter().map(|label| json!({ "name": label.name, "source": label.source })).collect();
    json!({
        "event": event,
        "camera": id(&hit.camera_id),
        "camera_name": hit.camera_name,
        "site": hit.site,
        "address": hit.address,
        "start": time(WallTime(hit.start_us)),
        "end": time(WallTime(hit.end_us)),
        "ongoing": hit.ongoing,
        // Fractions of the picture times 10,000.
        "box": [union.left, union.top, union.right, union.bottom],
        "peak_cells": hit.peak_cells,
        "has_thumbnail": hit.has_thumbnail,
        "kept_until": time(WallTime(hit.kept_until_us)),
        "uncertainty_us": hit.uncertainty_us,
        "labels": labels,
    })
}

pub(super) fn camera(camera: &Camera) -> Value {
    let streams: Vec<Value> = camera
        .streams
        .iter()
        .map(|stream| {
            json!({
                "stream": stream.stream().as_str_name().trim_start_matches("STREAM_").to_lowercase(),
                "codec": stream.codec().as_str_name().trim_start_matches("CODEC_").to_lowercase(),
                "width": stream.width,
                "height": stream.height,
                "condition": stream.condition().as_str_name().trim_start_matches("CAMERA_CONDITION_").to_lowercase(),
                "detail": stream.detail,
            })
        })
        .collect();
    json!({
        "id": camera.id, "name": camera.name, "site": camera.site, "address": camera.address,
        "latitude": camera.latitude, "longitude": camera.longitude, "streams": streams,
    })
}

pub(super) fn card(id: CameraId, card: Option<&CameraCard>) -> Value {
    let card = card.cloned().unwrap_or_default();
    json!({
        "id": id, "name": card.name, "site": card.site, "address": card.address,
        "latitude": card.latitude, "longitude": card.longitude,
    })
}
