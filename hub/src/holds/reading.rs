//! Reading a hold: an interval of one camera from its copy, with its keys, as it is played.

use super::store::{HeldFragment, HeldSegment};
use super::take::STREAMS;
use super::{Hold, Holds, HoldsError, blocking};
use crate::access::Registered;
use crate::media::groups::{self, Fragment};
use crate::media::timeline::Timeline;
use crate::media::{HeldKeys, codecs, playback};
use bytes::Bytes;
use campanile_proto::federation::v1::{Listing, VariantListing};
use campanile_proto::ids::{CameraId, HoldId, RequestId, RunId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::segment::Record;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{RecordHeader, Stream};
use prost::Message;
use std::collections::HashMap;

/// One camera of a hold that is being read.
pub struct HeldPlayback {
    holds: Holds,
    hold: HoldId,
    streams: HashMap<Stream, HeldStream>,
    pub listing: Listing,
}

struct HeldStream {
    segments: HashMap<SegmentId, HeldSegment>,
    /// What is copied, by run and index.
    fragments: HashMap<(RunId, u64), HeldFragment>,
    lines: HashMap<RunId, Timeline>,
}

impl Holds {
    /// Whole groups of what is held of a camera, with a part in `from`..`to`; groups at the hold's edges are as long
    /// as the hold covers them.
    pub async fn open_playback(
        &self,
        access: RequestId,
        hold: HoldId,
        camera: CameraId,
        (from, to): (WallTime, WallTime),
    ) -> Result<HeldPlayback, HoldsError> {
        self.registered(access)?;
        let hold = self.standing_hold(hold)?;
        if !hold.terms.cameras.contains(&camera) {
            return Err(HoldsError::NotItsCamera);
        }
        let (from, to) = (from.max(hold.terms.from), to.min(hold.terms.to));
        let mut playback =
            HeldPlayback { holds: self.clone(), hold: hold.id, streams: HashMap::new(), listing: Listing::default() };
        let mut listed = Vec::new();
        let segments = self.0.store.segments(hold.id, camera).await?;
        for stream in STREAMS {
            let held = self.0.store.fragments(hold.id, camera, stream).await?;
            let held: Vec<HeldFragment> = held.into_iter().filter(|held| held.at.is_some()).collect();
            let flat: Vec<Fragment> = held.iter().map(|held| held.fragment).collect();
            let lines = groups::timelines(&flat);
            let groups = groups::list(&groups::group(&flat), &lines, from, to);
            let of_stream = segments.iter().filter(|held| held.stream == stream);
            let stream_held = HeldStream {
                segments: of_stream.map(|held| (held.id, held.clone())).collect(),
                fragments: held.into_iter().map(|held| ((held.fragment.run, held.fragment.index), held)).collect(),
                lines,
            };
            playback.streams.insert(stream, stream_held);
            listed.push((stream, groups));
        }
        let starts = listed.iter().filter_map(|(_, groups)| groups.first()).map(|(_, group)| group.start_us);
        playback.listing.zero_us = starts.min().filter(|_| from < to).ok_or(HoldsError::NothingHeld)?;
        for (stream, groups) in listed {
            let Some((first, _)) = groups.first() else { continue };
            let init = playback.init(access, stream, first.run).await?;
            let described = codecs::describe(&init).map_err(HoldsError::Codecs)?;
            let bandwidth_bps = groups::bandwidth_bps(&groups);
            playback.listing.variants.push(VariantListing {
                stream: stream.into(),
                codecs: described.codecs,
                width: described.width,
                height: described.height,
                bandwidth_bps,
                groups: groups.into_iter().map(|(_, listing)| listing).collect(),
            });
        }
        Ok(playback)
    }

    fn registered(&self, access: RequestId) -> Result<Registered, HoldsError> {
        self.0.parts.door.registered(access).ok_or(HoldsError::NotRegistered)
    }

    /// As it is now: what is read for long asks again each time.
    fn standing_hold(&self, hold: HoldId) -> Result<Hold, HoldsError> {
        let standing = self.standing().get(&hold).cloned();
        standing.filter(|standing| standing.stands(self.now())).ok_or(HoldsError::Over(hold))
    }
}

#[cfg(test)]
impl Holds {
    /// Header and blob of a hold's only segment.
    pub async fn keys_of(
        &self,
        hold: HoldId,
        camera: CameraId,
    ) -> ((campanile_proto::types::v1::SegmentHeader, Bytes), Bytes) {
        let segments = self.0.store.segments(hold, camera).await.unwrap();
        let [segment] = &segments[..] else { panic!("{segments:?}") };
        ((segment.decoded().unwrap(), segment.header.clone()), segment.keys.clone())
    }
}

impl HeldPlayback {
    /// The init section of a run.
    pub async fn init(&self, access: RequestId, stream: Stream, run: RunId) -> Result<Bytes, HoldsError> {
        let held = self.streams.get(&stream).ok_or(HoldsError::NothingHeld)?;
        let mut of_run = held.fragments.values().filter(|held| held.fragment.run == run);
        let place = of_run.find_map(|fragment| {
            let segment = held.segments.get(&fragment.segment)?;
            Some((segment.clone(), segment.init_at?))
        });
        let opened = self.open(access, vec![place.ok_or(HoldsError::NothingHeld)?]).await?;
        opened.into_iter().next().ok_or(HoldsError::NothingHeld)
    }

    /// One group on the listing's time line.
    pub async fn group(
        &self,
        access: RequestId,
        stream: Stream,
        run: RunId,
        (first, last): (u64, u64),
    ) -> Result<Bytes, HoldsError> {
        let held = self.streams.get(&stream).ok_or(HoldsError::NothingHeld)?;
        let line = held.lines.get(&run).ok_or(HoldsError::NothingHeld)?;
        let (mut places, mut times) = (Vec::new(), Vec::new());
        for index in first..=last {
            let fragment = held.fragments.get(&(run, index)).ok_or(HoldsError::NothingHeld)?;
            let segment = held.segments.get(&fragment.segment).ok_or(HoldsError::NothingHeld)?;
            places.push((segment.clone(), fragment.at.ok_or(HoldsError::NothingHeld)?));
            times.push(fragment.fragment.decode_90k);
        }
        let opened = self.open(access, places).await?;
        let fragments: Vec<(u64, Bytes)> = times.into_iter().zip(opened).collect();
        playback::package(&fragments, first, line, WallTime(self.listing.zero_us)).map_err(HoldsError::Package)
    }

    /// Reads and opens records, in order.
    async fn open(&self, access: RequestId, places: Vec<(HeldSegment, u64)>) -> Result<Vec<Bytes>, HoldsError> {
        let access = self.holds.registered(access)?;
        self.holds.standing_hold(self.hold)?;
        let (vault, keeper, hold) = (self.holds.0.vault.clone(), self.holds.0.parts.keeper.clone(), self.hold);
        blocking(move || {
            let mut keys: HashMap<SegmentId, (i32, HeldKeys)> = HashMap::new();
            let mut opened = Vec::with_capacity(places.len());
            for (segment, at) in places {
                let (suite, keys) = match keys.entry(segment.id) {
                    std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::hash_map::Entry::Vacant(unknown) => {
                        let header = segment.decoded()?;
                        let of = (&header, segment.header.as_ref());
                        let keys = keeper.open_held(access, hold, of, &segment.keys).map_err(HoldsError::Keeper)?;
                        unknown.insert((header.suite, keys))
                    }
                };
                let Record { header, payload, .. } = vault.record(hold, segment.id, at)?;
                let sealing = RecordHeader::decode(header.clone()).map(|said| said.sealing).unwrap_or(u32::MAX);
                let plain = keys.open(*suite, sealing, &header, &payload).ok_or(HoldsError::NothingHeld)?;
                opened.push(Bytes::from(plain.map_err(HoldsError::Seal)?));
            }
            Ok(opened)
        })
        .await?
        .inspect_err(|error: &HoldsError| tracing::warn!(%hold, error = %Chain(error), "held footage not opened"))
    }
}
