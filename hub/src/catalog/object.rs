//! A report that is not sealed, read as the object it is the state of: pure.

use super::Anchors;
use campanile_proto::edge::v1::{Gap, Report, SegmentState, report::Body};
use campanile_proto::ids::{CameraId, EdgeId, ObjectId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Instant, SegmentHeader, Stream};
use prost::Message;

/// Numbers in the table `object`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub(super) enum Sort {
    Camera = 1,
    Segment = 2,
    Gap = 3,
    Health = 4,
    Anchor = 5,
}

pub(super) struct Object {
    pub sort: Sort,
    pub id: ObjectId,
    pub camera: Option<CameraId>,
    pub stream: Option<Stream>,
    /// Present UTC on arrival; an end of the world while it goes on.
    pub time: Option<(WallTime, WallTime)>,
    /// The message as reported.
    pub state: Vec<u8>,
}

pub(super) const GOES_ON: WallTime = WallTime(i64::MAX);

/// Why a report is set aside, for the log and for the table `refused`.
type Refused = String;

/// What `edge` reported.
pub(super) fn read(edge: EdgeId, report: &Report, anchors: &Anchors) -> Result<Object, Refused> {
    let id = ObjectId::try_from(&report.object_id).map_err(|error| error.to_string())?;
    let plain = |sort, id, state| Object { sort, id, camera: None, stream: None, time: None, state };
    match &report.body {
        Some(Body::Camera(camera)) => {
            let camera_id = CameraId::try_from(&camera.camera_id).map_err(|error| error.to_string())?;
            // One row a camera, whatever object the box files it under.
            let id = ObjectId::try_from(&camera.camera_id).map_err(|error| error.to_string())?;
            Ok(Object { camera: Some(camera_id), ..plain(Sort::Camera, id, camera.encode_to_vec()) })
        }
        Some(Body::Segment(state)) => segment(id, state, (edge, anchors)),
        Some(Body::Gap(state)) => gap(id, state, (edge, anchors)),
        Some(Body::Health(health)) => Ok(plain(Sort::Health, ObjectId::from_u128(0), health.encode_to_vec())),
        Some(Body::Anchor(anchor)) => {
            let at = WallTime(anchor.utc_us);
            Ok(Object { time: Some((at, at)), ..plain(Sort::Anchor, id, anchor.encode_to_vec()) })
        }
        Some(Body::Sealed(_)) => Err("the sealed record was not looked at".to_owned()),
        None => Err("the report says nothing this version knows".to_owned()),
    }
}

/// Whose clock an instant is of, and what is known of it.
type Time<'a> = (EdgeId, &'a Anchors);

fn segment(id: ObjectId, state: &SegmentState, anchors: Time<'_>) -> Result<Object, Refused> {
    let header = SegmentHeader::decode(state.header.clone()).map_err(|_| "the segment header is not a message")?;
    let camera = CameraId::try_from(&header.camera_id).map_err(|error| error.to_string())?;
    let start = present(state.start.as_ref(), anchors)?;
    let time = Some((start, present(state.end.as_ref(), anchors)?.max(start)));
    let (camera, stream) = (Some(camera), Some(header.stream()));
    Ok(Object { sort: Sort::Segment, id, camera, stream, time, state: state.encode_to_vec() })
}

fn gap(id: ObjectId, state: &Gap, anchors: Time<'_>) -> Result<Object, Refused> {
    let camera = CameraId::try_from(&state.camera_id).map_err(|error| error.to_string())?;
    let start = present(state.start.as_ref(), anchors)?;
    let end = if state.ongoing { GOES_ON } else { present(state.end.as_ref(), anchors)?.max(start) };
    let (camera, stream) = (Some(camera), Some(state.stream()));
    Ok(Object { sort: Sort::Gap, id, camera, stream, time: Some((start, end)), state: state.encode_to_vec() })
}

fn present(instant: Option<&Instant>, (edge, anchors): Time<'_>) -> Result<WallTime, Refused> {
    Ok(anchors.present(edge, instant.ok_or("an instant is missing")?).0)
}
