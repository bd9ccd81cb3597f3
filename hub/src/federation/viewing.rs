//! A playback of a partner's camera at the requester: a lease renewed every 5 s, and its end.

use super::Federation;
use super::ask::overlaps;
use super::connect::within;
use super::directory::Partner;
use super::error::AskError;
use super::refuse::{self, TOO_FAR_AHEAD};
use super::replies::{Asking, OnBehalf, Replies, bounded};
use bytes::{Bytes, BytesMut};
use campanile_proto::federation::v1::reply::Reply as Content;
use campanile_proto::federation::v1::{GroupListing, LeaseRequest, Listing, Receipt, Refusal, Right, media_part::Part};
use campanile_proto::ids::{AgreementId, CameraId, LeaseId, OrganisationId, RequestId, RunId};
use campanile_proto::kind::Chain;
use campanile_proto::signed;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

const OPEN_SECONDS: u64 = 10;
const RENEW_EVERY: Duration = Duration::from_secs(5);
const CALL_SECONDS: u64 = 4;
/// A group comes from a box behind a slow line.
const GROUP_SECONDS: u64 = 20;
/// How long a group may be waited for that lies too far ahead of the viewer.
const AHEAD_WAIT: Duration = Duration::from_secs(30);
const AHEAD_RETRY: Duration = Duration::from_millis(500);
/// A group of eight seconds of 4K at 60 Mbit/s.
const MAX_MEDIA_BYTES: usize = 64 << 20;
/// A day of groups of half a second, of two streams.
const MAX_GROUPS: usize = 2 * 172_800;
/// Main and sub.
const MAX_VARIANTS: usize = 4;
const MAX_CODECS_BYTES: usize = 64;
const MAX_LEASE_SECONDS: u32 = 60;

/// An interval of a partner's camera.
#[derive(Debug, Clone)]
pub struct PlaybackQuery {
    pub behalf: OnBehalf,
    pub partner: OrganisationId,
    pub camera: CameraId,
    pub from: WallTime,
    pub to: WallTime,
}

/// A cheap handle; the lease is given back when the last one is dropped.
#[derive(Clone)]
pub struct PartnerPlayback(Arc<Viewing>);

struct Viewing {
    lease: Lease,
    listing: Listing,
    inits: Mutex<HashMap<(Stream, RunId), Bytes>>,
    ended: CancellationToken,
    why: Why,
    /// Its task gives the lease back.
    _open: DropGuard,
}

/// What ended a lease, once it has ended.
type Why = Arc<OnceLock<Refusal>>;

#[derive(Clone)]
struct Lease {
    federation: Federation,
    partner: OrganisationId,
    agreement: AgreementId,
    id: LeaseId,
    request: RequestId,
    seconds: Duration,
}

impl Federation {
    pub async fn open_playback(&self, query: PlaybackQuery) -> Result<PartnerPlayback, AskError> {
        // Before anything is asked, so that no revocation slips through in between.
        let revoked = self.0.revoked.subscribe();
        let (partner, agreement) = self.under(query.partner, Right::Playback, &query.behalf, query.camera)?;
        let asking =
            Asking { agreement, right: Right::Playback, cameras: vec![query.camera], from: query.from, to: query.to };
        let (request, private) = self.0.access_request(&partner, &query.behalf, asking);
        let envelope = signed::envelope(&request, self.us(), &self.0.identity.hub);
        let opener = self.0.opener(&partner, query.behalf.request_id, private)?;
        let asked = Instant::now();
        let mut client = self.0.connections.client(&partner);
        let whole = async {
            let stream = client.open(envelope).await?.into_inner();
            let mut replies = Replies::new(stream, opener);
            let mut whole = None;
            while let Some(content) = replies.next().await? {
                let Content::Listing(part) = content else {
                    return Err(AskError::Unexpected("something else than a listing"));
                };
                whole = Some(match whole {
                    None => part,
                    Some(listing) => joined(listing, part).ok_or(AskError::Unexpected("a listing without end"))?,
                });
            }
            whole.ok_or(AskError::Unexpected("no listing"))
        };
        let timed = tokio::time::timeout(Duration::from_secs(OPEN_SECONDS), whole).await;
        let listing = timed.unwrap_or(Err(AskError::TimedOut(OPEN_SECONDS)))?;
        if !is_as_asked(&listing, query.from, query.to) {
            return Err(AskError::Unexpected("a listing outside of the question"));
        }
        let id = LeaseId::try_from(&listing.lease_id).map_err(|_| AskError::Unexpected("a listing without lease"))?;
        let seconds = Duration::from_secs(listing.lease_seconds.clamp(1, MAX_LEASE_SECONDS).into());
        let lease = Lease {
            federation: self.clone(),
            partner: partner.id,
            agreement,
            id,
            request: query.behalf.request_id,
            seconds,
        };
        let (open, ended) = (CancellationToken::new(), CancellationToken::new());
        let why = Why::default();
        tokio::spawn(lease.clone().keep(asked, revoked, open.clone(), ended.clone(), why.clone()));
        let viewing = Viewing { lease, listing, inits: Mutex::default(), ended, why, _open: open.drop_guard() };
        Ok(PartnerPlayback(Arc::new(viewing)))
    }
}

