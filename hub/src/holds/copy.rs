//! Copying ciphertext from boxes: which fragments are covered, then their records, verbatim. Whatever breaks off goes
//! on where it was.

use super::arrivals::{self, Asked, Payloads, Seen};
use super::store::{HeldFragment, HeldSegment};
use super::take::{AHEAD, LEAD_US, STREAMS};
use super::{CopyError, Hold, Holds, HoldsError, blocking, cover};
use crate::catalog::SegmentRow;
use crate::fleet::FetchStream;
use crate::media::KeeperError;
use bytes::Bytes;
use campanile_proto::edge::v1::{Fetch, FetchClass, FragmentRange, TimeSpan, fetch::What};
use campanile_proto::ids::{CameraId, SegmentId};
use campanile_proto::segment::Record;
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::Stream;
use std::collections::{BTreeSet, HashMap};

/// Beyond what is covered, so that the record before the first one is seen: the chain goes on from it.
const BEFORE_US: i64 = 10 * MICROS_PER_SECOND;
/// Fragments of one fetch; a cut link repeats no more than what is not on the disk yet.
const MOST_AT_ONCE: usize = 120;
/// Written to the disk together.
const BATCH_BYTES: usize = 8 << 20;
/// Headers asked for at once: 40,000 of two streams with a fragment a second.
const STRETCH_US: i64 = 6 * MICROS_PER_HOUR;
/// A segment that is reported beyond the interval by this has all of it on the box's disk.
const SETTLED_US: i64 = 2 * MICROS_PER_SECOND;

impl Holds {
    /// One look at one camera: takes in, asks, copies. Whether something was copied.
    pub(super) async fn copy_camera(&self, hold: &Hold, camera: CameraId) -> Result<bool, CopyError> {
        let rows = self.take_in_camera(hold, camera).await?;
        self.narrow_rest(hold, camera, |held| !held.lost.is_empty()).await?;
        let mut copied = false;
        let segments = self.0.store.segments(hold.id, camera).await?;
        for stream in STREAMS {
            let open = |held: &&HeldSegment| held.stream == stream && held.lost.is_empty();
            let unseen: Vec<&HeldSegment> = segments.iter().filter(open).filter(|held| !held.narrowed).collect();
            if !unseen.is_empty() {
                self.look(hold, (camera, stream), &unseen, &rows).await?;
            }
            let mut missing: HashMap<SegmentId, Vec<HeldFragment>> = HashMap::new();
            for held in self.0.store.fragments(hold.id, camera, stream).await? {
                if held.at.is_none() {
                    missing.entry(held.segment).or_default().push(held);
                }
            }
            for segment in segments.iter().filter(open) {
                if let Some(missing) = missing.remove(&segment.id) {
                    copied |= self.copy_segment(hold, segment.clone(), &missing).await?;
                }
            }
        }
        Ok(copied)
    }

    /// Of segments that no box will show any more, the keys of what was seen of them stay, and no others.
    pub(super) async fn narrow_rest(
        &self,
        hold: &Hold,
        camera: CameraId,
        is_over: impl Fn(&HeldSegment) -> bool,
    ) -> Result<(), HoldsError> {
        for held in self.0.store.segments(hold.id, camera).await? {
            if held.narrowed || held.keys.is_empty() || !is_over(&held) {
                continue;
            }
            let seen = self.0.store.fragments(hold.id, camera, held.stream).await?;
            let seen = seen.iter().filter(|fragment| fragment.segment == held.id).map(|fragment| fragment.sealing);
            let sealings: BTreeSet<u32> = seen.chain([0]).collect();
            let (keeper, id, header, segment) = (self.0.parts.keeper.clone(), hold.id, held.decoded()?, held.clone());
            let keys =
                blocking(move || keeper.narrow_hold(id, (&header, segment.header.as_ref()), &segment.keys, &sealings));
            let keys = keys.await?.map_err(HoldsError::Keeper)?.unwrap_or_default();
            self.0.store.put_segment(hold.id, HeldSegment { keys: keys.into(), narrowed: true, ..held }).await?;
        }
        Ok(())
    }

    fn asked(&self, camera: CameraId, stream: Stream) -> Asked {
        let catalog = &self.0.parts.catalog;
        let edges = catalog.owner(camera).into_iter().chain(catalog.former_owners(camera)).collect();
        Asked { organisation: self.0.parts.organisation, camera, stream, edges }
    }

