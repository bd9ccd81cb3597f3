//! The open segment of one stream.

use super::fmp4::{self, BoxError};
use super::orders::{IndexOrder, MediaOrder, RecordError, Setting};
use super::rotate::{Next, Open, begins_segment, is_over};
use super::sealing::Sealing;
use super::segment::{SegmentError, SegmentWriter, Signed};
use super::store::{Newest, sync_folder};
use crate::facts::Fact;
use crate::media::StreamFormat;
use bytes::Bytes;
use campanile_proto::ids::{RunId, SegmentId};
use campanile_proto::kind::Kind;
use campanile_proto::segment::{FORMAT, Link, suite_for_this_machine};
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Codec, Instant, RecordHeader, RecordKind, SegmentHeader, Stream, Suite};

/// What arrived so long ago is brought to disk, and with it whatever was written since: a fragment lasts a second, so
/// that one flush serves about one fragment.
const FLUSH_AFTER_US: i64 = MICROS_PER_SECOND;
/// Short fragments share a flush, and a disk that has fallen behind catches up.
const FLUSH_APART_US: i64 = MICROS_PER_SECOND / 2;
/// Growth is told at most this often.
const TELL_EVERY_US: i64 = MICROS_PER_SECOND;
/// After a write failed, the next try.
const RETRY_AFTER_US: i64 = 2 * MICROS_PER_SECOND;

/// One stream of one camera.
pub(super) struct Lane {
    stream: Stream,
    open: Option<OpenSegment>,
    newest: Option<Newest>,
    retry_at_us: i64,
    /// What was written and may be lost, to be told.
    doubtful: Option<Doubtful>,
    /// The run of the index stream, and its next index.
    own_run: RunId,
    next_index: u64,
}

/// Footage that was written and of which nobody knows whether the disk has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Doubtful {
    pub start: Instant,
    pub end: Instant,
    pub full: bool,
}

struct OpenSegment {
    writer: SegmentWriter,
    id: SegmentId,
    rule: Open,
    start: Instant,
    end: Instant,
    /// What the disk has for certain.
    synced: Reached,
    /// When the oldest of what is not brought to disk yet arrived; none: all of it is.
    unsynced_since_us: Option<i64>,
    synced_us: i64,
    told_us: i64,
}

/// How far a segment reaches.
#[derive(Clone)]
struct Reached {
    end: Instant,
    fragments: u64,
    size_bytes: u64,
    link: Link,
}

impl Lane {
    /// Reads where the last run ended.
    pub(super) fn new(stream: Stream, setting: &Setting) -> Self {
        let newest = setting.store.newest(setting.camera, stream);
        Self {
            stream,
            open: None,
            newest,
            retry_at_us: i64::MIN,
            doubtful: None,
            own_run: RunId::random(),
            next_index: 0,
        }
    }

    /// When the newest footage on disk ends.
    pub(super) fn covered(&self) -> Option<&Instant> {
        self.newest.as_ref().and_then(|newest| newest.end.as_ref())
    }

    /// Told once.
    pub(super) fn take_doubtful(&mut self) -> Option<Doubtful> {
        self.doubtful.take()
    }

    pub(super) fn media(&mut self, setting: &Setting, order: &MediaOrder) -> Result<(), RecordError> {
        let fragment = &order.fragment;
        let plain = fmp4::media_section(u32::try_from(order.index + 1).unwrap_or(u32::MAX), fragment)?;
        let init = || fmp4::init_section(&order.format);
        let arrival = &fragment.arrival;
        self.prepare(setting, order.run, arrival, fragment.starts_with_key(), order.index, Some(&order.format), init)?;
        let header = RecordHeader {
            kind: RecordKind::Fragment.into(),
            index: order.index,
            arrival: Some(arrival.clone()),
            starts_with_key: fragment.starts_with_key(),
            decode_time_90k: fragment.decode_time_90k,
            duration_90k: fragment.duration_90k,
            sample_count: fragment.samples.len() as u32,
            rtp_time: fragment.rtp_time,
            camera_ntp_us: fragment.camera_ntp_us,
            ..Default::default()
        };
        let duration_us = (fragment.duration_90k * 100 / 9) as i64;
        self.write(setting, header, &plain, later(arrival, duration_us)).map(|_| ())
    }

