//! Playlists (RFC 8216, fragmented MP4): pure.

use super::axis::{Axis, What};
use campanile_proto::federation::v1::{GroupListing, Listing, VariantListing};
use campanile_proto::ids::RunId;
use campanile_proto::types::v1::Stream;
use std::fmt::Write;

/// EXT-X-MAP without I-frames only needs 6 (section 7); 7 is what players test fMP4 with.
const VERSION: u8 = 7;
/// EXT-X-GAP needs it (RFC 8216bis section 8).
const VERSION_WITH_GAPS: u8 = 8;

/// `main` or `sub`, as it stands in addresses.
pub fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Sub => "sub",
        Stream::Index => "index",
        _ => "main",
    }
}

/// What stands where a stream was not recorded and another one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// EXT-X-GAP (RFC 8216bis section 4.4.4.7): a player takes the other variant there.
    Gaps,
    /// The other stream's pictures. Players that do not know the tag (Chromium 156) lose their place at a gap.
    Borrowed,
}

/// What an address is wanted of.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    Init(Stream, RunId),
    Group(Stream, &'a GroupListing),
    /// Nothing is there.
    Gap,
}

/// Both variants, so that a thin uplink adapts by itself. `base` stands before `main.m3u8` and `sub.m3u8`.
pub fn master_playlist(listing: &Listing, base: &str) -> String {
    let mut out = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for variant in listing.variants.iter().filter(|variant| !variant.groups.is_empty()) {
        let VariantListing { codecs, width, height, bandwidth_bps, .. } = variant;
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth_bps},CODECS=\"{codecs}\",RESOLUTION={width}x{height}\n{base}{}.m3u8",
            stream_name(variant.stream())
        );
    }
    out
}

/// The entries of one stream; `None` when it is not listed.
pub fn media_playlist(
    axis: &Axis,
    stream: Stream,
    missing: Missing,
    address: impl Fn(Part<'_>) -> String,
) -> Option<String> {
    let entries = axis.track(stream)?;
    let is_gap = |what: &What| match what {
        What::Own(_) => false,
        What::Borrowed(..) => missing == Missing::Gaps,
        What::Nothing => true,
    };
    let version = if entries.iter().any(|entry| is_gap(&entry.what)) { VERSION_WITH_GAPS } else { VERSION };
    let mut out = format!(
        "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n",
        axis.target_duration()
    );
    let mut mapped = None;
    // Writing to a string cannot fail.
    for entry in entries {
        if entry.discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        let shown = match &entry.what {
            what if is_gap(what) => None,
            What::Own(group) => Some((stream, group)),
            What::Borrowed(of, group) => Some((*of, group)),
            What::Nothing => None,
        };
        if let Some((of, group)) = shown {
            let map = RunId::try_from(&group.run_id).ok().map(|run| (of, run));
            if let Some((of, run)) = map.filter(|_| map != mapped) {
                let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}\"", address(Part::Init(of, run)));
                mapped = map;
            }
        }
        let seconds = entry.duration_us as f64 / 1e6;
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{seconds:.6},", date_time(entry.start_us));
        let _ = match shown {
            Some((of, group)) => writeln!(out, "{}", address(Part::Group(of, group))),
            None => writeln!(out, "#EXT-X-GAP\n{}", address(Part::Gap)),
        };
    }
    out.push_str("#EXT-X-ENDLIST\n");
    Some(out)
}

