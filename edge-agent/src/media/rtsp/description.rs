//! What a camera offers (SDP, RFC 8866), as far as it is needed. Pure, and lenient: cameras write descriptions that no
//! strict reader takes.

use crate::media::Codec;

/// Media of one description that are looked at.
const MAX_MEDIA: usize = 32;
/// RTP clock of video where none is named.
const VIDEO_CLOCK: u32 = 90_000;

/// A video stream on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Video {
    /// Its name in RTP's registry (RFC 6184: H264, RFC 7798: H265).
    pub encoding: String,
    pub payload_type: u8,
    pub clock_rate: u32,
    /// Where to ask for it, as written.
    pub control: Option<String>,
    /// Parameter sets, base64, comma-separated.
    pub sprops: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Description {
    /// Of all streams together.
    pub control: Option<String>,
    pub videos: Vec<Video>,
}

impl Video {
    pub fn codec(&self) -> Option<Codec> {
        match self.encoding.as_str() {
            "H264" => Some(Codec::H264),
            "H265" => Some(Codec::H265),
            _ => None,
        }
    }
}

impl Description {
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut description = Self::default();
        let mut media: Vec<Vec<&str>> = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with("m=") {
                if media.len() >= MAX_MEDIA {
                    break;
                }
                media.push(vec![line]);
            } else if let Some(lines) = media.last_mut() {
                lines.push(line);
            } else if let Some(control) = line.strip_prefix("a=control:") {
                description.control = Some(control.trim().to_owned());
            }
        }
        description.videos = media.iter().filter_map(|lines| video(lines)).collect();
        description
    }
}

/// `m=video 0 RTP/AVP 96` and the attributes behind it.
fn video(lines: &[&str]) -> Option<Video> {
    let mut words = lines.first()?.strip_prefix("m=")?.split_whitespace();
    if words.next() != Some("video") {
        return None;
    }
    let payload_type: u8 = words.nth(2)?.parse().ok().filter(|number| *number < 128)?;
    let attribute = |name: &str| lines.iter().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name));
    let of_type = |name: &str| {
        let named = lines.iter().filter_map(|line| line.strip_prefix("a=")?.strip_prefix(name));
        let mut pairs = named.filter_map(|rest| rest.trim().split_once([' ', '\t']));
        pairs.find_map(|(number, rest)| (number.parse() == Ok(payload_type)).then_some(rest.trim()))
    };
    let (encoding, clock_rate) = match of_type("rtpmap:") {
        Some(map) => {
            let mut parts = map.split('/');
            let encoding = parts.next().unwrap_or_default().to_ascii_uppercase();
            (encoding, parts.next().and_then(|rate| rate.trim().parse().ok()).filter(|rate| *rate > 0))
        }
        None => (named_by_number(payload_type).to_owned(), None),
    };
    let parameters = of_type("fmtp:").unwrap_or_default();
    let pairs = parameters.split(';').filter_map(|pair| pair.trim().split_once('='));
    let sprops = pairs.filter(|(name, _)| {
        ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"].iter().any(|set| name.eq_ignore_ascii_case(set))
    });
    Some(Video {
        encoding,
        payload_type,
        clock_rate: clock_rate.unwrap_or(VIDEO_CLOCK),
        control: attribute("control:").map(|control| control.trim().to_owned()),
        sprops: sprops.map(|(_, value)| value.trim().to_owned()).collect(),
    })
}

/// RFC 3551 table 5.
fn named_by_number(payload_type: u8) -> &'static str {
    match payload_type {
        26 => "JPEG",
        31 => "H261",
        32 => "MPV",
        33 => "MP2T",
        34 => "H263",
        _ => "an unnamed format",
    }
}

/// The address of a stream: its own, or what stands behind that of the description (RFC 2326 section C.1.1, read the
/// way cameras mean it: put behind, not in the place of the last part).
pub(super) fn at(base: &str, control: Option<&str>) -> String {
    match control {
        None | Some("" | "*") => base.to_owned(),
        Some(control) if control.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("rtsp:")) => {
            control.to_owned()
        }
        Some(control) => {
            let between = if base.ends_with('/') || control.starts_with('/') { "" } else { "/" };
            format!("{base}{between}{control}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAMERA: &str = "v=0\r\no=- 0 0 IN IP4 10.0.0.9\r\ns=Media\r\na=control:rtsp://10.0.0.9/1/\r\n\
        m=audio 0 RTP/AVP 8\r\na=control:trackID=2\r\nm=video 0 RTP/AVP 96\r\n\
        a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; profile-level-id=4d401e; \
        sprop-parameter-sets=Z01AHtk=,aOvBssg=\r\na=control:trackID=1\r\n";

    #[test]
    fn a_camera_with_sound_offers_its_video() {
        let description = Description::parse(CAMERA.as_bytes());
        assert_eq!(description.control.as_deref(), Some("rtsp://10.0.0.9/1/"));
        let [video] = &description.videos[..] else { panic!("{description:?}") };
        assert_eq!((video.codec(), video.payload_type, video.clock_rate), (Some(Codec::H264), 96, 90_000));
        assert_eq!(video.sprops, ["Z01AHtk=,aOvBssg="]);
        assert_eq!(at("rtsp://10.0.0.9/1/", video.control.as_deref()), "rtsp://10.0.0.9/1/trackID=1");
    }

    #[test]
    fn an_h265_camera_names_three_sets_and_a_jpeg_camera_may_name_nothing() {
        let text = "m=video 0 RTP/AVP 98\na=rtpmap:98 h265/90000\n\
            a=fmtp:98 sprop-vps=QAE=; sprop-sps=QgE=; sprop-pps=RAE=\nm=video 0 RTP/AVP 26\n";
        let videos = Description::parse(text.as_bytes()).videos;
        assert_eq!((videos[0].codec(), videos[0].sprops.len()), (Some(Codec::H265), 3));
        assert_eq!((videos[1].codec(), videos[1].encoding.as_str()), (None, "JPEG"));
    }

    #[test]
    fn controls_are_put_behind_their_base() {
        for (base, control, whole) in [
            ("rtsp://c/a", Some("track1"), "rtsp://c/a/track1"),
            ("rtsp://c/a?x=1", Some("trackID=1"), "rtsp://c/a?x=1/trackID=1"),
            ("rtsp://c/a/", Some("/track1"), "rtsp://c/a//track1"),
            ("rtsp://c/a", Some("RTSP://c/b"), "RTSP://c/b"),
            ("rtsp://c/a", Some("*"), "rtsp://c/a"),
            ("rtsp://c/a", None, "rtsp://c/a"),
        ] {
            assert_eq!(at(base, control), whole);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(
            lines in proptest::collection::vec((0usize..8, ".{0,40}"), 0..60)
        ) {
            const STARTS: [&str; 8] =
                ["m=video ", "m=video 0 RTP/AVP 96", "a=rtpmap:96 ", "a=fmtp:96 ", "a=control:", "a=", "m=", ""];
            let text: Vec<String> = lines.iter().map(|(start, rest)| format!("{}{rest}", STARTS[*start])).collect();
            for video in Description::parse(text.join("\n").as_bytes()).videos {
                let _ = (video.codec(), at("rtsp://c", video.control.as_deref()));
            }
        }
    }
}