    pub(super) fn index(&mut self, setting: &Setting, order: &IndexOrder) -> Result<(), RecordError> {
        let (run, index) = (self.own_run, self.next_index);
        self.prepare(setting, run, &order.arrival, true, index, None, || Ok(Vec::new()))?;
        self.next_index += 1;
        let header = RecordHeader {
            kind: RecordKind::Index.into(),
            index,
            arrival: Some(order.arrival.clone()),
            object_id: order.object.into(),
            revision: order.revision,
            ..Default::default()
        };
        let (segment, path, offset) = self.write(setting, header, &order.record, order.arrival.clone())?;
        let (object, revision) = (order.object, order.revision);
        setting.facts.tell(Fact::IndexRecord { segment, path, offset, object, revision });
        Ok(())
    }

    /// Sees to it that the right segment is open.
    #[expect(clippy::too_many_arguments, reason = "each is one fact about the record to come")]
    fn prepare(
        &mut self,
        setting: &Setting,
        run: RunId,
        arrival: &Instant,
        starts_with_key: bool,
        index: u64,
        format: Option<&StreamFormat>,
        init: impl FnOnce() -> Result<Vec<u8>, BoxError>,
    ) -> Result<(), RecordError> {
        let hour = WallTime(arrival.utc_us).hour();
        let keys = setting.keys.borrow().clone();
        let Some(sealing) = Sealing::choose(setting, keys.as_deref(), hour) else {
            self.close(setting);
            return Err(RecordError::NoSealingKeys);
        };
        let next = Next { run, hour, mono_us: arrival.mono_us, sealed_to: sealing.rule, starts_with_key };
        if self.open.as_ref().is_some_and(|open| begins_segment(&open.rule, &next)) {
            self.close(setting);
        }
        if self.open.is_some() {
            return Ok(());
        }
        if setting.stamper.clock.mono().0 < self.retry_at_us {
            return Err(RecordError::Resting);
        }
        let init = init()?;
        let opened = self.open_segment(setting, &sealing, &next, arrival, index, format, &init);
        if let Err(error) = &opened {
            self.failed(setting, error);
        }
        Ok(opened?)
    }