    fn fetch(
        &self,
        (camera, stream): (CameraId, Stream),
        what: What,
        headers_only: bool,
    ) -> Result<FetchStream, CopyError> {
        let class = FetchClass::Hold.into();
        let fetch = Fetch { stream: stream.into(), what: Some(what), class, headers_only, ..Fetch::default() };
        self.0.parts.fleet.fetch(camera, fetch).map_err(CopyError::Fetch)
    }

    /// Asks for headers, a stretch at a time: which fragments of these segments are covered.
    async fn look(
        &self,
        hold: &Hold,
        of: (CameraId, Stream),
        unseen: &[&HeldSegment],
        rows: &[SegmentRow],
    ) -> Result<(), CopyError> {
        let end = hold.terms.to.min(self.now());
        let mut next = unseen.iter();
        let mut at = next.next();
        while let Some(first) = at {
            let from = first.start.max(hold.terms.from.plus_micros(-LEAD_US)).plus_micros(-BEFORE_US);
            let to = end.min(from.plus_micros(STRETCH_US));
            if from >= to {
                return Ok(());
            }
            self.look_at(hold, of, (from, to), unseen, rows).await?;
            at = next.find(|held| held.end.plus_micros(SETTLED_US) > to);
            // Nothing lies behind the whole interval.
            at = at.filter(|_| to < end);
        }
        Ok(())
    }

    async fn look_at(
        &self,
        hold: &Hold,
        (camera, stream): (CameraId, Stream),
        (from, to): (WallTime, WallTime),
        unseen: &[&HeldSegment],
        rows: &[SegmentRow],
    ) -> Result<(), CopyError> {
        let last = to >= hold.terms.to;
        // What was reported before the box is asked is on its disk; what ends within the stretch was shown whole.
        let is_settled = |row: &&SegmentRow| match last {
            true => row.closed || row.end >= hold.terms.to.plus_micros(SETTLED_US),
            false => row.closed && row.end.plus_micros(SETTLED_US) <= to,
        };
        let settled: BTreeSet<SegmentId> = rows.iter().filter(is_settled).map(|row| row.id).collect();
        let span = What::Span(TimeSpan { from_us: from.0, to_us: to.0 });
        let mut delivered = self.fetch((camera, stream), span, true)?;
        let Seen { segments, fragments, broke } = arrivals::headers(&self.asked(camera, stream), &mut delivered).await;
        let flat: Vec<_> = fragments.iter().map(|held| held.fragment).collect();
        let covered = cover::covered(&flat, hold.terms.from, hold.terms.to);
        let mut by_segment: HashMap<SegmentId, Vec<HeldFragment>> = HashMap::new();
        for (held, _) in fragments.into_iter().zip(covered).filter(|(_, covered)| *covered) {
            by_segment.entry(held.segment).or_default().push(held);
        }
        for held in unseen.iter().filter(|held| held.start < to && held.end.plus_micros(SETTLED_US) > from) {
            let shown = segments.iter().find(|segment| segment.header == held.header);
            let covered = by_segment.remove(&held.id).unwrap_or_default();
            let outside = held.end <= hold.terms.from || held.start >= hold.terms.to;
            // A box that does not show what it reported may yet.
            let whole = settled.contains(&held.id) && broke.is_none() && (shown.is_some() || outside);
            self.narrow(hold, held, covered, shown.map(|segment| &segment.wrapped_key), whole).await?;
        }
        broke.map_or(Ok(()), Err)
    }

    /// Keeps which fragments are covered; once all of the segment was seen, their keys and no others.
    async fn narrow(
        &self,
        hold: &Hold,
        held: &HeldSegment,
        covered: Vec<HeldFragment>,
        wrapped: Option<&Bytes>,
        whole: bool,
    ) -> Result<(), CopyError> {
        if whole && covered.is_empty() {
            let none = HeldSegment { keys: Bytes::new(), narrowed: true, ..held.clone() };
            return Ok(self.0.store.put_segment(hold.id, none).await?);
        }
        let sealings: BTreeSet<u32> = covered.iter().map(|fragment| fragment.sealing).chain([0]).collect();
        let end = sealings.last().map_or(0, |last| last.saturating_add(1));
        // Before the fragments, so that none is copied whose key is not kept.
        if whole || end > held.keyed {
            let (keeper, id, segment) = (self.0.parts.keeper.clone(), hold.id, held.clone());
            let (header, wrapped) = (held.decoded().map_err(HoldsError::from)?, wrapped.cloned().unwrap_or_default());
            let keys = blocking(move || {
                let of = (&header, segment.header.as_ref());
                let wrap = |sealings: Vec<u32>| keeper.wrap_for_hold(id, of, &wrapped, sealings);
                if !whole {
                    return wrap((0..end.saturating_add(AHEAD)).collect());
                }
                let narrowed = keeper.narrow_hold(id, of, &segment.keys, &sealings)?;
                // None: the box knew of more than it had reported.
                narrowed.map_or_else(|| wrap(sealings.into_iter().collect()), Ok)
            });
            let keys = keys.await?.map_err(|error: KeeperError| HoldsError::Keeper(error))?;
            let keyed = if whole { held.keyed } else { end.saturating_add(AHEAD) };
            let segment = HeldSegment { keys: keys.into(), keyed, narrowed: whole, ..held.clone() };
            self.0.store.put_segment(hold.id, segment).await?;
        }
        Ok(self.0.store.cover(hold.id, covered).await?)
    }

