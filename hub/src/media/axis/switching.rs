//! A player that changes variants shows the same instant: playlists, groups and decode times as they are served.

use super::Axis;
use crate::media::groups::{self, Fragment};
use crate::media::hls::{self, Missing, Part};
use crate::media::playback::package;
use crate::media::timeline::Timeline;
use bytes::Bytes;
use campanile_proto::federation::v1::{Listing, VariantListing};
use campanile_proto::ids::RunId;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::Stream;
use mp4_atom::{Decode, Encode, Mdat, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};
use std::collections::HashMap;
use std::ops::Range;

/// 15 pictures a second.
const PICTURE_US: f64 = 1e6 / 15.0;
const PICTURE_90K: f64 = 6_000.0;
const STARTED_US: i64 = 1_795_424_400_000_000;
const SWITCHES: usize = 100;

/// One run of one stream: which pictures of the scene, and how far its clock is off.
struct Run {
    id: RunId,
    pictures: Range<u64>,
    gop: u64,
    ppm: f64,
    /// Packets arrive late by up to this.
    late_us: i64,
}

fn run(id: u128, pictures: Range<u64>, gop: u64, ppm: f64) -> Run {
    Run { id: RunId::from_u128(id), pictures, gop, ppm, late_us: 30_000 }
}

impl Run {
    fn ticks(&self, picture: u64) -> u64 {
        ((picture - self.pictures.start) as f64 * PICTURE_90K * (1.0 + self.ppm / 1e6)).round() as u64
    }

    /// Fragments end at a key frame or after a second; with the pictures in each.
    fn fragments(&self) -> Vec<(Fragment, Range<u64>)> {
        let (mut all, mut first) = (Vec::new(), self.pictures.start);
        while first < self.pictures.end {
            let since_key = (first - self.pictures.start) % self.gop;
            let next = (first + 15.min(self.gop - since_key)).min(self.pictures.end);
            let index = all.len() as u64;
            let late_us = (index * 7_919 % 31) as i64 * self.late_us / 31;
            let fragment = Fragment {
                run: self.id,
                index,
                starts_with_key: since_key == 0,
                decode_90k: self.ticks(first),
                duration_90k: self.ticks(next) - self.ticks(first),
                arrival: WallTime(STARTED_US + (first as f64 * PICTURE_US) as i64 + late_us),
                plain_size: 1_000,
            };
            all.push((fragment, first..next));
            first = next;
        }
        all
    }

    /// As recorded; each sample is its picture's number.
    fn media(&self, pictures: Range<u64>) -> Bytes {
        let entry = |picture| TrunEntry {
            size: Some(8),
            duration: Some((self.ticks(picture + 1) - self.ticks(picture)) as u32),
            ..TrunEntry::default()
        };
        let entries: Vec<TrunEntry> = pictures.clone().map(entry).collect();
        let traf = Traf {
            tfhd: Tfhd { track_id: 1, ..Default::default() },
            tfdt: Some(Tfdt { base_media_decode_time: self.ticks(pictures.start) }),
            trun: vec![Trun { data_offset: Some(0), samples: entries.into() }],
            ..Default::default()
        };
        let mut out = Vec::new();
        Moof { traf: vec![traf], ..Default::default() }.encode(&mut out).unwrap();
        Mdat { data: pictures.flat_map(u64::to_be_bytes).collect() }.encode(&mut out).unwrap();
        out.into()
    }
}

/// One stream as the hub knows it.
struct Lane {
    stream: Stream,
    runs: Vec<Run>,
    lines: HashMap<RunId, Timeline>,
    variant: VariantListing,
    /// What is added to its zero, and must not be.
    astray_us: i64,
}

fn lane(stream: Stream, runs: Vec<Run>) -> Lane {
    let fragments: Vec<Fragment> = runs.iter().flat_map(Run::fragments).map(|(fragment, _)| fragment).collect();
    let lines = groups::timelines(&fragments);
    let listed = groups::list(&groups::group(&fragments), &lines, WallTime(i64::MIN), WallTime(i64::MAX));
    let groups = listed.into_iter().map(|(_, group)| group).collect();
    let variant = VariantListing { stream: stream.into(), groups, ..Default::default() };
    Lane { stream, runs, lines, variant, astray_us: 0 }
}