    #[expect(clippy::too_many_arguments, reason = "each is one field of the header")]
    fn open_segment(
        &mut self,
        setting: &Setting,
        sealing: &Sealing,
        next: &Next,
        arrival: &Instant,
        first_index: u64,
        format: Option<&StreamFormat>,
        init: &[u8],
    ) -> Result<(), SegmentError> {
        let id = SegmentId::random();
        if self.newest.is_none() {
            // Its disk was away when this run began.
            self.newest = setting.store.newest(setting.camera, self.stream);
        }
        let path = setting.store.place(setting.camera, self.stream, next.hour, id)?;
        let codec = format.map_or(Codec::Index, |format| format.codec.into());
        let header = SegmentHeader {
            format: FORMAT,
            segment_id: id.into(),
            organisation_id: sealing.identity.organisation.into(),
            edge_id: sealing.identity.edge.into(),
            camera_id: setting.camera.into(),
            stream: self.stream.into(),
            codec: codec.into(),
            run_id: next.run.into(),
            first_index,
            opened: Some(arrival.clone()),
            suite: if sealing.to.is_some() { suite_for_this_machine() } else { Suite::Clear }.into(),
            key_kind: sealing.kind.into(),
            hour: next.hour.max(0) as u64,
            key_generation: sealing.rule.generation,
            retention_days: sealing.rule.retention_days,
            previous_segment_id: self.newest.as_ref().map(|n| n.segment.into()).unwrap_or_default(),
            previous_link: self.newest.as_ref().map(|n| Bytes::copy_from_slice(&n.link)).unwrap_or_default(),
        };
        let begun = || {
            let mut writer = SegmentWriter::create(setting.disk.as_ref(), &path, header, sealing.to.as_ref())?;
            if !init.is_empty() {
                writer.init(arrival.clone(), init)?;
            }
            writer.sync()?;
            sync_folder(&path)?;
            Ok(writer)
        };
        let writer = begun().inspect_err(|_| {
            // It holds no picture, and a full disk would fill with such files.
            let _ = std::fs::remove_file(&path);
        })?;
        let now = setting.stamper.clock.mono().0;
        let synced =
            Reached { end: arrival.clone(), fragments: 0, size_bytes: writer.size_bytes(), link: writer.link() };
        self.newest = Some(Newest { segment: id, link: writer.link(), end: None });
        setting.facts.tell(Fact::SegmentOpened {
            segment: id,
            camera: setting.camera,
            stream: self.stream,
            path,
            header: writer.header_bytes().clone(),
            wrapped_key: writer.wrapped_key().clone(),
        });
        self.open = Some(OpenSegment {
            writer,
            id,
            rule: Open { run: next.run, hour: next.hour, opened_mono_us: arrival.mono_us, sealed_to: sealing.rule },
            start: arrival.clone(),
            end: arrival.clone(),
            synced,
            unsynced_since_us: None,
            // Its first fragment is not held back for the flush that made it.
            synced_us: now - FLUSH_APART_US,
            told_us: i64::MIN,
        });
        Ok(())
    }

    fn write(
        &mut self,
        setting: &Setting,
        header: RecordHeader,
        plain: &[u8],
        end: Instant,
    ) -> Result<(SegmentId, std::path::PathBuf, u64), RecordError> {
        let open = self.open.as_mut().ok_or(RecordError::Resting)?;
        let arrived_us = header.arrival.as_ref().map_or(i64::MIN, |arrival| arrival.mono_us);
        match open.writer.append(header, plain) {
            Ok(appended) => {
                open.end = end;
                open.unsynced_since_us.get_or_insert(arrived_us);
                self.newest = Some(Newest { segment: open.id, link: open.writer.link(), end: None });
                let told = (open.id, open.writer.path().to_path_buf(), appended.offset);
                Ok(told)
            }
            Err(error) => {
                self.failed(setting, &error);
                Err(error.into())
            }
        }
    }

    /// Nothing more is written to the open segment; a new one is tried after a rest.
    fn failed(&mut self, setting: &Setting, error: &SegmentError) {
        tracing::error!(
            camera = %setting.camera, stream = super::store::stream_name(self.stream),
            error = %campanile_proto::kind::Chain(error), "recording failed"
        );
        if error.kind() == Kind::Exhausted {
            setting.full.notify_one();
        }
        if let Some(open) = self.open.take() {
            self.doubtful = open.give_up(setting, error);
        }
        self.retry_at_us = setting.stamper.clock.mono().0 + RETRY_AFTER_US;
    }

    /// Brings to disk and tells what is due, and closes a segment whose time is over.
    pub(super) fn tick(&mut self, setting: &Setting) -> Result<(), RecordError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let now = setting.stamper.clock.mono().0;
        if is_flush_due(open.unsynced_since_us, open.synced_us, now) {
            open.synced_us = now;
            if let Err(error) = open.sync() {
                self.failed(setting, &error);
                return Err(error.into());
            }
        }
        if now.saturating_sub(open.told_us) >= TELL_EVERY_US && open.writer.count() > 0 {
            open.told_us = now;
            setting.facts.tell(open.grew(open.written(), false, None));
        }
        if is_over(&open.rule, setting.stamper.clock.utc(), now) {
            self.close(setting);
        }
        Ok(())
    }

    /// Closes the segment in order; one whose footer does not reach the disk is over all the same.
    pub(super) fn close(&mut self, setting: &Setting) {
        let Some(mut open) = self.open.take() else { return };
        match open.writer.close(open.end.clone(), setting.signer.as_ref()) {
            Ok(closed) => {
                self.newest = Some(Newest { segment: open.id, link: closed.link, end: None });
                let whole = Reached { size_bytes: closed.size_bytes, link: closed.link, ..open.written() };
                setting.facts.tell(open.grew(whole, true, Some(closed.signed)));
            }
            Err(error) => {
                self.open = Some(open);
                self.failed(setting, &error);
            }
        }
    }
}

