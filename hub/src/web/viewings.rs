//! Playbacks that are open: whose they are, what they may fetch, when they end.

use super::Web;
use super::problem::Problem;
use crate::access::{Pass, Principal};
use crate::federation::PartnerPlayback;
use crate::holds::HeldPlayback;
use crate::hub::Hub;
use bytes::Bytes;
use campanile_proto::federation::v1::Listing;
use campanile_proto::ids::{CameraId, RequestId, RunId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{Clock, MICROS_PER_SECOND, MonoTime, WallTime};
use campanile_proto::types::v1::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A paused player asks for nothing; after this it opens anew.
const IDLE_US: i64 = 900 * MICROS_PER_SECOND;
/// A partner's lease is renewed for a viewer, and a page that is open asks every two seconds.
const PARTNER_IDLE_US: i64 = 60 * MICROS_PER_SECOND;
/// How long the reason of an end is remembered, to be told.
const REMEMBERED_US: i64 = 120 * MICROS_PER_SECOND;
pub(super) const ABSOLUTE_US: i64 = 4 * 3_600 * MICROS_PER_SECOND;
/// Of one person: a wall of tiles.
const MAX_PER_PERSON: usize = 32;
const MAX_IN_ALL: usize = 500;
const REAP_EVERY: Duration = Duration::from_secs(5);

pub(super) enum Source {
    Own(CameraId),
    /// From a hold's copy.
    Held(Box<HeldPlayback>),
    Partner(PartnerPlayback),
}

pub(super) struct Viewing {
    pub source: Source,
    pub listing: Listing,
    /// Open in the register as long as this lives.
    pub pass: Pass,
    opened: MonoTime,
    seen: Mutex<MonoTime>,
}

pub(super) struct Viewings {
    open: Mutex<HashMap<RequestId, Arc<Viewing>>>,
    /// Whose playback was ended by its owner, why and when.
    over: Mutex<HashMap<RequestId, (Principal, Problem, MonoTime)>>,
    clock: Arc<dyn Clock>,
}

impl Viewing {
    pub fn has_group(&self, stream: Stream, run: RunId, first: u64, last: u64) -> bool {
        self.groups(stream).any(|group| {
            group.run_id.as_ref() == run.as_bytes().as_slice() && group.first == first && group.last == last
        })
    }

    pub fn has_run(&self, stream: Stream, run: RunId) -> bool {
        self.groups(stream).any(|group| group.run_id.as_ref() == run.as_bytes().as_slice())
    }

    fn groups(&self, stream: Stream) -> impl Iterator<Item = &campanile_proto::federation::v1::GroupListing> {
        self.listing.variants.iter().filter(move |variant| variant.stream() == stream).flat_map(|v| &v.groups)
    }

    pub async fn init(&self, hub: &Hub, stream: Stream, run: RunId) -> Result<Bytes, Problem> {
        match &self.source {
            Source::Own(camera) => {
                let init = hub.playback.init(self.pass.request_id(), *camera, stream, run).await;
                init.map_err(|e| Problem::of("play", e.kind(), &e))
            }
            Source::Held(playback) => {
                let init = playback.init(self.pass.request_id(), stream, run).await;
                init.map_err(|e| Problem::of("play what is held", e.kind(), &e))
            }
            Source::Partner(playback) => playback.init(stream, run).await.map_err(|e| Problem::of_partner(&e)),
        }
    }

    pub async fn group(&self, hub: &Hub, stream: Stream, run: RunId, first: u64, last: u64) -> Result<Bytes, Problem> {
        match &self.source {
            Source::Own(camera) => {
                let zero = WallTime(self.listing.zero_us);
                let group = hub.playback.group(self.pass.request_id(), *camera, stream, run, (first, last), zero).await;
                group.map_err(|e| Problem::of("play", e.kind(), &e))
            }
            Source::Held(playback) => {
                let group = playback.group(self.pass.request_id(), stream, run, (first, last)).await;
                group.map_err(|e| Problem::of("play what is held", e.kind(), &e))
            }
            Source::Partner(playback) => {
                playback.group(stream, run, first, last).await.map_err(|e| Problem::of_partner(&e))
            }
        }
    }

    /// Why it has ended, if a partner has ended what it released.
    fn ended(&self) -> Option<Problem> {
        let Source::Partner(playback) = &self.source else { return None };
        if !playback.has_ended() {
            return None;
        }
        let ended = || Problem::new(Kind::Expired, "ENDED", "its owner has ended this playback");
        Some(playback.ended_by().map_or_else(ended, |refusal| Problem {
            clause: refusal.clause.clone(),
            ..Problem::new(Kind::Expired, &refusal.code, refusal.sentence.clone())
        }))
    }

    fn is_idle(&self, now: MonoTime) -> bool {
        let most = if matches!(self.source, Source::Partner(_)) { PARTNER_IDLE_US } else { IDLE_US };
        now - *self.seen.lock().unwrap_or_else(PoisonError::into_inner) > most
    }
}

impl Viewings {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { open: Mutex::default(), over: Mutex::default(), clock }
    }

    pub fn add(&self, source: Source, listing: Listing, pass: Pass) -> Result<RequestId, Problem> {
        let (id, now) = (pass.request_id(), self.clock.mono());
        let mut open = self.lock();
        let who = &pass.request().principal;
        let mine = open.values().filter(|viewing| viewing.pass.request().principal == *who).count();
        if mine >= MAX_PER_PERSON || open.len() >= MAX_IN_ALL {
            return Err(Problem::new(Kind::Exhausted, "TOO_MANY_PLAYBACKS", "close another playback first"));
        }
        open.insert(id, Arc::new(Viewing { source, listing, pass, opened: now, seen: Mutex::new(now) }));
        Ok(id)
    }

    /// An open playback of this person; being asked for renews it.
    pub fn get(&self, id: RequestId, who: &Principal) -> Result<Arc<Viewing>, Problem> {
        let viewing = self.lock().get(&id).cloned().ok_or_else(|| self.why_over(id, who))?;
        if viewing.pass.request().principal != *who {
            return Err(self.why_over(id, who));
        }
        if let Some(why) = viewing.ended() {
            return Err(why);
        }
        *viewing.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.mono();
        Ok(viewing)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// What the person whose playback it was hears of it; anybody else as of one that never was.
    fn why_over(&self, id: RequestId, who: &Principal) -> Problem {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = over.get(&id).filter(|(whose, ..)| whose == who).map(|(_, why, _)| why.clone());
        theirs
            .unwrap_or_else(|| Problem::new(Kind::Expired, "PLAYBACK_ENDED", "this playback has ended; open it again"))
    }

    fn remember(&self, viewing: &Viewing, now: MonoTime) {
        let Some(why) = viewing.ended() else { return };
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        over.retain(|_, (_, _, at)| now - *at < REMEMBERED_US);
        over.insert(viewing.pass.request_id(), (viewing.pass.request().principal.clone(), why, now));
    }

    pub async fn close(&self, id: RequestId) {
        let viewing = self.lock().remove(&id);
        if let Some(viewing) = viewing {
            finish(viewing).await;
        }
    }

    /// Closes everything of one person.
    pub async fn close_of(&self, label: &str) {
        self.close_where(|viewing| viewing.pass.request().principal.label() == label).await;
    }

    pub async fn close_all(&self) {
        self.close_where(|_| true).await;
    }

    async fn close_where(&self, is_over: impl Fn(&Viewing) -> bool) {
        let over: Vec<Arc<Viewing>> = {
            let mut open = self.lock();
            let ids: Vec<RequestId> = open.iter().filter(|(_, v)| is_over(v)).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| open.remove(id)).collect()
        };
        futures::future::join_all(over.into_iter().map(finish)).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Arc<Viewing>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn finish(viewing: Arc<Viewing>) {
    // A group still on its way holds it; then its end closes the entry.
    if let Some(viewing) = Arc::into_inner(viewing) {
        if let Source::Partner(playback) = &viewing.source {
            playback.close().await;
        }
        viewing.pass.close(0, 0).await;
    }
}

/// Ends what is idle, too old, or ended by its owner, until `stop`.
pub(super) async fn reap(web: Arc<Web>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(REAP_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = web.hub.clock.mono();
        let is_over = |viewing: &Viewing| {
            web.viewings.remember(viewing, now);
            viewing.is_idle(now) || now - viewing.opened > ABSOLUTE_US || viewing.ended().is_some()
        };
        web.viewings.close_where(is_over).await;
    }
}
