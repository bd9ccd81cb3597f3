//! What a box delivers for a hold: read, held against what was asked, its chain checked. Nothing is opened.

use super::CopyError;
use super::store::HeldFragment;
use crate::fleet::{FetchItem, FetchStream};
use crate::media::groups::Fragment;
use bytes::Bytes;
use campanile_proto::edge::v1::{DeliverRecord, DeliverSegment};
use campanile_proto::ids::{CameraId, EdgeId, OrganisationId, RunId, SegmentId};
use campanile_proto::segment::{Link, Record, first_link, next_link};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{RecordHeader, RecordKind, SegmentHeader, Stream};
use prost::Message;

/// A day of one-second fragments, twice.
const MAX_HEADERS: usize = 200_000;

/// Of which camera and stream, and which boxes may have sealed it.
pub(super) struct Asked {
    pub organisation: OrganisationId,
    pub camera: CameraId,
    pub stream: Stream,
    pub edges: Vec<EdgeId>,
}

/// A segment whose records come.
pub(super) struct Current {
    pub id: SegmentId,
    pub bytes: DeliverSegment,
    run: RunId,
    /// After the segment record.
    pub link: Link,
}

impl Asked {
    pub fn begin(&self, bytes: DeliverSegment) -> Result<Current, CopyError> {
        let header = SegmentHeader::decode(bytes.header.clone()).map_err(|_| CopyError::Malformed("segment header"))?;
        let ours = OrganisationId::try_from(&header.organisation_id) == Ok(self.organisation)
            && EdgeId::try_from(&header.edge_id).is_ok_and(|edge| self.edges.contains(&edge))
            && CameraId::try_from(&header.camera_id) == Ok(self.camera)
            && header.stream() == self.stream;
        if !ours {
            return Err(CopyError::Foreign);
        }
        let id = SegmentId::try_from(&header.segment_id).map_err(|_| CopyError::Malformed("segment id"))?;
        let run = RunId::try_from(&header.run_id).map_err(|_| CopyError::Malformed("run id"))?;
        let link = next_link(&first_link(&header.previous_link), &bytes.header, &bytes.wrapped_key);
        Ok(Current { id, bytes, run, link })
    }
}

fn link(record: &DeliverRecord) -> Result<Link, CopyError> {
    record.link.as_ref().try_into().map_err(|_| CopyError::Malformed("link"))
}

fn header(record: &DeliverRecord) -> Result<RecordHeader, CopyError> {
    RecordHeader::decode(record.header.clone()).map_err(|_| CopyError::Malformed("record header"))
}

/// What the headers of an interval said.
#[derive(Default)]
pub(super) struct Seen {
    pub segments: Vec<DeliverSegment>,
    pub fragments: Vec<HeldFragment>,
    /// Why there is no more, if it broke off.
    pub broke: Option<CopyError>,
}

/// Takes headers without payloads to their end.
pub(super) async fn headers(asked: &Asked, delivered: &mut FetchStream) -> Seen {
    let mut seen = Seen::default();
    seen.broke = take_headers(asked, delivered, &mut seen).await.err();
    seen
}

async fn take_headers(asked: &Asked, delivered: &mut FetchStream, seen: &mut Seen) -> Result<(), CopyError> {
    let mut current: Option<Current> = None;
    // Link behind the record before, and the number of its sealing.
    let mut last: Option<(u32, Link)> = None;
    while let Some(item) = delivered.next().await {
        let record = match item.map_err(CopyError::Fetch)? {
            FetchItem::Segment(segment) => {
                let begun = asked.begin(segment)?;
                seen.segments.push(begun.bytes.clone());
                (current, last) = (Some(begun), None);
                continue;
            }
            FetchItem::Record(record) => record,
        };
        let current = current.as_ref().ok_or(CopyError::Malformed("a record before its segment"))?;
        let (said, link) = (header(&record)?, link(&record)?);
        if said.kind() == RecordKind::Fragment {
            let fragment = Fragment {
                run: current.run,
                index: said.index,
                starts_with_key: said.starts_with_key,
                decode_90k: said.decode_time_90k,
                duration_90k: said.duration_90k,
                arrival: WallTime(record.utc_us),
                plain_size: said.plain_size,
            };
            let before = last.filter(|(sealing, _)| sealing + 1 == said.sealing).map(|(_, link)| link);
            let (segment, sealing) = (current.id, said.sealing);
            seen.fragments.push(HeldFragment { segment, sealing, fragment, link, before, at: None });
            if seen.fragments.len() > MAX_HEADERS || said.sealing == u32::MAX {
                return Err(CopyError::Malformed("more fragments than an interval holds"));
            }
        }
        last = Some((said.sealing, link)).filter(|(sealing, _)| *sealing < u32::MAX);
    }
    Ok(())
}