impl Lane {
    /// What the address of a group answers: its pictures, each with its decode time in seconds.
    fn load(&self, run: RunId, (first, last): (u64, u64), zero: WallTime) -> Vec<(f64, u64)> {
        let of = self.runs.iter().find(|of| of.id == run).unwrap();
        let fragments = of.fragments_between(first, last);
        let zero = zero.plus_micros(self.astray_us);
        let bytes = package(&fragments, first, &self.lines[&run], zero).unwrap();
        let (mut rest, mut pictures) = (bytes.as_ref(), Vec::new());
        while !rest.is_empty() {
            let moof = Moof::decode(&mut rest).unwrap();
            let mdat = Mdat::decode(&mut rest).unwrap();
            let traf = &moof.traf[0];
            let mut at = traf.tfdt.as_ref().unwrap().base_media_decode_time;
            for (entry, number) in traf.trun[0].samples.iter().zip(mdat.data.chunks_exact(8)) {
                pictures.push((at as f64 / 90_000.0, u64::from_be_bytes(number.try_into().unwrap())));
                at += u64::from(entry.duration.unwrap());
            }
        }
        pictures
    }
}

impl Run {
    fn fragments_between(&self, first: u64, last: u64) -> Vec<(u64, Bytes)> {
        let wanted = self.fragments().into_iter().filter(|(fragment, _)| (first..=last).contains(&fragment.index));
        wanted.map(|(fragment, pictures)| (fragment.decode_90k, self.media(pictures))).collect()
    }
}

/// An entry of a media playlist, as a player reads it.
struct Segment {
    at: f64,
    /// How many discontinuities lie before it.
    breaks: usize,
    uri: String,
    gap: bool,
}

/// Finds its place by the sums of durations; pictures within one by their decode times, which mean the same in every
/// variant between the same two discontinuities (RFC 8216 section 6.2.4).
struct Player<'a> {
    lanes: &'a [Lane],
    zero: WallTime,
    variants: Vec<Vec<Segment>>,
    /// What is added to decode times, by discontinuities: learnt from the first group that was loaded.
    offsets: HashMap<usize, f64>,
}

impl<'a> Player<'a> {
    fn of(lanes: &'a [Lane], missing: Missing) -> Self {
        let variants: Vec<_> = lanes.iter().map(|lane| lane.variant.clone()).collect();
        let zero_us = variants.iter().flat_map(|v| &v.groups).map(|group| group.start_us).min().unwrap();
        let axis = Axis::of(&Listing { zero_us, variants, ..Default::default() });
        let address = |part: Part<'_>| match part {
            Part::Init(of, run) => format!("{}/{run}/init", hls::stream_name(of)),
            Part::Group(of, group) => {
                let run = RunId::try_from(&group.run_id).unwrap();
                format!("{}/{run}/{}-{}", hls::stream_name(of), group.first, group.last)
            }
            Part::Gap => "gap".to_owned(),
        };
        let read = |lane: &Lane| {
            let text = hls::media_playlist(&axis, lane.stream, missing, address).unwrap();
            let (mut at, mut breaks) = (0.0, 0);
            let list = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap().segments.into_iter();
            let segment = |segment: m3u8_rs::MediaSegment| {
                breaks += usize::from(segment.discontinuity);
                let gap = segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
                let begun = at;
                at += f64::from(segment.duration);
                Segment { at: begun, breaks, uri: segment.uri, gap }
            };
            list.map(segment).collect()
        };
        Self { lanes, zero: WallTime(zero_us), variants: lanes.iter().map(read).collect(), offsets: HashMap::new() }
    }

    fn length(&self) -> f64 {
        self.variants[0].last().unwrap().at
    }

    fn load(&self, uri: &str) -> Vec<(f64, u64)> {
        let mut names = uri.split('/');
        let (stream, run, range) = (names.next().unwrap(), names.next().unwrap(), names.next().unwrap());
        let lane = self.lanes.iter().find(|lane| hls::stream_name(lane.stream) == stream).unwrap();
        let (first, last) = range.split_once('-').unwrap();
        lane.load(run.parse().unwrap(), (first.parse().unwrap(), last.parse().unwrap()), self.zero)
    }

    /// The picture at an instant of the axis, and how many discontinuities lie before it; none where there is none.
    fn show(&mut self, variant: usize, at: f64) -> Option<(u64, usize)> {
        let mut here = self.variants[variant].partition_point(|segment| segment.at <= at) - 1;
        let breaks = self.variants[variant][here].breaks;
        let mut back = false;
        loop {
            let segment =
                self.variants[variant].get(here).filter(|segment| segment.breaks == breaks && !segment.gap)?;
            let pictures = self.load(&segment.uri);
            let offset = *self.offsets.entry(breaks).or_insert(segment.at - pictures[0].0);
            let (first, last) = (pictures[0].0 + offset, pictures[pictures.len() - 1].0 + offset);
            if at < first && here > 0 {
                (here, back) = (here - 1, true);
            } else if at > last + PICTURE_US / 1e6 && !back {
                here += 1;
            } else {
                return pictures
                    .iter()
                    .rev()
                    .find(|(time, _)| time + offset <= at)
                    .map(|(_, number)| (*number, breaks));
            }
        }
    }

    /// Changes variants so many times, at instants spread over all that is played: how many times both variants had
    /// a picture, and by how many pictures they differed at most.
    fn switch(&mut self) -> (usize, u64) {
        let (mut compared, mut apart) = (0, 0);
        for n in 0..SWITCHES {
            // The golden ratio: no two near each other.
            let at = (n as f64 * 0.618_033_988_75).fract() * self.length();
            let (from, to) = (n % self.variants.len(), (n + 1) % self.variants.len());
            if let (Some((before, breaks)), Some((after, same))) = (self.show(from, at), self.show(to, at))
                && breaks == same
            {
                compared += 1;
                apart = apart.max(before.abs_diff(after));
            }
        }
        (compared, apart)
    }
}

