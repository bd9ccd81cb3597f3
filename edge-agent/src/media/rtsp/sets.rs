//! Parameter sets in a camera's description (SDP, RFC 8866).

const NAMES: [&str; 4] = ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"];

/// Those of a video stream, base64, comma-separated (RFC 6184 section 8.1, RFC 7798 section 7.1). None of them is
/// needed: they come within the stream too.
pub fn parameter_sets(sdp: &[u8], payload_type: u8) -> Vec<String> {
    let Ok(description) = sdp_types::Session::parse(sdp) else { return Vec::new() };
    let videos = description.medias.iter().filter(|media| media.media == "video");
    let formats = videos.flat_map(|media| &media.attributes).filter(|attribute| attribute.attribute == "fmtp");
    let parameters = formats.filter_map(|attribute| {
        let (format, parameters) = attribute.value.as_deref()?.trim().split_once([' ', '\t'])?;
        (format.parse() == Ok(payload_type)).then_some(parameters)
    });
    let pairs = parameters.flat_map(|parameters| parameters.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let sets = pairs.filter(|(name, _)| NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)));
    sets.map(|(_, value)| value.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_of_the_stream_that_is_asked_for_are_found_and_no_others() {
        let sdp = "v=0\r\no=- 0 0 IN IP4 10.0.0.9\r\ns=Media\r\nt=0 0\r\nm=audio 0 RTP/AVP 97\r\n\
            a=fmtp:97 sprop-sps=no\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
            a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z01AHtk=,aOvBssg=\r\n\
            m=video 0 RTP/AVP 98\r\na=fmtp:98 sprop-vps=QAE=; Sprop-SPS=QgE=; sprop-pps=RAE=\r\n";
        assert_eq!(parameter_sets(sdp.as_bytes(), 96), ["Z01AHtk=,aOvBssg="]);
        assert_eq!(parameter_sets(sdp.as_bytes(), 98), ["QAE=", "QgE=", "RAE="]);
        assert_eq!(parameter_sets(sdp.as_bytes(), 97), [""; 0]);
        assert_eq!(parameter_sets(b"no description", 96), [""; 0]);
    }
}
