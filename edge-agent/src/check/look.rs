//! A few seconds of one stream.

use crate::media::{
    AccessUnit, Address, Codec, Item, Losses, Opener, Source, SourceError, StreamFormat, TICKS_PER_SECOND,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A connection, and a key frame: a camera that sends one each ten seconds is still seen.
const FIRST_PICTURE: Duration = Duration::from_secs(12);
/// From the first picture: a sender report comes each five seconds (RFC 3550 section 6.2).
const AT_LEAST: Duration = Duration::from_secs(6);
/// For groups longer than that.
const AT_MOST: Duration = Duration::from_secs(15);
/// Whole groups after which bit rate and group are known.
const GROUPS: usize = 2;

/// What a stream showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub codec: Codec,
    pub width: u32,
    pub height: u32,
    pub frames_per_second: Option<f64>,
    /// Mean time from key frame to key frame; none: fewer than two were seen.
    pub group_seconds: Option<f64>,
    /// Over whole groups where there are any.
    pub bits_per_second: Option<f64>,
    /// The camera's clock minus this box's at arrival, and so less by what the picture took to get here; none:
    /// the camera sent no sender report.
    pub clock_offset_us: Option<i64>,
    /// How long it was looked at.
    pub watched_seconds: f64,
    pub lost_packets: u64,
}

/// Opens a stream and looks; ends within [`FIRST_PICTURE`] and [`AT_MOST`] together, and what closing takes.
pub(super) async fn look(opener: Arc<dyn Opener>, address: Address) -> Result<Seen, SourceError> {
    let began = Instant::now();
    let opening = tokio::task::spawn_blocking(move || opener.open(&address));
    let late = || SourceError::NoBytes(FIRST_PICTURE.as_secs());
    let opened = timeout_at(began + FIRST_PICTURE, opening).await.map_err(|_| late())?;
    let mut source = opened.map_err(|error| SourceError::Machine(error.to_string()))??;
    let watched = watch(&mut source, began).await;
    let losses = source.losses.clone();
    source.close().await;
    watched.and_then(|pictures| pictures.sum_up(&losses).ok_or_else(late))
}

async fn watch(source: &mut Source, began: Instant) -> Result<Pictures, SourceError> {
    let mut pictures = Pictures::default();
    let mut ends = began + FIRST_PICTURE;
    let mut first = None;
    loop {
        let item = match timeout_at(ends, source.items.recv()).await {
            Ok(Some(item)) => item,
            Ok(None) => Err(SourceError::Ended("no reason was given".into())),
            Err(_) if first.is_some() => return Ok(pictures),
            Err(_) => return Err(SourceError::NoBytes(FIRST_PICTURE.as_secs())),
        };
        match item? {
            Item::Format(format) => pictures.format = Some(format),
            Item::Lost { .. } => {}
            Item::Unit(unit) => {
                source.waiting.give_back(unit.data.len());
                pictures.take(&unit);
                let first = *first.get_or_insert_with(Instant::now);
                ends = first + AT_MOST;
                if pictures.groups() >= GROUPS && first.elapsed() >= AT_LEAST {
                    return Ok(pictures);
                }
            }
        }
    }
}

/// One picture's share of what is summed up.
#[derive(Debug, Clone, Copy)]
struct Picture {
    pts_90k: i64,
    bytes: usize,
    key: bool,
}

#[derive(Debug, Default)]
struct Pictures {
    format: Option<Arc<StreamFormat>>,
    seen: Vec<Picture>,
    offsets_us: Vec<i64>,
}

impl Pictures {
    fn take(&mut self, unit: &AccessUnit) {
        self.seen.push(Picture { pts_90k: unit.pts_90k, bytes: unit.data.len(), key: unit.key });
        if unit.camera_ntp_us != 0 {
            self.offsets_us.push(unit.camera_ntp_us.saturating_sub(unit.arrival.utc_us));
        }
    }

    /// Whole ones.
    fn groups(&self) -> usize {
        self.seen.iter().filter(|picture| picture.key).count().saturating_sub(1)
    }

    fn sum_up(mut self, losses: &Losses) -> Option<Seen> {
        let format = self.format.take()?;
        let seconds = |from: i64, to: i64| (to > from).then(|| (to - from) as f64 / TICKS_PER_SECOND as f64);
        let (first, last) = (self.seen.iter().map(|p| p.pts_90k).min()?, self.seen.iter().map(|p| p.pts_90k).max()?);
        let span = seconds(first, last);
        let keys: Vec<usize> = (0..self.seen.len()).filter(|at| self.seen[*at].key).collect();
        let whole = match (keys.first(), keys.last()) {
            (Some(from), Some(to)) if from < to => Some((*from, *to)),
            _ => None,
        };
        let (from, to) = whole.unwrap_or((0, self.seen.len() - 1));
        let counted = seconds(self.seen[from].pts_90k, self.seen[to].pts_90k);
        let bytes: usize = self.seen[from..to].iter().map(|picture| picture.bytes).sum();
        // The middle one: a sender report that came late moves a few.
        self.offsets_us.sort_unstable();
        Some(Seen {
            codec: format.codec,
            width: format.width,
            height: format.height,
            frames_per_second: span.map(|span| (self.seen.len() - 1) as f64 / span),
            group_seconds: whole.and(counted).map(|counted| counted / (keys.len() - 1) as f64),
            bits_per_second: counted.map(|counted| bytes as f64 * 8.0 / counted),
            clock_offset_us: self.offsets_us.get(self.offsets_us.len() / 2).copied(),
            watched_seconds: span.unwrap_or(0.0),
            lost_packets: losses.packets.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::types::v1::Instant;

    /// Four pictures a second, a key frame of 1,000 bytes each second, 100 bytes the others, the camera 7 ms ahead.
    fn pictures(count: i64) -> Pictures {
        let format =
            StreamFormat { codec: Codec::H264, width: 640, height: 360, decoder_configuration: Default::default() };
        let mut pictures = Pictures { format: Some(Arc::new(format)), ..Pictures::default() };
        for at in 0..count {
            let key = at % 4 == 0;
            let utc_us = 1_000_000 + at * 250_000;
            pictures.take(&AccessUnit {
                data: vec![0; if key { 1_000 } else { 100 }].into(),
                pts_90k: at * 22_500,
                rtp_time: 0,
                camera_ntp_us: utc_us + 7_000,
                key,
                arrival: Instant { utc_us, ..Instant::default() },
            });
        }
        pictures
    }

    #[test]
    fn rates_are_counted_over_whole_groups() {
        let seen = pictures(11).sum_up(&Losses::default()).unwrap();
        assert_eq!((seen.frames_per_second, seen.group_seconds), (Some(4.0), Some(1.0)));
        assert_eq!(seen.bits_per_second, Some(1_300.0 * 8.0));
        assert_eq!(seen.clock_offset_us, Some(7_000));
    }

    #[test]
    fn a_group_longer_than_the_look_is_not_guessed() {
        let seen = pictures(3).sum_up(&Losses::default()).unwrap();
        assert_eq!((seen.group_seconds, seen.frames_per_second), (None, Some(4.0)));
        assert_eq!(seen.bits_per_second, Some(1_100.0 * 8.0 / 0.5));
        let one = pictures(1).sum_up(&Losses::default()).unwrap();
        assert_eq!((one.frames_per_second, one.bits_per_second), (None, None));
        assert!(Pictures::default().sum_up(&Losses::default()).is_none());
    }
}