/// RFC 3339 in UTC, to the millisecond: players read no more.
fn date_time(utc_us: i64) -> String {
    let time = jiff::Timestamp::from_microsecond(utc_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let group = |run: u128, first, start_us, discontinuity| GroupListing {
            run_id: RunId::from_u128(run).into(),
            first,
            last: first + 1,
            start_us,
            duration_us: 2_000_000,
            discontinuity,
        };
        let start = 1_795_424_400_000_000;
        let groups = vec![
            group(1, 0, start, false),
            group(1, 2, start + 2_000_000, false),
            group(1, 8, start + 8_000_000, true),
            group(2, 0, start + 30_000_000, true),
        ];
        let variant = |stream: Stream, codecs: &str, width, height| VariantListing {
            stream: stream.into(),
            codecs: codecs.to_owned(),
            width,
            height,
            bandwidth_bps: 1_500_000,
            groups: groups.clone(),
        };
        Listing {
            zero_us: start,
            variants: vec![
                variant(Stream::Main, "avc1.64001F", 1280, 720),
                variant(Stream::Sub, "avc1.42C01E", 640, 360),
            ],
            ..Listing::default()
        }
    }

    #[test]
    fn the_master_names_both_variants() {
        let text = master_playlist(&listing(), "/x/");
        let master = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
        let variants: Vec<_> = master
            .variants
            .iter()
            .map(|v| (v.uri.as_str(), v.codecs.as_deref().unwrap(), v.resolution.unwrap().height, v.bandwidth))
            .collect();
        let expected =
            [("/x/main.m3u8", "avc1.64001F", 720, 1_500_000), ("/x/sub.m3u8", "avc1.42C01E", 360, 1_500_000)];
        assert_eq!(variants, expected);
        assert!(master.independent_segments);
    }

    fn playlist(listing: &Listing, stream: Stream, missing: Missing) -> m3u8_rs::MediaPlaylist {
        let address = |part: Part<'_>| match part {
            Part::Init(of, run) => format!("{}/{run}/init.mp4", stream_name(of)),
            Part::Group(of, group) => format!("{}/{}-{}.m4s", stream_name(of), group.first, group.last),
            Part::Gap => "gap.m4s".to_owned(),
        };
        let text = media_playlist(&Axis::of(listing), stream, missing, address).unwrap();
        m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap()
    }

    fn gaps(media: &m3u8_rs::MediaPlaylist) -> Vec<bool> {
        let gap = |segment: &m3u8_rs::MediaSegment| segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
        media.segments.iter().map(gap).collect()
    }

    #[test]
    fn every_segment_has_its_time_and_every_run_its_init() {
        let media = playlist(&listing(), Stream::Main, Missing::Gaps);
        assert!(media.end_list && media.independent_segments && media.target_duration == 2);
        assert!(media.segments.iter().all(|s| s.program_date_time.is_some()));
        let discontinuities: Vec<_> = media.segments.iter().map(|s| s.discontinuity).collect();
        assert_eq!(discontinuities, [false, false, true, true]);
        let maps: Vec<_> = media.segments.iter().filter_map(|s| s.map.as_ref()).map(|m| m.uri.clone()).collect();
        assert_eq!(maps.len(), 2, "{maps:?}");
        assert_eq!(media.segments[2].uri, "main/8-9.m4s");
        let first = media.segments[0].program_date_time.unwrap();
        assert_eq!(first.timestamp_micros(), listing().zero_us);
        assert_eq!((media.version, gaps(&media)), (Some(7), vec![false; 4]));
        assert!(media_playlist(&Axis::of(&listing()), Stream::Index, Missing::Gaps, |_| String::new()).is_none());
    }

    #[test]
    fn what_another_stream_alone_recorded_is_a_gap_or_its_pictures_with_their_own_init() {
        let mut listing = listing();
        listing.variants[1].groups[2].run_id = RunId::from_u128(9).into();
        listing.variants[0].groups.remove(2);
        let media = playlist(&listing, Stream::Main, Missing::Gaps);
        assert_eq!((media.version, gaps(&media)), (Some(8), vec![false, false, true, false]));
        let gap = &media.segments[2];
        assert_eq!((gap.uri.as_str(), gap.duration, gap.program_date_time.is_some()), ("gap.m4s", 2.0, true));
        let borrowed = playlist(&listing, Stream::Main, Missing::Borrowed);
        assert_eq!((borrowed.version, gaps(&borrowed)), (Some(7), vec![false; 4]));
        let uris: Vec<_> = borrowed.segments.iter().map(|segment| segment.uri.as_str()).collect();
        assert_eq!(uris, ["main/0-1.m4s", "main/2-3.m4s", "sub/8-9.m4s", "main/0-1.m4s"]);
        assert!(
            borrowed.segments[2].map.as_ref().unwrap().uri.starts_with("sub/") && borrowed.segments[2].discontinuity
        );
        assert!(borrowed.segments[3].map.as_ref().unwrap().uri.starts_with("main/"));
        let sub = playlist(&listing, Stream::Sub, Missing::Gaps);
        let breaks =
            |media: &m3u8_rs::MediaPlaylist| media.segments.iter().map(|s| s.discontinuity).collect::<Vec<_>>();
        assert_eq!((breaks(&sub), sub.target_duration), (breaks(&media), media.target_duration));
    }
}