impl PartnerPlayback {
    pub fn listing(&self) -> &Listing {
        &self.0.listing
    }

    /// When the lease has ended: whatever is kept of it must be emptied now.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.ended.clone().cancelled_owned()
    }

    pub fn has_ended(&self) -> bool {
        self.0.ended.is_cancelled()
    }

    /// What ended it, if something but its viewer did.
    pub fn ended_by(&self) -> Option<&Refusal> {
        self.0.why.get()
    }

    pub async fn init(&self, stream: Stream, run: RunId) -> Result<Bytes, AskError> {
        let known = self.inits().get(&(stream, run)).cloned();
        if let Some(init) = known.filter(|_| !self.has_ended()) {
            return Ok(init);
        }
        let init = self.media(|wire| {
            (wire.stream, wire.run_id, wire.init) = (stream.into(), run.into(), true);
        });
        let init = init.await?;
        self.inits().insert((stream, run), init.clone());
        Ok(init)
    }

    /// One group of the listing. Waits while it lies too far ahead of the viewer.
    pub async fn group(&self, stream: Stream, run: RunId, first: u64, last: u64) -> Result<Bytes, AskError> {
        let until = Instant::now() + AHEAD_WAIT;
        loop {
            let group = self.media(|wire| {
                (wire.stream, wire.run_id) = (stream.into(), run.into());
                (wire.first, wire.last) = (first, last);
            });
            match group.await {
                Err(AskError::Refused(refusal)) if refusal.code == TOO_FAR_AHEAD && Instant::now() < until => {
                    tokio::time::sleep(AHEAD_RETRY).await;
                }
                other => return other,
            }
        }
    }

    async fn media(&self, ask: impl FnOnce(&mut LeaseRequest)) -> Result<Bytes, AskError> {
        let whole = tokio::time::timeout(Duration::from_secs(GROUP_SECONDS), self.0.lease.media(ask));
        tokio::select! {
            biased;
            () = self.0.ended.cancelled() => Err(AskError::Ended("the lease is over")),
            media = whole => media.unwrap_or(Err(AskError::TimedOut(GROUP_SECONDS))),
        }
    }

    fn inits(&self) -> std::sync::MutexGuard<'_, HashMap<(Stream, RunId), Bytes>> {
        self.0.inits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub async fn renew(&self) -> Result<(), AskError> {
        self.0.lease.renew().await
    }

    /// Gives the lease back now.
    pub async fn close(&self) {
        self.0.ended.cancel();
        self.inits().clear();
    }
}

impl Lease {
    fn partner(&self) -> Result<Partner, AskError> {
        self.federation.partner(self.partner).ok_or(AskError::UnknownPartner(self.partner))
    }

    async fn media(&self, ask: impl FnOnce(&mut LeaseRequest)) -> Result<Bytes, AskError> {
        let partner = self.partner()?;
        let inner = &self.federation.0;
        let (mut wire, private) = inner.lease_request(&partner, self.id, self.request);
        ask(&mut wire);
        let envelope = signed::envelope(&wire, inner.identity.id, &inner.identity.hub);
        let opener = inner.opener(&partner, self.request, private)?;
        let stream = inner.connections.client(&partner).media(envelope).await?.into_inner();
        let mut replies = Replies::new(stream, opener);
        let mut media = BytesMut::new();
        while let Some(content) = replies.next().await? {
            let part = match content {
                Content::Media(part) => part.part,
                _ => None,
            };
            let (Some(Part::Init(bytes)) | Some(Part::Fragment(bytes))) = part else {
                return Err(AskError::Unexpected("something else than footage"));
            };
            if media.len() + bytes.len() > MAX_MEDIA_BYTES {
                return Err(AskError::Unexpected("more footage than one group can have"));
            }
            media.extend_from_slice(&bytes);
        }
        Ok(media.freeze())
    }

