//! Reading what came in: names in the path, the query, JSON; times, ids, regions. All of it is hostile.

use super::problem::Problem;
use bytes::Bytes;
use campanile_proto::federation::v1::Purpose;
use campanile_proto::grid::CellSet;
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::str::FromStr;

const MAX_REGION_POINTS: usize = 64;
const MAX_LINE_CHARACTERS: usize = 200;
const MAX_TIME_BYTES: usize = 64;

/// A request before anything was believed of it.
pub(super) struct Raw {
    names: HashMap<String, String>,
    query: HashMap<String, String>,
    body: Bytes,
}

impl Raw {
    pub fn new(names: HashMap<String, String>, query: &str, body: Bytes) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.take(32).map(|(key, value)| (key.to_owned(), decoded(value))).collect();
        Self { names, query, body }
    }

    /// A name in the path, such as a camera's id.
    pub fn name<T: FromStr>(&self, name: &'static str) -> Result<T, Problem>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.names.get(name).map(String::as_str).unwrap_or_default();
        text.parse().map_err(|e| Problem::field(name, format!("{e}")))
    }

    /// A value of the query, if it is there. Ids, numbers and times.
    pub fn query<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        let parse = |text: &String| text.parse().map_err(|e| Problem::field(name, format!("{e}")));
        self.query.get(name).map(parse).transpose()
    }

    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Problem::new(Kind::Invalid, "BAD_JSON", format!("the body cannot be read: {e}")))
    }
}

/// Percent-encoded octets (RFC 3986 section 2.1). A plus sign is one: it stands in times.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        match piece.split_at_checked(2).map(|(code, rest)| (u8::from_str_radix(code, 16), rest)) {
            Some((Ok(byte), rest)) => {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            }
            _ => {
                bytes.push(b'%');
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nothing beyond the address is read.
pub(super) fn nothing(_: &super::Web, _: &mut crate::access::Request, _: &Raw) -> Result<(), Problem> {
    Ok(())
}

pub(super) fn id<T: FromStr>(field: &'static str, text: &str) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e| Problem::field(field, format!("{e}")))
}

/// A line a person wrote, trimmed.
pub(super) fn line(field: &'static str, text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if !(1..=MAX_LINE_CHARACTERS).contains(&text.chars().count()) || text.chars().any(char::is_control) {
        return Err(Problem::field(field, format!("write 1 to {MAX_LINE_CHARACTERS} characters")));
    }
    Ok(text.to_owned())
}

/// RFC 3339 with an offset.
pub(super) fn time(field: &'static str, text: &str) -> Result<WallTime, Problem> {
    let wrong = || Problem::field(field, "write a time with its offset, such as 2026-03-01T14:30:00+01:00");
    let text = Some(text).filter(|text| text.len() <= MAX_TIME_BYTES).ok_or_else(wrong)?;
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    Ok(WallTime(at.as_microsecond()))
}

/// `urban-security`, `URBAN_SECURITY` or `PURPOSE_URBAN_SECURITY`. An unknown one is none: the door says so.
pub(super) fn purpose(text: &str) -> Option<Purpose> {
    let name = text.to_ascii_uppercase().replace('-', "_");
    let name = name.strip_prefix("PURPOSE_").unwrap_or(&name);
    Purpose::from_str_name(&format!("PURPOSE_{name}")).filter(|purpose| *purpose != Purpose::Unspecified)
}

/// Points in fractions of the picture.
pub(super) fn region(points: &[[f64; 2]]) -> Result<Option<CellSet>, Problem> {
    if points.is_empty() {
        return Ok(None);
    }
    let inside = points.iter().flatten().all(|v| (0.0..=1.0).contains(v));
    if points.len() > MAX_REGION_POINTS || !inside {
        let sentence = format!("give 1 to {MAX_REGION_POINTS} points as fractions of the picture, from 0 to 1");
        return Err(Problem::field("region", sentence));
    }
    // A point on the far edge belongs to the last cell.
    let clamped: Vec<(f64, f64)> = points.iter().map(|&[x, y]| (x.min(0.999_999), y.min(0.999_999))).collect();
    Ok(Some(CellSet::touched_by(&clamped)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_their_offset() {
        assert_eq!(time("from", "1970-01-01T01:00:00.000001+01:00"), Ok(WallTime(1)));
        for wrong in ["2026-03-01T14:30:00", "yesterday", "", &"9".repeat(100)] {
            assert_eq!(time("from", wrong).unwrap_err().field, Some("from"));
        }
    }

    #[test]
    fn times_in_an_address_come_encoded_or_not() {
        for text in ["2026-03-01T14:30:00+01:00", "2026-03-01T14%3A30%3A00%2B01%3A00"] {
            let raw = Raw::new(HashMap::new(), &format!("from={text}"), Bytes::new());
            let read = raw.query::<String>("from").unwrap().unwrap();
            assert_eq!(time("from", &read), Ok(WallTime(1_772_371_800_000_000)));
        }
        assert_eq!(decoded("%"), "%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }

    #[test]
    fn purposes_are_known_ones() {
        assert_eq!(purpose("urban-security"), Some(Purpose::UrbanSecurity));
        assert_eq!(purpose("PURPOSE_ROAD_SAFETY"), Some(Purpose::RoadSafety));
        assert_eq!(purpose("unspecified"), None);
        assert_eq!(purpose("curiosity"), None);
    }

    #[test]
    fn a_region_lies_in_the_picture() {
        assert_eq!(region(&[]), Ok(None));
        assert_eq!(region(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), Ok(Some(CellSet::FULL)));
        assert!(region(&[[0.0, 1.5]]).is_err());
        assert!(region(&[[f64::NAN, 0.0]]).is_err());
        assert!(region(&[[0.5, 0.5]; 65]).is_err());
    }
}
