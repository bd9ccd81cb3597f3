//! What the hub knows of a hold, put together for its account.

use super::account::{self, Known, Part, Span};
use super::store::{HeldFragment, HeldSegment};
use super::take::STREAMS;
use super::{Hold, Holds, HoldsError, State, cover};
use campanile_proto::ids::{CameraId, SegmentId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::Stream;
use std::collections::HashMap;

/// What became of every second of one camera and stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAccount {
    pub camera: CameraId,
    pub stream: Stream,
    pub parts: Vec<Part>,
}

impl Holds {
    /// Of every camera and stream of a hold: as it is now while copies are made, as it was last reckoned afterwards.
    pub async fn account(&self, hold: &Hold) -> Result<Vec<StreamAccount>, HoldsError> {
        match self.state(hold) {
            State::Copying => self.reckoned(hold).await,
            _ => Ok(self.0.store.account(hold.id).await?),
        }
    }

    pub(super) async fn reckoned(&self, hold: &Hold) -> Result<Vec<StreamAccount>, HoldsError> {
        let cameras = self.0.parts.catalog.cameras().await.map_err(HoldsError::Catalog)?;
        let mut accounts = Vec::new();
        for id in &hold.terms.cameras {
            let segments = self.0.store.segments(hold.id, *id).await?;
            let described = cameras.iter().find(|camera| camera.id == *id);
            for stream in STREAMS {
                let of_stream = |held: &&HeldSegment| held.stream == stream;
                let segments: Vec<&HeldSegment> = segments.iter().filter(of_stream).collect();
                let described = described.is_some_and(|camera| camera.streams.iter().any(|s| s.stream() == stream));
                if segments.is_empty() && !described && stream != Stream::Main {
                    continue;
                }
                let known = self.known(hold, (*id, stream), &segments).await?;
                let parts = account::account(hold.terms.from, hold.terms.to, self.now(), &known);
                accounts.push(StreamAccount { camera: *id, stream, parts });
            }
        }
        Ok(accounts)
    }

    async fn known(
        &self,
        hold: &Hold,
        (camera, stream): (CameraId, Stream),
        segments: &[&HeldSegment],
    ) -> Result<Known, HoldsError> {
        let fragments = self.0.store.fragments(hold.id, camera, stream).await?;
        let gaps = self.0.parts.catalog.gaps(camera, hold.terms.from, hold.terms.to).await;
        let gaps = gaps.map_err(HoldsError::Catalog)?.into_iter().filter(|gap| gap.stream == stream);
        let cause = |gap: &crate::catalog::GapRow| {
            gap.cause.as_str_name().trim_start_matches("CAMERA_CONDITION_").to_lowercase().replace('_', "-")
        };
        let trouble = self.troubles().get(&(hold.id, camera)).cloned().unwrap_or_default();
        let mut known =
            Known { gaps: gaps.map(|gap| (Span::new(gap.start, gap.end), cause(&gap))).collect(), ..Known::default() };
        let by_id: HashMap<SegmentId, &HeldSegment> = segments.iter().map(|held| (held.id, *held)).collect();
        known.held = spans(fragments.iter().filter(|held| held.at.is_some()));
        let is_lost = |held: &&HeldFragment| by_id.get(&held.segment).is_some_and(|s| !s.lost.is_empty());
        let missing = fragments.iter().filter(|held| held.at.is_none() && !is_lost(held));
        known.waiting = spans(missing).into_iter().map(|span| (span, trouble.clone())).collect();
        for segment in segments {
            let span = Span::new(segment.start, segment.end);
            match (segment.lost.is_empty(), segment.narrowed) {
                (false, _) => known.lost.push((span, segment.lost.clone())),
                (true, false) => known.waiting.push((span, trouble.clone())),
                (true, true) => {}
            }
        }
        Ok(known)
    }
}

/// Fragments in a row as one span, whatever their packets' jitter says.
fn spans<'a>(fragments: impl Iterator<Item = &'a HeldFragment>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut last = None;
    for HeldFragment { fragment, .. } in fragments {
        let end: WallTime = cover::end(fragment);
        let follows = last == Some((fragment.run, fragment.index));
        last = Some((fragment.run, fragment.index + 1));
        match spans.last_mut().filter(|_| follows) {
            Some(span) => span.to = span.to.max(end),
            None => spans.push(Span::new(fragment.arrival, end)),
        }
    }
    spans
}