/// Within one picture, and the same player sees it when one stream's times are three pictures astray.
fn switches_within_a_picture(mut lanes: Vec<Lane>, missing: Missing, least: usize) {
    let (compared, apart) = Player::of(&lanes, missing).switch();
    assert!(compared >= least && apart <= 1, "{compared} compared, {apart} pictures apart");
    lanes[1].astray_us = -3 * PICTURE_US as i64;
    let (_, astray) = Player::of(&lanes, missing).switch();
    assert!((2..=4).contains(&astray), "{astray} pictures apart");
}

#[test]
fn variants_switched_a_hundred_times_across_gaps_show_the_same_instant() {
    let lanes = || {
        let main = vec![run(1, 0..900, 30, 0.0), run(2, 1_500..2_400, 30, 0.0), run(3, 3_000..4_500, 30, 0.0)];
        let sub = vec![run(4, 7..905, 45, 0.0), run(5, 1_510..4_500, 45, 0.0)];
        vec![lane(Stream::Main, main), lane(Stream::Sub, sub)]
    };
    switches_within_a_picture(lanes(), Missing::Borrowed, 90);
    // Where main is missing there is nothing to compare: 40 s of 260.
    switches_within_a_picture(lanes(), Missing::Gaps, 70);
}

#[test]
fn variants_switched_a_hundred_times_across_other_parameter_sets_of_one_show_the_same_instant() {
    let main = vec![run(1, 0..1_000, 30, 0.0), run(2, 1_000..3_000, 30, 0.0)];
    let lanes = vec![lane(Stream::Main, main), lane(Stream::Sub, vec![run(4, 4..3_000, 60, 0.0)])];
    let breaks: Vec<_> = Player::of(&lanes, Missing::Gaps).variants.iter().map(|v| v.last().unwrap().breaks).collect();
    assert_eq!(breaks, [1, 1]);
    switches_within_a_picture(lanes, Missing::Gaps, 90);
}

#[test]
fn variants_switched_a_hundred_times_in_a_day_of_two_clocks_that_drift_apart_show_the_same_instant() {
    let day = 24 * 3_600 * 15;
    let main = lane(Stream::Main, vec![run(1, 0..day, 30, -100.0)]);
    let sub = lane(Stream::Sub, vec![run(4, 9..day, 30, 100.0)]);
    let length = |lane: &Lane| lane.variant.groups.iter().map(|group| group.duration_us).sum::<u64>() as i64;
    let day_us = 24 * 3_600 * 1_000_000;
    assert!([&main, &sub].iter().all(|lane| (length(lane) - day_us).abs() < 1_000_000), "as long as the day");
    switches_within_a_picture(vec![main, sub], Missing::Gaps, 95);
}
