//! What the owner releases: search, thumbnail, playback. Each in the same order: read strictly, seen for
//! the first time, let in by the door with a durable register entry, then found and sealed.

use super::Inner;
use super::answer::Sealed;
use super::directory::Partner;
use super::lease::{LEASE_SECONDS, Terms};
use super::owner::{Entry, NotReleased, Owner, Wanted};
use super::refuse::{self, not_granted, refusal, unavailable};
use super::request::{self, Access, Part};
use crate::access::{Action, Principal, Request};
use bytes::Bytes;
use campanile_proto::federation::v1::reply::Reply as Content;
use campanile_proto::federation::v1::{
    AccessRequest, LeaseRequest, Listing, MediaPart, Refusal, Right, SearchEnd, SignedEnvelope, ThumbnailImage,
    VariantListing, media_part,
};
use campanile_proto::ids::AgreementId;
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use std::sync::Arc;

/// Of one part of a group: half a MiB, so that a revocation acts between two.
const PART_BYTES: usize = 512 << 10;
/// Of one part of a listing: some 45 bytes each.
const GROUPS_AT_ONCE: usize = 10_000;

/// One partner's request and the hub it reached.
pub(super) struct Asked<'a> {
    pub federation: &'a Inner,
    pub owner: &'a Arc<dyn Owner>,
    pub partner: &'a Partner,
    pub envelope: &'a SignedEnvelope,
}

