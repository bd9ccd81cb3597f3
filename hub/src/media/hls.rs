//! Playlists (RFC 8216, fragmented MP4): pure.

use campanile_proto::federation::v1::{GroupListing, Listing, VariantListing};
use campanile_proto::ids::RunId;
use campanile_proto::types::v1::Stream;
use std::fmt::Write;

/// EXT-X-MAP without I-frames only needs 6 (section 7); 7 is what players test fMP4 with.
const VERSION: u8 = 7;

/// `main` or `sub`, as it stands in addresses.
pub fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Sub => "sub",
        Stream::Index => "index",
        _ => "main",
    }
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

/// The groups of one stream; `init` and `uri` give the addresses. `None` when the stream is not listed.
pub fn media_playlist(
    listing: &Listing,
    stream: Stream,
    init: impl Fn(RunId) -> String,
    uri: impl Fn(&GroupListing) -> String,
) -> Option<String> {
    let variant = listing.variants.iter().find(|variant| variant.stream() == stream)?;
    let longest_us = variant.groups.iter().map(|group| group.duration_us).max().unwrap_or(1_000_000);
    let mut out = format!(
        "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n",
        longest_us.div_ceil(1_000_000).max(1)
    );
    let mut run = None;
    for group in &variant.groups {
        let this = RunId::try_from(&group.run_id).ok();
        if run.is_some() && (group.discontinuity || this != run) {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(id) = this.filter(|_| this != run) {
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}\"", init(id));
        }
        run = this;
        let seconds = group.duration_us as f64 / 1e6;
        let _ = writeln!(
            out,
            "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{seconds:.6},\n{}",
            date_time(group.start_us),
            uri(group)
        );
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

    #[test]
    fn every_segment_has_its_time_and_every_run_its_init() {
        let text = media_playlist(
            &listing(),
            Stream::Main,
            |run| format!("main/{run}/init.mp4"),
            |group| format!("main/{}-{}.m4s", group.first, group.last),
        );
        let media = m3u8_rs::parse_media_playlist_res(text.unwrap().as_bytes()).unwrap();
        assert!(media.end_list && media.independent_segments && media.target_duration == 2);
        assert!(media.segments.iter().all(|s| s.program_date_time.is_some()));
        let discontinuities: Vec<_> = media.segments.iter().map(|s| s.discontinuity).collect();
        assert_eq!(discontinuities, [false, false, true, true]);
        let maps: Vec<_> = media.segments.iter().filter_map(|s| s.map.as_ref()).map(|m| m.uri.clone()).collect();
        assert_eq!(maps.len(), 2, "{maps:?}");
        assert_eq!(media.segments[2].uri, "main/8-9.m4s");
        let first = media.segments[0].program_date_time.unwrap();
        assert_eq!(first.timestamp_micros(), listing().zero_us);
        assert!(media_playlist(&listing(), Stream::Index, |_| String::new(), |_| String::new()).is_none());
    }
}