    /// Renews until the playback is dropped or ended, the partner refuses, the agreement is revoked, or no
    /// renewal has succeeded in time. 15 s count from when it was asked.
    async fn keep(
        self,
        opened: Instant,
        mut revoked: broadcast::Receiver<AgreementId>,
        open: CancellationToken,
        ended: CancellationToken,
        why: Why,
    ) {
        let _ended = ended.clone().drop_guard();
        let mut until = opened + self.seconds;
        let mut next = opened + RENEW_EVERY;
        let silent = || refuse::refusal("ENDED", "the partner did not renew it in time");
        let by_us = || refuse::refusal(refuse::REVOKED, "the agreement was revoked");
        let (given_back, because) = loop {
            tokio::select! {
                () = open.cancelled() => break (true, None),
                () = ended.cancelled() => break (true, None),
                () = tokio::time::sleep_until(until) => break (false, Some(silent())),
                agreement = revoked.recv() => match agreement {
                    Ok(agreement) if agreement == self.agreement => break (true, Some(by_us())),
                    // Too many revocations at once to follow: better end than miss ours.
                    Err(_) => break (true, Some(by_us())),
                    Ok(_) => continue,
                },
                () = tokio::time::sleep_until(next) => {}
            }
            let asked = Instant::now();
            next = asked + RENEW_EVERY;
            match tokio::time::timeout_at(until, self.renew()).await {
                Ok(Ok(())) => until = asked + self.seconds,
                Ok(Err(AskError::Refused(refusal))) => {
                    tracing::info!(partner = %self.partner, code = refusal.code, "playback ended by the partner");
                    break (false, Some(refusal));
                }
                Ok(Err(error)) => tracing::warn!(partner = %self.partner, error = %Chain(&error), "lease not renewed"),
                Err(_) => break (false, Some(silent())),
            }
        };
        because.map(|because| why.set(because));
        ended.cancel();
        if given_back && let Err(error) = self.give_back().await {
            tracing::debug!(partner = %self.partner, error = %Chain(&error), "lease not given back; it expires");
        }
    }

    async fn renew(&self) -> Result<(), AskError> {
        let (envelope, mut client) = self.signed()?;
        accepted(within(CALL_SECONDS, client.renew(envelope)).await?.into_inner())
    }

    async fn give_back(&self) -> Result<(), AskError> {
        let (envelope, mut client) = self.signed()?;
        accepted(within(CALL_SECONDS, client.close(envelope)).await?.into_inner())
    }

    fn signed(&self) -> Result<(campanile_proto::federation::v1::SignedEnvelope, super::connect::Client), AskError> {
        let partner = self.partner()?;
        let inner = &self.federation.0;
        let (wire, _) = inner.lease_request(&partner, self.id, self.request);
        let envelope = signed::envelope(&wire, inner.identity.id, &inner.identity.hub);
        Ok((envelope, inner.connections.client(&partner)))
    }
}

/// A listing with what follows it: more groups of variants that the first part named.
fn joined(mut listing: Listing, part: Listing) -> Option<Listing> {
    for more in part.variants {
        let variant = listing.variants.iter_mut().find(|variant| variant.stream == more.stream)?;
        variant.groups.extend(more.groups);
    }
    let groups = listing.variants.iter().map(|variant| variant.groups.len()).sum::<usize>();
    (part.lease_id == listing.lease_id && groups <= MAX_GROUPS).then_some(listing)
}

/// Whether a listing holds nothing that was not asked for, and nothing that could write a playlist of its own:
/// its codecs stand there in quotes (RFC 8216 section 4.3.4.2, RFC 6381).
fn is_as_asked(listing: &Listing, from: WallTime, to: WallTime) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let codecs = |text: &str| text.len() <= MAX_CODECS_BYTES && text.chars().all(plain);
    let within = |group: &GroupListing| {
        let duration = i64::try_from(group.duration_us).unwrap_or(i64::MAX);
        group.first <= group.last && overlaps(group.start_us, group.start_us.saturating_add(duration), (from, to))
    };
    let groups = listing.variants.iter().map(|variant| variant.groups.len()).sum::<usize>();
    listing.variants.len() <= MAX_VARIANTS
        && groups <= MAX_GROUPS
        && listing.variants.iter().all(|variant| codecs(&variant.codecs) && variant.groups.iter().all(within))
}

/// What a receipt says.
pub(super) fn accepted(receipt: Receipt) -> Result<(), AskError> {
    match receipt.refusal {
        None if receipt.accepted => Ok(()),
        refusal => Err(AskError::Refused(bounded(refusal.unwrap_or_default()))),
    }
}