impl Asked<'_> {
    /// Lets one request for access in. Whatever refuses it, the register has an entry.
    async fn admit(&self, right: Right, action: Action) -> Result<(Access, Entry), Refusal> {
        let access = match self.judge(right).await {
            Ok(access) => access,
            Err(refusal) => {
                let who = Principal::Partner { organisation: self.partner.id }.label();
                self.owner.note_refused(action.refused_act(), who, refusal.code.clone()).await;
                return Err(refusal);
            }
        };
        let interval = (access.from, access.to);
        let entry = self.owner.enter(self.at_door(action, &access, interval, access.expires)).await?;
        Ok((access, entry))
    }

    /// Reads and checks, and notes the request as seen.
    async fn judge(&self, right: Right) -> Result<Access, Refusal> {
        let wire: AccessRequest = request::open(self.envelope)?;
        let now = self.federation.clock.utc();
        let access = request::check_access(&wire, self.partner.id, self.federation.identity.id, now)?;
        if access.right != right {
            return Err(refuse::malformed("right must be the one this method needs"));
        }
        let remembered = access.expires.plus_micros(request::MAX_TERM_US);
        match self.federation.store.first_seen(self.partner.id, access.id, remembered, now).await {
            Ok(true) => Ok(access),
            Ok(false) => Err(refusal(refuse::REPLAYED, "this request was answered already; send a fresh one")),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "request not noted");
                Err(unavailable())
            }
        }
    }

    fn at_door(&self, action: Action, access: &Access, interval: (WallTime, WallTime), expires: WallTime) -> Request {
        Request {
            id: access.id,
            purpose: Some(access.purpose),
            case_number: Some(access.case_number.clone()),
            cameras: access.cameras.clone(),
            interval: Some(interval),
            agreement: Some(access.agreement),
            audience: Some(self.federation.identity.id),
            expires: Some(expires),
            operator_pseudonym: Some(access.operator_pseudonym.clone()),
            role: Some(access.role.clone()),
            ..Request::new(Principal::Partner { organisation: self.partner.id }, action)
        }
    }

    pub async fn search(&self, reply: &mut Sealed) -> Result<(), Refusal> {
        let (access, entry) = self.admit(Right::Search, Action::PartnerSearch).await?;
        // No camera would mean every camera to the search behind.
        if entry.cameras.is_empty() {
            entry.close(0, 0).await;
            return Err(not_granted(""));
        }
        let found = self.find(reply, &access, &entry).await;
        entry.close(*found.as_ref().unwrap_or(&0), reply.bytes()).await;
        found.map(drop)
    }

    /// Sends what a search finds; how many hits.
    async fn find(&self, reply: &mut Sealed, access: &Access, entry: &Entry) -> Result<u64, Refusal> {
        let limit = access.limit as usize;
        let wanted = Wanted {
            from: access.from,
            to: access.to,
            cameras: entry.cameras.clone(),
            words: access.words.clone(),
            region: access.region,
            limit: limit + 1,
        };
        // The cameras first: they tell the asker at once that somebody is at work.
        let cards = self.owner.cards(entry.cameras.clone()).await.map_err(|error| self.said(&error))?;
        self.send_all(reply, access.agreement, cards.into_iter().map(Content::Camera)).await?;
        let mut hits = self.owner.search(wanted).await.map_err(|error| self.said(&error))?;
        hits.retain(|hit| entry.cameras.iter().any(|camera| hit.camera_id.as_ref() == camera.as_bytes().as_slice()));
        let truncated = hits.len() > limit;
        hits.truncate(limit);
        let count = hits.len() as u64;
        self.send_all(reply, access.agreement, hits.into_iter().map(Content::Hit)).await?;
        let _ = reply.send(Content::End(SearchEnd { count, truncated }), true).await;
        Ok(count)
    }

    /// Until nobody reads any more, or the agreement was revoked.
    async fn send_all(
        &self,
        reply: &mut Sealed,
        agreement: AgreementId,
        contents: impl Iterator<Item = Content>,
    ) -> Result<(), Refusal> {
        for content in contents {
            self.stands(agreement)?;
            if reply.send(content, false).await.is_err() {
                break;
            }
        }
        self.stands(agreement)
    }

    /// What was let in a moment ago may be revoked by now.
    fn stands(&self, agreement: AgreementId) -> Result<(), Refusal> {
        match self.federation.is_revoked(agreement) {
            true => Err(refusal(refuse::REVOKED, "the agreement was revoked")),
            false => Ok(()),
        }
    }

    pub async fn thumbnail(&self, reply: &mut Sealed) -> Result<(), Refusal> {
        let (access, entry) = self.admit(Right::Thumbnail, Action::PartnerThumbnail).await?;
        let picture = match access.event {
            Some(event) => self.owner.picture(event).await,
            None => Ok(None),
        };
        let picture = match picture {
            Ok(picture) => picture,
            Err(error) => return Err(self.not_released(entry, error).await),
        };
        let within = |camera, start| entry.cameras.contains(&camera) && access.from <= start && start < access.to;
        let Some(picture) = picture.filter(|picture| within(picture.camera, picture.start)) else {
            let clause = entry.clause.clone();
            entry.close(0, 0).await;
            return Err(not_granted(&clause));
        };
        if let Err(revoked) = self.stands(access.agreement) {
            entry.close(0, 0).await;
            return Err(revoked);
        }
        let _ = reply.send(Content::Thumbnail(ThumbnailImage { jpeg: picture.jpeg }), true).await;
        entry.close(1, reply.bytes()).await;
        Ok(())
    }

    /// Opens a lease: the listing of one interval of one camera.
    pub async fn open(&self, reply: &mut Sealed) -> Result<(), Refusal> {
        let (access, entry) = self.admit(Right::Playback, Action::PartnerPlayback).await?;
        let [camera] = entry.cameras[..] else {
            entry.close(0, 0).await;
            return Err(refuse::malformed("camera_ids: a playback names one camera"));
        };
        let mut listing = match self.owner.listing(access.id, camera, access.from, access.to).await {
            Ok(listing) => listing,
            Err(error) => return Err(self.not_released(entry, error).await),
        };
        let agreement = access.agreement;
        let terms = Terms::new(self.partner.id, access, camera, &listing);
        let id = self.federation.leases.open(terms, entry, self.federation.clock.mono())?;
        // Revoked while the listing was made: the lease that opened after the others ended ends too.
        if let Err(revoked) = self.stands(agreement) {
            self.federation.end_leases(agreement).await;
            return Err(revoked);
        }
        listing.lease_id = id.into();
        listing.lease_seconds = LEASE_SECONDS;
        let parts = split_listing(listing);
        let last = parts.len() - 1;
        for (at, part) in parts.into_iter().enumerate() {
            if reply.send(Content::Listing(part), at == last).await.is_err() {
                break;
            }
        }
        self.federation.leases.sent(id, 0, reply.bytes(), self.federation.clock.mono());
        Ok(())
    }

    /// Init section or one group under a lease.
    pub async fn media(&self, reply: &mut Sealed) -> Result<(), Refusal> {
        let wire: LeaseRequest = request::open(self.envelope)?;
        let (stream, run, part) = request::check_part(&wire)?;
        let (leased, terms) = self.leased(&wire)?;
        self.decide_again(&terms, terms.time(stream, run, part)?).await?;
        let now = self.federation.clock.mono();
        self.federation.leases.admit(&leased, self.partner.id, (stream, run, part), now)?;
        let media = match part {
            Part::Init => self.owner.init(terms.access.id, terms.camera, stream, run).await,
            Part::Group { first, last } => {
                self.owner.group(terms.access.id, terms.camera, stream, run, (first, last), terms.zero).await
            }
        };
        let media = media.map_err(|error| {
            self.federation.leases.not_sent(&leased, (stream, run, part));
            self.said(&error)
        })?;
        let lease = leased.lease;
        let alive = |items, bytes| self.federation.leases.sent(lease, items, bytes, self.federation.clock.mono());
        // It may have been revoked while the box was asked.
        if !alive(1, 0) {
            return Err(refusal(refuse::NO_LEASE, "the lease has ended"));
        }
        let parts = split(media);
        let last = parts.len().saturating_sub(1);
        for (at, bytes) in parts.into_iter().enumerate() {
            let size = bytes.len() as u64;
            let part = match part {
                Part::Init => media_part::Part::Init(bytes),
                Part::Group { .. } => media_part::Part::Fragment(bytes),
            };
            if reply.send(Content::Media(MediaPart { part: Some(part) }), at == last).await.is_err() {
                return Ok(());
            }
            if !alive(0, size) && at < last {
                return Err(refusal(refuse::NO_LEASE, "the lease has ended"));
            }
        }
        Ok(())
    }

    pub async fn renew(&self) -> Result<(), Refusal> {
        let wire: LeaseRequest = request::open(self.envelope)?;
        let (leased, terms) = self.leased(&wire)?;
        self.decide_again(&terms, None).await?;
        self.federation.leases.renew(&leased, self.partner.id, self.federation.clock.mono())
    }

    pub async fn close(&self) -> Result<(), Refusal> {
        let wire: LeaseRequest = request::open(self.envelope)?;
        let now = self.federation.clock.utc();
        let leased = request::check_leased(&wire, self.partner.id, self.federation.identity.id, now)?;
        let by = Principal::Partner { organisation: self.partner.id };
        self.owner.enter(Request::new(by, Action::PartnerClose)).await?.close(0, 0).await;
        if let Some(ended) = self.federation.leases.close(&leased, self.partner.id) {
            ended.close().await;
        }
        Ok(())
    }

    fn leased(&self, wire: &LeaseRequest) -> Result<(request::Leased, Arc<Terms>), Refusal> {
        let clock = &self.federation.clock;
        let leased = request::check_leased(wire, self.partner.id, self.federation.identity.id, clock.utc())?;
        let terms = self.federation.leases.terms(&leased, self.partner.id, clock.mono())?;
        Ok((leased, terms))
    }

    /// The door decides every time, so that a revocation or a date acts at once. A group is judged by its own
    /// time, a renewal by the end of the interval.
    async fn decide_again(&self, terms: &Terms, time: Option<(WallTime, WallTime)>) -> Result<(), Refusal> {
        let now = self.federation.clock.utc();
        let end = terms.access.to.min(now);
        let interval = time.unwrap_or((end.plus_micros(-MICROS_PER_SECOND), end));
        let expires = now.plus_micros(i64::from(LEASE_SECONDS) * MICROS_PER_SECOND);
        let entry = self.owner.enter(self.at_door(Action::PartnerLease, &terms.access, interval, expires)).await?;
        entry.close(0, 0).await;
        Ok(())
    }

    async fn not_released(&self, entry: Entry, error: NotReleased) -> Refusal {
        entry.close(0, 0).await;
        self.said(&error)
    }

    /// Logs what failed; the partner hears little of it.
    fn said(&self, error: &NotReleased) -> Refusal {
        tracing::warn!(partner = %self.partner.id, error = %Chain(error), "not released");
        match error.kind {
            Kind::NotFound | Kind::Expired => refuse::nothing_recorded(),
            Kind::Denied => not_granted(""),
            Kind::Exhausted => refusal(refuse::BUSY, "too much is asked at once; try again later"),
            _ => unavailable(),
        }
    }
}