    async fn copy_segment(
        &self,
        hold: &Hold,
        mut segment: HeldSegment,
        missing: &[HeldFragment],
    ) -> Result<bool, CopyError> {
        let of = (segment.camera, segment.stream);
        let (asked, header) = (self.asked(of.0, of.1), segment.header.clone());
        let (mut copied, mut failed) = (false, None);
        for chunk in in_a_row(missing) {
            let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
            let (run_id, first, last) = (first.fragment.run.into(), first.fragment.index, last.fragment.index);
            let range = What::Fragments(FragmentRange { run_id, first, last });
            let mut payloads = Payloads::new(&asked, (segment.id, &header), chunk, self.fetch(of, range, false)?);
            match self.keep(hold, &mut segment, &mut payloads).await {
                Ok(kept) => copied |= kept,
                // What is damaged at the box does not hold up the rest; a box that does not answer does.
                Err(error @ (CopyError::Fetch(_) | CopyError::Holds(_))) => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(copied), Err)
    }

    /// Writes what comes, in batches, and notes each once it is durable. What came before an error is kept.
    async fn keep(
        &self,
        hold: &Hold,
        segment: &mut HeldSegment,
        payloads: &mut Payloads<'_>,
    ) -> Result<bool, CopyError> {
        let mut copied = false;
        loop {
            let (mut batch, mut bytes, mut ended) = (Vec::new(), 0, None);
            while bytes < BATCH_BYTES && ended.is_none() {
                match payloads.next().await {
                    Ok(Some(kept)) => {
                        bytes += kept.record.payload.len();
                        batch.push((kept.sealing, kept.record));
                    }
                    Ok(None) => ended = Some(Ok(())),
                    Err(error) => ended = Some(Err(error)),
                }
            }
            // The init section comes with every fetch.
            batch.retain(|(sealing, _)| sealing.is_some() || segment.init_at.is_none());
            if !batch.is_empty() {
                self.write(hold, segment, payloads.segment_record(), batch).await?;
                copied = true;
            }
            if let Some(ended) = ended {
                return ended.map(|()| copied);
            }
        }
    }

    async fn write(
        &self,
        hold: &Hold,
        segment: &mut HeldSegment,
        first: Option<Record>,
        batch: Vec<(Option<u32>, Record)>,
    ) -> Result<(), CopyError> {
        let (sealings, mut records): (Vec<Option<u32>>, Vec<Record>) = batch.into_iter().unzip();
        let begins = first.filter(|_| segment.file_bytes == 0);
        let skip = usize::from(begins.is_some());
        records.splice(0..0, begins);
        let (vault, id, of, before) = (self.0.vault.clone(), hold.id, segment.id, segment.file_bytes);
        let appended = blocking(move || vault.append(id, of, before, &records)).await?;
        let appended = match appended {
            Ok(appended) => appended,
            Err(error @ super::vault::VaultError::Short(_)) => {
                self.0.store.forget_copy(hold.id, segment.id).await?;
                return Err(HoldsError::Vault(error).into());
            }
            Err(error) => return Err(HoldsError::Vault(error).into()),
        };
        let mut places = Vec::new();
        for (sealing, at) in sealings.into_iter().zip(appended.places.into_iter().skip(skip)) {
            match sealing {
                Some(sealing) => places.push((sealing, at)),
                None => segment.init_at = Some(at),
            }
        }
        segment.file_bytes = appended.file_bytes;
        let now = (segment.file_bytes, segment.init_at);
        Ok(self.0.store.copied(hold.id, segment.id, now, places).await?)
    }
}

/// Runs of consecutive fragments, none too long.
fn in_a_row(fragments: &[HeldFragment]) -> impl Iterator<Item = &[HeldFragment]> {
    let follows = |a: &HeldFragment, b: &HeldFragment| a.fragment.index + 1 == b.fragment.index;
    fragments.chunk_by(follows).flat_map(|row| row.chunks(MOST_AT_ONCE))
}