impl OpenSegment {
    fn written(&self) -> Reached {
        let writer = &self.writer;
        let (fragments, size_bytes, link) = (writer.count(), writer.size_bytes(), writer.link());
        Reached { end: self.end.clone(), fragments, size_bytes, link }
    }

    /// Brings to disk what was written.
    fn sync(&mut self) -> Result<(), SegmentError> {
        self.writer.sync()?;
        (self.synced, self.unsynced_since_us) = (self.written(), None);
        Ok(())
    }

    /// The end after a failure. What was written before a failed write may reach the disk yet; of a flush that failed
    /// nobody knows what it left out, and no second one would tell.
    fn give_up(mut self, setting: &Setting, error: &SegmentError) -> Option<Doubtful> {
        let flushed = if matches!(error, SegmentError::Sync { .. }) { None } else { self.sync().err() };
        let error = flushed.as_ref().unwrap_or(error);
        setting.facts.tell(self.grew(self.synced.clone(), true, None));
        if let Some(cause) = error.doubt() {
            setting.facts.tell(Fact::SegmentSuspect { segment: self.id, cause });
        }
        let (start, end) = (self.synced.end, self.end);
        (start != end).then(|| Doubtful { start, end, full: error.kind() == Kind::Exhausted })
    }

    fn grew(&self, reached: Reached, closed: bool, signed: Option<Signed>) -> Fact {
        Fact::SegmentGrew {
            segment: self.id,
            start: self.start.clone(),
            end: reached.end,
            fragment_count: reached.fragments,
            size_bytes: reached.size_bytes,
            newest_link: reached.link,
            closed,
            signed,
        }
    }
}

fn is_flush_due(unsynced_since_us: Option<i64>, synced_us: i64, now_us: i64) -> bool {
    unsynced_since_us.is_some_and(|since| now_us.saturating_sub(since) >= FLUSH_AFTER_US)
        && now_us - synced_us >= FLUSH_APART_US
}

fn later(instant: &Instant, by_us: i64) -> Instant {
    let mut later = instant.clone();
    later.mono_us += by_us;
    later.utc_us += by_us;
    later
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often the thread looks though nothing is ordered.
    const LOOK_US: i64 = 250_000;

    proptest! {
        #[test]
        fn nothing_that_was_written_waits_long_for_the_disk_and_flushes_stay_apart(
            lengths in proptest::collection::vec(20_000i64..1_000_000, 1..60),
        ) {
            // Written as soon as it is whole; the camera stalls at the end.
            let mut written = Vec::new();
            let mut at = 0;
            for length in lengths {
                written.push((at, at + length));
                at += length;
            }
            let (mut since, mut synced, mut next) = (None, 0, 0);
            let mut now = 0;
            while next < written.len() || since.is_some() {
                let looks_at = now + LOOK_US;
                now = written.get(next).map_or(looks_at, |&(_, whole)| looks_at.min(whole));
                if written.get(next).is_some_and(|&(_, whole)| whole == now) {
                    since.get_or_insert(written[next].0);
                    next += 1;
                }
                if is_flush_due(since, synced, now) {
                    prop_assert!(now - synced >= FLUSH_APART_US);
                    (since, synced) = (None, now);
                }
                prop_assert!(since.is_none_or(|since| now - since < 1_750_000), "{since:?} at {now}");
            }
        }
    }
}
