//! Events, motion and thumbnails: opened from sealed records, kept in a folder a UTC day of capture.

use super::ingest::{Outcome, Sealed};
use super::opening::{AHEAD_US, Opened, Opener};
use super::owner::Owner;
use super::partition::Partition;
use super::{Anchors, CatalogError, EventRow, MotionRow};
use crate::media::Keeper;
use bytes::Bytes;
use campanile_proto::edge::v1::SealedRecord;
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, EdgeId, EventId, OrganisationId};
use campanile_proto::time::{Clock, MICROS_PER_HOUR, WallTime};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events a slow follower may lag behind before it has to read the store again.
const FOLLOW: usize = 4096;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Cheap to share; its databases live on one thread.
pub struct Derived {
    days: Owner<Days>,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<EventRow>,
}

/// Open partitions by day since 1970.
pub(super) struct Days {
    folder: PathBuf,
    organisation: OrganisationId,
    open: BTreeMap<i64, Partition>,
    opener: Opener,
}

/// A sealed report: index in its batch, object id, revision, record.
pub(super) type Arrived = (usize, Bytes, u64, SealedRecord);

impl Derived {
    pub(super) fn open(
        folder: &Path,
        organisation: OrganisationId,
        keeper: Arc<dyn Keeper>,
        clock: Arc<dyn Clock>,
        retention_days: u32,
        anchors: Arc<Anchors>,
    ) -> Result<Self, CatalogError> {
        std::fs::create_dir_all(folder).map_err(|source| CatalogError::Folder { path: folder.to_owned(), source })?;
        let opener = Opener::new(organisation, keeper, anchors, retention_days);
        let mut days = Days { folder: folder.to_owned(), organisation, open: BTreeMap::new(), opener };
        for day in days.on_disk()? {
            days.day(day)?.shorten(retention_days)?;
        }
        let days = Owner::spawn("derived", days).map_err(|_| CatalogError::Gone)?;
        Ok(Self { days, clock, events: broadcast::channel(FOLLOW).0 })
    }

