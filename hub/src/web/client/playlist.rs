//! What a media playlist lists, and whether it covers an interval.

use super::ClientError;
use jiff::{SignedDuration, Timestamp};
use m3u8_rs::{MediaPlaylist, Playlist};

/// Between two groups of one run: rounding of durations to milliseconds and of the time line.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(250);

/// RFC 8216bis section 4.4.4.7; the parser does not know it.
const GAP: &str = "X-GAP";

/// One address and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub uri: String,
    pub init: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub discontinuity: bool,
}

pub fn media(bytes: &[u8]) -> Result<Vec<Listed>, ClientError> {
    let wrong = || ClientError::Unreadable("the playlist is not one");
    let Ok((_, Playlist::MediaPlaylist(playlist))) = m3u8_rs::parse_playlist(bytes) else { return Err(wrong()) };
    listed(playlist).ok_or_else(wrong)
}

fn listed(playlist: MediaPlaylist) -> Option<Vec<Listed>> {
    let (mut init, mut broken) = (None, false);
    let mut list = Vec::new();
    for segment in playlist.segments {
        broken |= segment.discontinuity;
        // Nothing is under its address: what it leaves between its neighbours says what is missing.
        if segment.unknown_tags.iter().any(|tag| tag.tag == GAP) {
            continue;
        }
        if let Some(map) = segment.map {
            init = Some(map.uri);
        }
        let start = segment.program_date_time?.timestamp_micros();
        let start = Timestamp::from_microsecond(start).ok()?;
        let end = start.checked_add(SignedDuration::try_from_secs_f32(segment.duration).ok()?).ok()?;
        let discontinuity = std::mem::take(&mut broken);
        list.push(Listed { uri: segment.uri, init: init.clone()?, start, end, discontinuity });
    }
    Some(list)
}

/// What of `from`..`to` is missing; nothing when it is covered.
pub fn missing(list: &[Listed], from: Timestamp, to: Timestamp) -> Option<String> {
    let (Some(first), Some(last)) = (list.first(), list.last()) else { return Some("nothing was recorded".into()) };
    if first.start > from + TOLERANCE {
        return Some(format!("the recording begins at {}", first.start));
    }
    if last.end + TOLERANCE < to {
        return Some(format!("the recording ends at {}", last.end));
    }
    let gap = list.windows(2).find(|pair| pair[1].start > pair[0].end + TOLERANCE);
    gap.map(|pair| format!("nothing was recorded from {} to {}", pair[0].end, pair[1].start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n\
        #EXT-X-MAP:URI=\"main/r/init.mp4\"\n\
        #EXT-X-PROGRAM-DATE-TIME:2026-03-01T12:00:00.000Z\n#EXTINF:2.000,\nmain/r/0-1.m4s\n\
        #EXT-X-PROGRAM-DATE-TIME:2026-03-01T12:00:02.000Z\n#EXTINF:2.000,\nmain/r/2-3.m4s\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-03-01T12:00:09.000Z\n#EXTINF:1.000,\nmain/r/9-9.m4s\n\
        #EXT-X-ENDLIST\n";

    #[test]
    fn groups_carry_their_times_and_gaps_are_named() {
        let list = media(TEXT.as_bytes()).unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!((list[1].init.as_str(), list[2].discontinuity), ("main/r/init.mp4", true));
        let at = |second: i64| list[0].start + SignedDuration::from_secs(second);
        assert_eq!(missing(&list[..2], at(0), at(4)), None);
        assert!(missing(&list[..2], at(-1), at(4)).unwrap().contains("begins"));
        assert!(missing(&list[..2], at(0), at(5)).unwrap().contains("ends"));
        assert!(missing(&list, at(0), at(10)).unwrap().contains("nothing was recorded from"));
        assert!(missing(&[], at(0), at(1)).is_some());
    }

    #[test]
    fn what_another_stream_alone_recorded_is_missing_here() {
        let gap = "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-03-01T12:00:04.000Z\n#EXTINF:5.000,\n#EXT-X-GAP\ngap.m4s\n";
        let text = TEXT.replace("#EXT-X-DISCONTINUITY\n", gap);
        assert_ne!(text, TEXT);
        let list = media(text.as_bytes()).unwrap();
        assert_eq!(list, media(TEXT.as_bytes()).unwrap());
        assert!(missing(&list, list[0].start, list[2].end).unwrap().contains("nothing was recorded from"));
    }
}