/// A record to be kept.
pub(super) struct Kept {
    /// None: the init section.
    pub sealing: Option<u32>,
    pub record: Record,
}

/// Payloads of one segment, in order, held against the headers that were seen before.
pub(super) struct Payloads<'a> {
    asked: &'a Asked,
    segment: SegmentId,
    header: &'a Bytes,
    expected: &'a [HeldFragment],
    delivered: FetchStream,
    current: Option<Current>,
    last: Option<(u32, Link)>,
}

impl<'a> Payloads<'a> {
    pub fn new(
        asked: &'a Asked,
        (segment, header): (SegmentId, &'a Bytes),
        expected: &'a [HeldFragment],
        delivered: FetchStream,
    ) -> Self {
        Self { asked, segment, header, expected, delivered, current: None, last: None }
    }

    /// The segment record itself, once its records come.
    pub fn segment_record(&self) -> Option<Record> {
        let Current { bytes, link, .. } = self.current.as_ref()?;
        let (header, payload) = (bytes.header.clone(), bytes.wrapped_key.clone());
        Some(Record { kind: RecordKind::Segment, header, payload, link: *link })
    }

    /// The next that is as it was sealed and announced; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Kept>, CopyError> {
        while let Some(item) = self.delivered.next().await {
            let record = match item.map_err(CopyError::Fetch)? {
                FetchItem::Segment(segment) => {
                    let begun = self.asked.begin(segment)?;
                    if begun.id != self.segment || begun.bytes.header != *self.header {
                        return Err(CopyError::Foreign);
                    }
                    (self.current, self.last) = (Some(begun), None);
                    continue;
                }
                FetchItem::Record(record) => record,
            };
            if let Some(kept) = self.check(record)? {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    }

    fn check(&mut self, record: DeliverRecord) -> Result<Option<Kept>, CopyError> {
        let current = self.current.as_ref().ok_or(CopyError::Malformed("a record before its segment"))?;
        let (said, link) = (header(&record)?, link(&record)?);
        let (before, sealing) = match said.kind() {
            RecordKind::Init => (Some(current.link), None),
            RecordKind::Fragment => {
                let expected = self.expected.iter().find(|held| held.sealing == said.sealing);
                let expected = expected.ok_or(CopyError::Malformed("a fragment that was not asked for"))?;
                if expected.link != link {
                    return Err(CopyError::Chain);
                }
                let last = self.last.filter(|(sealing, _)| sealing + 1 == said.sealing).map(|(_, link)| link);
                (expected.before.or(last), Some(said.sealing))
            }
            _ => return Ok(None),
        };
        if record.payload.is_empty() {
            return Err(CopyError::Malformed("a record without its payload"));
        }
        // Only the very first record that is seen of a segment may have nothing before it.
        if before.is_some_and(|before| next_link(&before, &record.header, &record.payload) != link) {
            return Err(CopyError::Chain);
        }
        self.last = Some((said.sealing, link)).filter(|(sealing, _)| *sealing < u32::MAX);
        let DeliverRecord { header, payload, .. } = record;
        Ok(Some(Kept { sealing, record: Record { kind: said.kind(), header, payload, link } }))
    }
}
