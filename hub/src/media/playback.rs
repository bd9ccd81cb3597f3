//! Listing and fetching footage of one camera through the fleet.

use super::cache::{Cache, GroupKey, OpenedGroup};
use super::codecs::{self, CodecsError, Described};
use super::groups::{self, Fragment};
use super::keeper::{For, Keeper, KeeperError};
use super::opening::{Asked, Opening, Piece};
use super::rendition::{self, RenditionError};
use super::timeline::{Point, Timeline};
use crate::access::{Door, Registered};
use crate::catalog::{Catalog, CatalogError};
use crate::fleet::{FetchError, Fleet};
use bytes::Bytes;
use campanile_proto::edge::v1::{Fetch, FetchClass, FragmentRange, TimeSpan, fetch::What};
use campanile_proto::federation::v1::{Listing, VariantListing};
use campanile_proto::ids::{CameraId, InvalidId, OrganisationId, RequestId, RunId};
use campanile_proto::kind::Kind;
use campanile_proto::segment::SealError;
use campanile_proto::time::{Clock, MICROS_PER_HOUR, WallTime, kept_until};
use campanile_proto::types::v1::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One listing: a day of one stream in two-second groups is 43,200 of them.
const LONGEST_US: i64 = 24 * MICROS_PER_HOUR;
/// Fragments of one listing, one a second at least.
const MAX_FRAGMENTS: usize = 200_000;
/// Fragments of one group.
const MAX_GROUP_FRAGMENTS: u64 = 600;
const MAX_GROUP_BYTES: usize = 64 << 20;
/// Runs whose time line and init section are kept.
const MAX_RUNS: usize = 4_096;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum PlaybackError {
    #[error("the interval is empty or longer than a day")]
    Interval,
    #[error("the group is not one of a listing")]
    Group,
    #[error("only main and sub can be played")]
    Stream,
    #[error("nothing of this camera is recorded in this interval")]
    NothingRecorded,
    #[error("the access has no open entry in the register")]
    NotRegistered,
    #[error("the footage is past its term")]
    Expired,
    #[error("the footage could not be fetched")]
    Fetch(#[source] FetchError),
    #[error("the footage cannot be opened")]
    Keeper(#[source] KeeperError),
    #[error("a record of the box is not what was sealed")]
    Seal(#[source] SealError),
    #[error("a record of the box does not follow from the one before")]
    Chain,
    #[error("a record of the box is malformed: {0}")]
    Malformed(&'static str),
    #[error("a record of the box is of another camera, stream or box")]
    Foreign,
    #[error("an id of the box is malformed")]
    Id(#[source] InvalidId),
    #[error("the stream cannot be described")]
    Codecs(#[source] CodecsError),
    #[error("a fragment cannot be packaged")]
    Rendition(#[source] RenditionError),
    #[error("coverage cannot be read")]
    Catalog(#[source] CatalogError),
}

impl PlaybackError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Interval | Self::Group | Self::Stream => Kind::Invalid,
            Self::NothingRecorded => Kind::NotFound,
            Self::Expired => Kind::Expired,
            Self::NotRegistered => Kind::Denied,
            Self::Fetch(error) => error.kind(),
            Self::Keeper(error) => error.kind(),
            Self::Codecs(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            _ => Kind::Internal,
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Playback(Arc<Inner>);

struct Inner {
    organisation: OrganisationId,
    fleet: Fleet,
    catalog: Arc<dyn Catalog>,
    keeper: Arc<dyn Keeper>,
    door: Door,
    clock: Arc<dyn Clock>,
    retention_days: u32,
    cache: Cache,
    runs: Mutex<HashMap<RunKey, RunFacts>>,
}

type RunKey = (CameraId, Stream, RunId);

/// What was learnt of a run: which time line a listing put it on, by that listing's zero, and its init.
#[derive(Default, Clone)]
struct RunFacts {
    lines: HashMap<i64, Timeline>,
    init: Option<Bytes>,
    some_index: Option<u64>,
}

/// Listings of one run that are being played at once.
const MAX_LINES: usize = 64;

impl Playback {
    pub fn new(
        organisation: OrganisationId,
        fleet: Fleet,
        catalog: Arc<dyn Catalog>,
        keeper: Arc<dyn Keeper>,
        door: Door,
        clock: Arc<dyn Clock>,
        retention_days: u32,
    ) -> Self {
        let (cache, runs) = Default::default();
        Self(Arc::new(Inner { organisation, fleet, catalog, keeper, door, clock, retention_days, cache, runs }))
    }

    /// Whole groups of both streams that have a part in `from`..`to` (half-open, present UTC), on one
    /// time line. Zero is the start of the earliest, so that no decode time is negative.
    pub async fn listing(
        &self,
        access: RequestId,
        camera: CameraId,
        from: WallTime,
        to: WallTime,
    ) -> Result<Listing, PlaybackError> {
        self.registered(access)?;
        if !(1..=LONGEST_US).contains(&(to - from)) {
            return Err(PlaybackError::Interval);
        }
        if kept_until(to, self.0.retention_days) <= self.0.clock.utc() {
            return Err(PlaybackError::Expired);
        }
        let one = |stream| self.headers(access, camera, stream, from, to);
        let (main, sub) = tokio::join!(one(Stream::Main), one(Stream::Sub));
        let (main, sub) = match (main, sub) {
            (Ok(main), Ok(sub)) => (main, sub),
            // A camera without a sub-stream, or with one broken, is played all the same.
            (Ok(main), Err(error)) if !main.is_empty() => {
                tracing::debug!(%camera, error = %campanile_proto::kind::Chain(&error), "sub-stream not listed");
                (main, Vec::new())
            }
            (Err(_), Ok(sub)) if !sub.is_empty() => (Vec::new(), sub),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let streams = [(Stream::Main, main), (Stream::Sub, sub)];
        let listed = streams.map(|(stream, fragments)| {
            let lines = groups::timelines(&fragments);
            let mut listed = groups::list(&groups::group(&fragments), &lines, from, to);
            let now = self.0.clock.utc();
            listed.retain(|(_, group)| kept_until(WallTime(group.start_us), self.0.retention_days) > now);
            (stream, lines, listed)
        });
        let starts = listed.iter().flat_map(|(_, _, listed)| listed.first()).map(|(_, group)| group.start_us);
        let zero_us = starts.min().ok_or(PlaybackError::NothingRecorded)?;
        let mut variants = Vec::new();
        for (stream, lines, listed) in listed {
            let Some(first) = listed.first().map(|(group, _)| *group) else { continue };
            for (group, _) in &listed {
                if let Some(line) = lines.get(&group.run) {
                    self.remember_line((camera, stream, group.run), zero_us, *line, group.first);
                }
            }
            let Described { codecs, width, height } =
                codecs::describe(&self.init(access, camera, stream, first.run).await?)
                    .map_err(PlaybackError::Codecs)?;
            let bandwidth_bps = groups::bandwidth_bps(&listed);
            let groups = listed.into_iter().map(|(_, listing)| listing).collect();
            variants.push(VariantListing { stream: stream.into(), codecs, width, height, bandwidth_bps, groups });
        }
        Ok(Listing { zero_us, variants, ..Listing::default() })
    }

    /// The access, as long as the register holds it open: nothing is opened, or shown again, without.
    fn registered(&self, access: RequestId) -> Result<Registered, PlaybackError> {
        self.0.door.registered(access).ok_or(PlaybackError::NotRegistered)
    }

    /// The init section (ftyp+moov) of a run.
    pub async fn init(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        run: RunId,
    ) -> Result<Bytes, PlaybackError> {
        playable(stream)?;
        self.registered(access)?;
        let key = (camera, stream, run);
        let facts = self.runs().get(&key).cloned().unwrap_or_default();
        if let Some(init) = facts.init {
            return Ok(init);
        }
        let index = match facts.some_index {
            Some(index) => index,
            None => self.index_of_run(camera, stream, run).await?,
        };
        let mut delivered = self.fetch(access, camera, stream, fragments(run, index, index), false)?;
        while let Some(piece) = delivered.next().await? {
            if let Piece::Init(init) = piece {
                return Ok(init);
            }
        }
        Err(PlaybackError::NothingRecorded)
    }

    /// One group: moof+mdat of its fragments, in order, on the time line that starts at `zero`.
    pub async fn group(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        run: RunId,
        (first, last): (u64, u64),
        zero: WallTime,
    ) -> Result<Bytes, PlaybackError> {
        playable(stream)?;
        self.registered(access)?;
        if last < first || last - first >= MAX_GROUP_FRAGMENTS {
            return Err(PlaybackError::Group);
        }
        let key = GroupKey { organisation: self.0.organisation, camera, stream, run, first, last };
        let now = self.0.clock.utc();
        let (opened, arrivals) = match self.0.cache.get(&key, now) {
            Some(opened) => (opened, Vec::new()),
            None => {
                let (opened, arrivals) = self.open_group(access, &key).await?;
                self.0.cache.put(key, opened.clone(), now);
                (opened, arrivals)
            }
        };
        let line = match self.line((camera, stream, run), zero.0) {
            Some(line) => line,
            // The listing was made before a restart: this group's own arrival is the best there is.
            None => self.line_of(access, &key, &arrivals).await?,
        };
        package(&opened.fragments, first, &line, zero)
    }

    /// Forgets opened footage that is past its term.
    pub fn expire(&self) {
        self.0.cache.expire(self.0.clock.utc());
    }

    async fn line_of(&self, access: RequestId, key: &GroupKey, arrivals: &[Point]) -> Result<Timeline, PlaybackError> {
        if let Some(line) = Timeline::fit(arrivals) {
            return Ok(line);
        }
        let GroupKey { camera, stream, run, first, last, .. } = *key;
        let mut delivered = self.fetch(access, camera, stream, fragments(run, first, last), true)?;
        let mut points = Vec::new();
        while let Some(piece) = delivered.next().await? {
            if let Piece::Header(fragment) = piece {
                points.push(Point { decode_90k: fragment.decode_90k, arrival: fragment.arrival });
            }
        }
        Timeline::fit(&points).ok_or(PlaybackError::NothingRecorded)
    }

    async fn open_group(
        &self,
        access: RequestId,
        key: &GroupKey,
    ) -> Result<(Arc<OpenedGroup>, Vec<Point>), PlaybackError> {
        let GroupKey { camera, stream, run, first, last, .. } = *key;
        let mut delivered = self.fetch(access, camera, stream, fragments(run, first, last), false)?;
        let (mut opened, mut points, mut size, mut until) = (Vec::new(), Vec::new(), 0, WallTime(i64::MAX));
        while let Some(piece) = delivered.next().await? {
            let Piece::Fragment(fragment, bytes) = piece else { continue };
            size += bytes.len();
            if fragment.run != run || fragment.index != first + opened.len() as u64 || size > MAX_GROUP_BYTES {
                return Err(PlaybackError::Malformed("fragments that were not asked for"));
            }
            until = until.min(kept_until(fragment.arrival, self.0.retention_days));
            points.push(Point { decode_90k: fragment.decode_90k, arrival: fragment.arrival });
            opened.push((fragment.decode_90k, bytes));
        }
        if opened.len() as u64 != last - first + 1 {
            return Err(PlaybackError::NothingRecorded);
        }
        if until <= self.0.clock.utc() {
            return Err(PlaybackError::Expired);
        }
        Ok((Arc::new(OpenedGroup { fragments: opened, until }), points))
    }

    /// Headers of every fragment of the groups that have a part in the interval.
    async fn headers(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<Fragment>, PlaybackError> {
        let span = What::Span(TimeSpan { from_us: from.0, to_us: to.0 });
        let mut delivered = self.fetch(access, camera, stream, span, true)?;
        let mut found = Vec::new();
        while let Some(piece) = delivered.next().await? {
            if let Piece::Header(fragment) = piece {
                found.push(fragment);
                if found.len() > MAX_FRAGMENTS {
                    return Err(PlaybackError::Malformed("more fragments than an interval holds"));
                }
            }
        }
        Ok(found)
    }

    fn fetch(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        what: What,
        headers_only: bool,
    ) -> Result<Opening, PlaybackError> {
        let (inner, purpose) = (&self.0, For::Access(self.registered(access)?));
        let unknown = PlaybackError::Fetch(FetchError::CameraUnknown(camera));
        let mut edges = vec![inner.catalog.owner(camera).ok_or(unknown)?];
        edges.extend(inner.catalog.former_owners(camera));
        let fetch = Fetch {
            stream: stream.into(),
            what: Some(what),
            class: FetchClass::Playback.into(),
            headers_only,
            ..Fetch::default()
        };
        let delivered = inner.fleet.fetch(camera, fetch).map_err(PlaybackError::Fetch)?;
        let playback = self.clone();
        let learnt = move |run, init: &Bytes| playback.remember_init((camera, stream, run), init);
        let asked = Asked { organisation: inner.organisation, camera, stream, edges };
        Ok(Opening::new(delivered, inner.keeper.clone(), purpose, asked, Box::new(learnt)))
    }

    async fn index_of_run(&self, camera: CameraId, stream: Stream, run: RunId) -> Result<u64, PlaybackError> {
        let now = self.0.clock.utc();
        let oldest = now.plus_micros(-(i64::from(self.0.retention_days) + 1) * 24 * MICROS_PER_HOUR);
        let newest = now.plus_micros(MICROS_PER_HOUR);
        let rows = self.0.catalog.segments(camera, stream, oldest, newest).await.map_err(PlaybackError::Catalog)?;
        let row = rows.into_iter().rev().find(|row| row.run == run && row.deleted_by.is_empty());
        let header = row.ok_or(PlaybackError::NothingRecorded)?.header;
        let header: campanile_proto::types::v1::SegmentHeader =
            prost::Message::decode(header).map_err(|_| PlaybackError::Malformed("segment header"))?;
        Ok(header.first_index)
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunKey, RunFacts>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts<R>(&self, key: RunKey, learn: impl FnOnce(&mut RunFacts) -> R) -> R {
        let mut runs = self.runs();
        if runs.len() >= MAX_RUNS && !runs.contains_key(&key) {
            runs.clear();
        }
        learn(runs.entry(key).or_default())
    }

    fn remember_line(&self, key: RunKey, zero_us: i64, line: Timeline, index: u64) {
        self.facts(key, |facts| {
            if facts.lines.len() >= MAX_LINES {
                facts.lines.clear();
            }
            facts.lines.insert(zero_us, line);
            facts.some_index = Some(index);
        });
    }

    fn remember_init(&self, key: RunKey, init: &Bytes) {
        self.facts(key, |facts| facts.init = Some(init.clone()));
    }

    fn line(&self, key: RunKey, zero_us: i64) -> Option<Timeline> {
        self.runs().get(&key)?.lines.get(&zero_us).copied()
    }
}

fn playable(stream: Stream) -> Result<(), PlaybackError> {
    if matches!(stream, Stream::Main | Stream::Sub) { Ok(()) } else { Err(PlaybackError::Stream) }
}

fn fragments(run: RunId, first: u64, last: u64) -> What {
    What::Fragments(FragmentRange { run_id: run.into(), first, last })
}

/// Rewritten for the playlist's zero. Within a group the camera's own spacing is kept to the tick; the
/// time line corrects between groups.
pub(crate) fn package(
    fragments: &[(u64, Bytes)],
    first: u64,
    line: &Timeline,
    zero: WallTime,
) -> Result<Bytes, PlaybackError> {
    let Some((start, _)) = fragments.first() else { return Err(PlaybackError::NothingRecorded) };
    let since_zero = (line.at(*start) - zero).max(0) as u64;
    let base = (u128::from(since_zero) * 9 + 50) / 100;
    let base = u64::try_from(base).map_err(|_| PlaybackError::Group)?;
    let mut out = Vec::with_capacity(fragments.iter().map(|(_, bytes)| bytes.len() + 8).sum());
    for (n, (decode_90k, bytes)) in fragments.iter().enumerate() {
        let sequence = (first + n as u64 + 1) as u32;
        let at = base + decode_90k.saturating_sub(*start);
        out.extend_from_slice(&rendition::rewrite(bytes, at, sequence).map_err(PlaybackError::Rendition)?);
    }
    Ok(out.into())
}