/// A listing in parts of at most so many groups: a day of them does not fit into one message. The first part
/// says everything but the groups that follow; they belong to the variant of their stream.
fn split_listing(mut listing: Listing) -> Vec<Listing> {
    let mut rest: Vec<VariantListing> = Vec::new();
    let mut room = GROUPS_AT_ONCE;
    for variant in &mut listing.variants {
        let more = variant.groups.split_off(variant.groups.len().min(room));
        room -= variant.groups.len();
        for groups in more.chunks(GROUPS_AT_ONCE) {
            rest.push(VariantListing { stream: variant.stream, groups: groups.to_vec(), ..Default::default() });
        }
    }
    let (lease_id, lease_seconds, zero_us) = (listing.lease_id.clone(), listing.lease_seconds, listing.zero_us);
    let following = |variant| Listing { lease_id: lease_id.clone(), lease_seconds, zero_us, variants: vec![variant] };
    let mut parts = vec![listing];
    parts.extend(rest.into_iter().map(following));
    parts
}

/// At least one part, even of nothing.
fn split(media: Bytes) -> Vec<Bytes> {
    let mut rest = media;
    let mut parts = Vec::new();
    while rest.len() > PART_BYTES {
        parts.push(rest.split_to(PART_BYTES));
    }
    parts.push(rest);
    parts
}
