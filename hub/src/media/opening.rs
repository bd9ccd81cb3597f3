//! What a box delivers, checked and opened record by record.

use super::groups::Fragment;
use super::keeper::{For, Keeper};
use super::playback::PlaybackError;
use crate::fleet::{FetchItem, FetchStream};
use bytes::Bytes;
use campanile_proto::edge::v1::{DeliverRecord, DeliverSegment};
use campanile_proto::ids::{CameraId, EdgeId, OrganisationId, RunId};
use campanile_proto::segment::{Link, SegmentKey, first_link, next_link};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{RecordHeader, RecordKind, SegmentHeader, Stream, Suite};
use prost::Message;
use std::sync::Arc;

/// Init sections of a few kilobytes; more is no init section.
const MAX_INIT_BYTES: usize = 64 << 10;

/// What was asked for: whose, of which camera and stream, and which boxes may have sealed it.
pub(super) struct Asked {
    pub organisation: OrganisationId,
    pub camera: CameraId,
    pub stream: Stream,
    /// The box that delivers, and those whose place it took.
    pub edges: Vec<EdgeId>,
}

/// One opened record.
pub(super) enum Piece {
    /// ftyp+moov.
    Init(Bytes),
    /// Only its header was asked for.
    Header(Fragment),
    /// moof+mdat as recorded.
    Fragment(Fragment, Bytes),
}

/// The segment whose records are coming.
struct Current {
    header: SegmentHeader,
    /// None for a segment in clear, or when only headers come.
    key: Option<SegmentKey>,
    run: RunId,
    /// Link after the last record seen with its payload, and its sealing number.
    link: Option<(u32, Link)>,
    bytes: DeliverSegment,
}

/// Told of every init section, with its run.
type Learnt = Box<dyn Fn(RunId, &Bytes) + Send>;

pub(super) struct Opening {
    delivered: FetchStream,
    keeper: Arc<dyn Keeper>,
    /// The access it is opened for.
    purpose: For,
    asked: Asked,
    learnt: Learnt,
    current: Option<Current>,
}

impl Opening {
    pub fn new(delivered: FetchStream, keeper: Arc<dyn Keeper>, purpose: For, asked: Asked, learnt: Learnt) -> Self {
        Self { delivered, keeper, purpose, asked, learnt, current: None }
    }

    /// The next record that says something; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Piece>, PlaybackError> {
        loop {
            match self.delivered.next().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(PlaybackError::Fetch(error)),
                Some(Ok(FetchItem::Segment(segment))) => self.current = Some(self.begin(segment)?),
                Some(Ok(FetchItem::Record(record))) => {
                    if let Some(piece) = self.read(&record)? {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    fn begin(&self, bytes: DeliverSegment) -> Result<Current, PlaybackError> {
        let header =
            SegmentHeader::decode(bytes.header.clone()).map_err(|_| PlaybackError::Malformed("segment header"))?;
        let Asked { organisation, camera, stream, edges } = &self.asked;
        let ours = OrganisationId::try_from(&header.organisation_id) == Ok(*organisation)
            && EdgeId::try_from(&header.edge_id).is_ok_and(|edge| edges.contains(&edge))
            && CameraId::try_from(&header.camera_id) == Ok(*camera)
            && header.stream() == *stream;
        // What was recorded in clear before the box was enrolled names neither; TLS says whose it is.
        let before_enrolment = header.suite() == Suite::Clear
            && CameraId::try_from(&header.camera_id) == Ok(*camera)
            && header.stream() == *stream;
        if !ours && !before_enrolment {
            return Err(PlaybackError::Foreign);
        }
        let run = RunId::try_from(&header.run_id).map_err(PlaybackError::Id)?;
        let link = next_link(&first_link(&header.previous_link), &bytes.header, &bytes.wrapped_key);
        Ok(Current { header, key: None, run, link: Some((u32::MAX, link)), bytes })
    }

    fn read(&mut self, record: &DeliverRecord) -> Result<Option<Piece>, PlaybackError> {
        let current = self.current.as_mut().ok_or(PlaybackError::Malformed("a record before its segment"))?;
        let header =
            RecordHeader::decode(record.header.clone()).map_err(|_| PlaybackError::Malformed("record header"))?;
        let headers_only = record.payload.is_empty();
        match header.kind() {
            RecordKind::Init if headers_only => Ok(None),
            RecordKind::Init => {
                let init = current.open((&*self.keeper, self.purpose), &header, record)?;
                if init.len() > MAX_INIT_BYTES {
                    return Err(PlaybackError::Malformed("an init section of more than 64 KiB"));
                }
                (self.learnt)(current.run, &init);
                Ok(Some(Piece::Init(init)))
            }
            RecordKind::Fragment => {
                let fragment = Fragment {
                    run: current.run,
                    index: header.index,
                    starts_with_key: header.starts_with_key,
                    decode_90k: header.decode_time_90k,
                    duration_90k: header.duration_90k,
                    arrival: WallTime(record.utc_us),
                    plain_size: header.plain_size,
                };
                if headers_only {
                    return Ok(Some(Piece::Header(fragment)));
                }
                let bytes = current.open((&*self.keeper, self.purpose), &header, record)?;
                Ok(Some(Piece::Fragment(fragment, bytes)))
            }
            _ => Ok(None),
        }
    }
}

impl Current {
    /// Checks the chain where the record before was seen too, then opens the payload.
    fn open(
        &mut self,
        (keeper, purpose): (&dyn Keeper, For),
        header: &RecordHeader,
        record: &DeliverRecord,
    ) -> Result<Bytes, PlaybackError> {
        let link: Link = record.link.as_ref().try_into().map_err(|_| PlaybackError::Malformed("link"))?;
        if let Some((before, previous)) = self.link
            && header.sealing == before.wrapping_add(1)
            && next_link(&previous, &record.header, &record.payload) != link
        {
            return Err(PlaybackError::Chain);
        }
        self.link = Some((header.sealing, link));
        if self.header.suite() == Suite::Clear {
            return Ok(record.payload.clone());
        }
        let key = match &self.key {
            Some(key) => key,
            None => {
                let DeliverSegment { header, wrapped_key } = &self.bytes;
                let key = keeper.unwrap(purpose, &self.header, header, wrapped_key).map_err(PlaybackError::Keeper)?;
                self.key.insert(key)
            }
        };
        let plain = key.open(self.header.suite, header.sealing, &record.header, &record.payload);
        Ok(Bytes::from(plain.map_err(PlaybackError::Seal)?))
    }
}