    /// Whether a folder holds a day of anything.
    pub(super) fn has_days(folder: &Path) -> bool {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_str().and_then(day_of_name).is_some())
    }

    async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Days) -> Result<R, CatalogError> + Send + 'static,
    ) -> Result<R, CatalogError> {
        self.days.call(job).await.ok_or(CatalogError::Gone)?
    }

    /// Opens and keeps sealed records that `edge` reported; durable when it answers.
    pub(super) async fn keep(
        &self,
        edge: EdgeId,
        arrived: Vec<Arrived>,
        belongs: impl Fn(CameraId, EdgeId) -> bool + Send + 'static,
    ) -> Result<Vec<Sealed>, CatalogError> {
        let now = self.clock.utc();
        let (sealed, touched) = self.call(move |days| days.keep(edge, arrived, belongs, now)).await?;
        for event in touched {
            // Nobody following is no failure.
            let _ = self.events.send(event);
        }
        Ok(sealed)
    }

    pub async fn event(&self, id: EventId) -> Result<Option<EventRow>, CatalogError> {
        let now = self.clock.utc();
        self.call(move |days| Ok(days.event(id)?.filter(|event| event.kept_until > now).map(|event| event.at(now))))
            .await
    }

    /// The event's JPEG.
    pub async fn thumbnail(&self, event: EventId) -> Result<Option<Bytes>, CatalogError> {
        let now = self.clock.utc();
        self.call(move |days| {
            for partition in days.open.values().rev() {
                if let Some(jpeg) = partition.thumbnail(event, now)? {
                    return Ok(Some(Bytes::from(jpeg)));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Events that overlap `from`..`to`, newest first; of all cameras when none is named.
    pub async fn events_between(
        &self,
        from: WallTime,
        to: WallTime,
        cameras: &[CameraId],
    ) -> Result<Vec<EventRow>, CatalogError> {
        let (now, cameras) = (self.clock.utc(), cameras.to_vec());
        self.call(move |days| {
            let mut events = Vec::new();
            // An event that began the day before may still be going on.
            for partition in days.between(from.plus_micros(-MICROS_PER_DAY), to).rev() {
                events.extend(partition.events(from, to, now)?);
            }
            events.retain(|event| cameras.is_empty() || cameras.contains(&event.camera));
            // A thumbnail lies in its own day, which is another one only around midnight.
            for event in events.iter_mut().filter(|e| !e.has_thumbnail && day_of(e.start) != day_of(e.end)) {
                event.has_thumbnail = days.has_thumbnail(event.id, now)?;
            }
            Ok(events.into_iter().map(|event| event.at(now)).collect())
        })
        .await
    }

    /// Every second reported of one camera in `from`..`to`.
    pub async fn motion(&self, camera: CameraId, from: WallTime, to: WallTime) -> Result<Vec<MotionRow>, CatalogError> {
        let now = self.clock.utc();
        self.call(move |days| {
            let mut rows = Vec::new();
            for partition in days.between(from, to) {
                rows.extend(partition.motion(camera, (from, to), now, None)?);
            }
            Ok(rows)
        })
        .await
    }

    /// Seconds in which a cell of `region` moved, each camera's in order.
    pub async fn moved(
        &self,
        cameras: &[CameraId],
        from: WallTime,
        to: WallTime,
        region: CellSet,
    ) -> Result<Vec<(CameraId, WallTime)>, CatalogError> {
        let (now, cameras) = (self.clock.utc(), cameras.to_vec());
        self.call(move |days| {
            let mut seconds = Vec::new();
            for camera in cameras {
                for partition in days.between(from, to) {
                    let rows = partition.motion(camera, (from, to), now, Some(&region))?;
                    seconds.extend(rows.into_iter().map(|row| (camera, row.second)));
                }
            }
            Ok(seconds)
        })
        .await
    }

    /// Every event as it is kept or changes; a follower that lags reads `events_between` again.
    pub fn subscribe(&self) -> broadcast::Receiver<EventRow> {
        self.events.subscribe()
    }

    /// Deletes what is past its term, and whole days once nothing of them can be within it. Answers how
    /// many rows and days went.
    pub async fn expire(&self, retention_days: u32) -> Result<(u64, u64), CatalogError> {
        let now = self.clock.utc();
        self.call(move |days| days.expire(now, retention_days)).await
    }
}

impl Days {
    fn on_disk(&self) -> Result<Vec<i64>, CatalogError> {
        let folder = |source| CatalogError::Folder { path: self.folder.clone(), source };
        let mut days = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(folder)? {
            let name = entry.map_err(folder)?.file_name();
            days.extend(name.to_str().and_then(day_of_name));
        }
        Ok(days)
    }

    fn day(&mut self, day: i64) -> Result<&Partition, CatalogError> {
        if !self.open.contains_key(&day) {
            let partition = Partition::open(&self.folder.join(name_of_day(day)), self.organisation)?;
            self.open.insert(day, partition);
        }
        self.open.get(&day).ok_or(CatalogError::Gone)
    }

    fn between(&self, from: WallTime, to: WallTime) -> impl DoubleEndedIterator<Item = &Partition> {
        let (first, last) = (day_of(from), day_of(to));
        self.open.range(first..=last.max(first)).map(|(_, partition)| partition)
    }

    fn event(&self, id: EventId) -> Result<Option<EventRow>, CatalogError> {
        for partition in self.open.values().rev() {
            if let Some(mut event) = partition.event(id)? {
                event.has_thumbnail = event.has_thumbnail || self.has_thumbnail(id, WallTime(i64::MIN))?;
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn has_thumbnail(&self, event: EventId, now: WallTime) -> Result<bool, CatalogError> {
        for partition in self.open.values().rev() {
            if partition.has_thumbnail(event, now)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One transaction a day that is touched.
    fn keep(
        &mut self,
        edge: EdgeId,
        arrived: Vec<Arrived>,
        belongs: impl Fn(CameraId, EdgeId) -> bool,
        now: WallTime,
    ) -> Result<(Vec<Sealed>, Vec<EventRow>), CatalogError> {
        let (mut sealed, mut by_day) = (Vec::new(), BTreeMap::<i64, Vec<Opened>>::new());
        for (at, object, revision, record) in arrived {
            let opened = self.opener.open(edge, &object, revision, &record, now, &belongs);
            let (outcome, camera) = match opened {
                Ok(parts) => {
                    let camera = parts.first().map(Opened::camera);
                    parts.into_iter().for_each(|part| by_day.entry(day_of(part.at())).or_default().push(part));
                    (Outcome::Kept, camera)
                }
                Err(outcome) => (outcome, None),
            };
            sealed.push(Sealed { at, camera, outcome });
        }
        let mut touched = Vec::new();
        for (day, parts) in by_day {
            self.day(day)?.begin()?;
            if let Err(error) = self.write(day, &parts, &mut touched) {
                self.day(day)?.roll_back();
                return Err(error);
            }
            self.day(day)?.commit()?;
        }
        let mut rows = Vec::new();
        touched.dedup();
        for event in touched {
            rows.extend(self.event(event)?);
        }
        Ok((sealed, rows))
    }

    fn write(&self, day: i64, parts: &[Opened], touched: &mut Vec<EventId>) -> Result<(), CatalogError> {
        let Some(partition) = self.open.get(&day) else { return Err(CatalogError::Gone) };
        for part in parts {
            match part {
                Opened::Event(event) => {
                    if self.newest_elsewhere(day, event.event, event.revision)? {
                        continue;
                    }
                    partition.put_event(event)?;
                    touched.push(event.event);
                }
                Opened::Thumbnail { event, camera, revision, at, until, jpeg } => {
                    partition.put_thumbnail(*event, *camera, *revision, (*at, *until), jpeg)?;
                    touched.push(*event);
                }
                Opened::Motion { camera, object, revision, start, until, seconds } => {
                    partition.put_motion(*camera, *object, *revision, *start, *until, seconds)?;
                }
            }
        }
        Ok(())
    }

    /// Whether some day holds this revision of the event or a higher one; a lower one in another day (the
    /// start moved with a better anchor) is taken out there.
    fn newest_elsewhere(&self, day: i64, event: EventId, revision: u64) -> Result<bool, CatalogError> {
        for (other, partition) in self.open.iter().rev() {
            match partition.revision(event)? {
                Some(held) if held >= revision => return Ok(true),
                Some(_) if *other != day => partition.remove_event(event)?,
                _ => {}
            }
        }
        Ok(false)
    }

    fn expire(&mut self, now: WallTime, retention_days: u32) -> Result<(u64, u64), CatalogError> {
        self.opener.forget();
        let whole = i64::from(retention_days) + 1;
        // Days to come were kept while the clock was in doubt, and would be kept for longer than their term.
        let over = |day: i64| (day + whole) * MICROS_PER_DAY <= now.0 || day > day_of(now.plus_micros(AHEAD_US));
        let over: Vec<i64> = self.open.keys().copied().filter(|day| over(*day)).collect();
        let mut days = 0;
        for day in over {
            self.open.remove(&day);
            let path = self.folder.join(name_of_day(day));
            std::fs::remove_dir_all(&path).map_err(|source| CatalogError::Folder { path, source })?;
            days += 1;
        }
        let mut rows = 0;
        for partition in self.open.values() {
            rows += partition.expire(now)?;
        }
        Ok((rows, days))
    }
}

fn day_of(time: WallTime) -> i64 {
    time.0.div_euclid(MICROS_PER_DAY)
}

/// `2026-11-23`, in UTC.
fn name_of_day(day: i64) -> String {
    match jiff::Timestamp::from_second(day.saturating_mul(86_400)) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => format!("day{day}"),
    }
}

fn day_of_name(name: &str) -> Option<i64> {
    let date: jiff::civil::Date = name.parse().ok()?;
    let start = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(start.timestamp().as_second().div_euclid(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_name_and_back() {
        for day in [0, 20_780, 20_781] {
            assert_eq!(day_of_name(&name_of_day(day)), Some(day));
        }
        assert_eq!(name_of_day(20_780), "2026-11-23");
        assert_eq!(day_of_name("lost+found"), None);
    }
}
