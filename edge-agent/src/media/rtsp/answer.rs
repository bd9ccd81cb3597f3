//! What is said over the connection, apart from packets: an HTTP-like head and a body (RFC 2326 sections 4 to 7).

use bytes::Bytes;

/// An answer of the camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// The first part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// None: the camera asks something itself.
    pub status: Option<u16>,
    headers: Vec<(String, String)>,
}

impl Head {
    /// `None` for what is no message of RTSP.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let first = lines.next()?;
        let status = match first.strip_prefix("RTSP/") {
            Some(rest) => Some(rest.split(' ').filter(|word| !word.is_empty()).nth(1)?.parse().ok()?),
            None if first.split(' ').nth(2).is_some_and(|version| version.starts_with("RTSP/")) => None,
            None => return None,
        };
        let fields = lines.filter_map(|line| line.split_once(':'));
        let headers = fields.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        Some(Self { status, headers })
    }

    /// Bytes that follow.
    pub fn body_bytes(&self) -> usize {
        value(&self.headers, "Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// Which question it answers, or asks.
    pub fn number(&self) -> Option<u32> {
        value(&self.headers, "CSeq")?.parse().ok()
    }

    pub fn answer(self, body: Bytes) -> Option<Answer> {
        Some(Answer { status: self.status?, headers: self.headers, body })
    }
}

impl Answer {
    pub fn header(&self, name: &'static str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// Of headers that may stand there several times.
    pub fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        named(&self.headers, name)
    }
}

fn value<'a>(headers: &'a [(String, String)], name: &'static str) -> Option<&'a str> {
    named(headers, name).next()
}

fn named<'a>(headers: &'a [(String, String)], name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whatever_the_case_of_its_headers() {
        let head = Head::parse(
            b"RTSP/1.0 401 Unauthorized\r\ncseq: 3\r\nWWW-Authenticate: Basic realm=\"a\"\r\n\
            www-authenticate: Digest realm=\"b\"\r\nContent-length: 7",
        )
        .unwrap();
        assert_eq!((head.status, head.number(), head.body_bytes()), (Some(401), Some(3), 7));
        let answer = head.answer(Bytes::new()).unwrap();
        let challenges: Vec<&str> = answer.all("WWW-Authenticate").collect();
        assert_eq!(challenges, ["Basic realm=\"a\"", "Digest realm=\"b\""]);
        assert_eq!(answer.header("Session"), None);
    }

    #[test]
    fn a_question_of_the_camera_is_no_answer_and_noise_is_neither() {
        let head = Head::parse(b"OPTIONS rtsp://box RTSP/1.0\nCSeq: 9").unwrap();
        assert_eq!((head.status, head.number()), (None, Some(9)));
        assert_eq!(head.answer(Bytes::new()), None);
        for noise in [&b"HTTP/1.1 200 OK"[..], b"RTSP/1.0", b"RTSP/1.0 many OK", b"", b"Rubbish"] {
            assert_eq!(Head::parse(noise), None);
        }
    }
}
