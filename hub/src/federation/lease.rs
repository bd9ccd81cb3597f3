//! Leases at the owner: which partner may see which interval of which camera, until when, how far ahead.
//! Time is a parameter: the owner's monotonic clock.

use super::owner::Entry;
use super::refuse::{self, refusal};
use super::request::{Access, Leased, Part};
use campanile_proto::federation::v1::{Listing, Refusal};
use campanile_proto::ids::{AgreementId, CameraId, LeaseId, OrganisationId, RunId};
use campanile_proto::time::{MICROS_PER_SECOND, MonoTime, WallTime};
use campanile_proto::types::v1::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Seconds a lease lives without renewal.
pub const LEASE_SECONDS: u32 = 15;
const LEASE_US: i64 = LEASE_SECONDS as i64 * MICROS_PER_SECOND;
/// Viewing time sent ahead of the viewer, per stream.
const AHEAD_US: i64 = 30 * MICROS_PER_SECOND;
/// Whoever jumps has emptied his buffer and starts anew; not more often than this.
const JUMP_US: i64 = 2 * MICROS_PER_SECOND;
/// What can be sent of one stream before the time it takes to view it has passed, however often somebody jumps:
/// a buffer, and three jumps in a row.
const BURST_US: i64 = 4 * AHEAD_US;
/// How long the end of a lease is remembered, to be named.
const REMEMBERED_US: i64 = 60 * MICROS_PER_SECOND;
/// Playbacks of one partner at once.
const MAX_LEASES: usize = 64;

/// What was granted, for as long as the lease lives.
pub struct Terms {
    pub partner: OrganisationId,
    pub access: Access,
    pub camera: CameraId,
    pub zero: WallTime,
    groups: HashMap<GroupKey, Place>,
    runs: Vec<(Stream, RunId)>,
}

type GroupKey = (Stream, RunId, u64, u64);

#[derive(Clone, Copy)]
struct Place {
    position: usize,
    start: WallTime,
    duration_us: i64,
}

struct Lease {
    terms: Arc<Terms>,
    expires: MonoTime,
    /// When the newest renewal was signed, as the requester's clock has it: an older one, sent again, renews
    /// nothing.
    renewed: WallTime,
    ahead: HashMap<Stream, Ahead>,
    entry: Option<Entry>,
    items: u64,
    bytes: u64,
    ended: Option<&'static str>,
}

/// What was sent of one stream against what can have been viewed since the last jump, and in all.
#[derive(Debug)]
struct Ahead {
    jumped: Option<MonoTime>,
    next: usize,
    sent_us: i64,
    /// A token bucket (ITU-T I.371): what may still be sent at once, as of `filled`.
    burst_us: i64,
    filled: MonoTime,
}

impl Ahead {
    fn new(now: MonoTime) -> Self {
        Self { jumped: None, next: 0, sent_us: 0, burst_us: BURST_US, filled: now }
    }

    fn allows(&mut self, place: Place, now: MonoTime) -> bool {
        self.burst_us = self.burst_us.saturating_add(now - self.filled).min(BURST_US);
        self.filled = now;
        let may_jump = self.jumped.is_none_or(|at| now - at >= JUMP_US);
        if place.position != self.next && may_jump || self.jumped.is_none() {
            (self.jumped, self.next, self.sent_us) = (Some(now), place.position, 0);
        }
        let viewed = self.jumped.map_or(0, |at| now - at);
        // A first group longer than the limit is still one group.
        let too_far = self.sent_us > 0 && self.sent_us.saturating_add(place.duration_us) > AHEAD_US + viewed;
        let too_much = self.burst_us < place.duration_us.min(BURST_US);
        if too_far || too_much {
            return false;
        }
        self.sent_us = self.sent_us.saturating_add(place.duration_us);
        self.burst_us -= place.duration_us.min(BURST_US);
        self.next = place.position + 1;
        true
    }

    /// It did not come: asked for again, it must not count twice.
    fn give_back(&mut self, place: Place) {
        self.sent_us = self.sent_us.saturating_sub(place.duration_us).max(0);
        self.burst_us = self.burst_us.saturating_add(place.duration_us).min(BURST_US);
        if self.next == place.position + 1 {
            self.next = place.position;
        }
    }
}

impl Terms {
    pub fn new(partner: OrganisationId, access: Access, camera: CameraId, listing: &Listing) -> Self {
        let (mut groups, mut runs) = (HashMap::new(), Vec::new());
        for variant in &listing.variants {
            for (position, group) in variant.groups.iter().enumerate() {
                let Ok(run) = RunId::try_from(&group.run_id) else { continue };
                let duration_us = i64::try_from(group.duration_us).unwrap_or(i64::MAX);
                let place = Place { position, start: WallTime(group.start_us), duration_us };
                groups.insert((variant.stream(), run, group.first, group.last), place);
                if !runs.contains(&(variant.stream(), run)) {
                    runs.push((variant.stream(), run));
                }
            }
        }
        Self { partner, access, camera, zero: WallTime(listing.zero_us), groups, runs }
    }

    /// Where a part that was listed lies; an init section lies nowhere.
    fn place(&self, stream: Stream, run: RunId, part: Part) -> Result<Option<Place>, Refusal> {
        let place = match part {
            Part::Init => self.runs.contains(&(stream, run)).then_some(None),
            Part::Group { first, last } => self.groups.get(&(stream, run, first, last)).copied().map(Some),
        };
        place.ok_or_else(|| refuse::not_granted(""))
    }

    /// The time of a part that was listed, when it is a group.
    pub fn time(&self, stream: Stream, run: RunId, part: Part) -> Result<Option<(WallTime, WallTime)>, Refusal> {
        let time = |place: Place| (place.start, place.start.plus_micros(place.duration_us.max(1)));
        Ok(self.place(stream, run, part)?.map(time))
    }
}

/// A lease that ended, whose register entry must be closed.
pub struct Ended {
    pub entry: Entry,
    pub items: u64,
    pub bytes: u64,
}

impl Ended {
    pub async fn close(self) {
        self.entry.close(self.items, self.bytes).await;
    }
}

#[derive(Default)]
pub struct Leases(Mutex<HashMap<LeaseId, Lease>>);

impl Leases {
    /// A lease for the request that `entry` let in: one per request, because a request is answered once.
    pub fn open(&self, terms: Terms, entry: Entry, now: MonoTime) -> Result<LeaseId, Refusal> {
        let mut leases = self.locked();
        let of_partner = |lease: &&Lease| lease.ended.is_none() && lease.terms.partner == terms.partner;
        if leases.values().filter(of_partner).count() >= MAX_LEASES {
            return Err(refusal(refuse::BUSY, "too many playbacks at once; close some first"));
        }
        let id = LeaseId::random();
        let renewed = terms.access.issued;
        let lease = Lease {
            terms: Arc::new(terms),
            expires: MonoTime(now.0 + LEASE_US),
            renewed,
            ahead: HashMap::new(),
            entry: Some(entry),
            items: 0,
            bytes: 0,
            ended: None,
        };
        leases.insert(id, lease);
        Ok(id)
    }

    /// The terms of a live lease of this partner and request.
    pub fn terms(&self, leased: &Leased, partner: OrganisationId, now: MonoTime) -> Result<Arc<Terms>, Refusal> {
        with_live(&mut self.locked(), leased, partner, now, |lease| Ok(lease.terms.clone()))
    }

    /// Another 15 s from now.
    pub fn renew(&self, leased: &Leased, partner: OrganisationId, now: MonoTime) -> Result<(), Refusal> {
        with_live(&mut self.locked(), leased, partner, now, |lease| {
            if leased.issued <= lease.renewed {
                return Err(refusal(refuse::REPLAYED, "this renewal was used already"));
            }
            lease.renewed = leased.issued;
            lease.expires = MonoTime(now.0 + LEASE_US);
            Ok(())
        })
    }

    /// Whether a group may be sent now, or lies too far ahead of the viewer. If it may, it counts as sent.
    pub fn admit(
        &self,
        leased: &Leased,
        partner: OrganisationId,
        (stream, run, part): (Stream, RunId, Part),
        now: MonoTime,
    ) -> Result<(), Refusal> {
        with_live(&mut self.locked(), leased, partner, now, |lease| {
            let Some(place) = lease.terms.place(stream, run, part)? else { return Ok(()) };
            if !lease.ahead.entry(stream).or_insert_with(|| Ahead::new(now)).allows(place, now) {
                let sentence = "at most 30 s of viewing are sent ahead; ask again a little later";
                return Err(refusal(refuse::TOO_FAR_AHEAD, sentence));
            }
            Ok(())
        })
    }

    /// A part that was admitted could not be had.
    pub fn not_sent(&self, leased: &Leased, (stream, run, part): (Stream, RunId, Part)) {
        let mut leases = self.locked();
        let Some(lease) = leases.get_mut(&leased.lease) else { return };
        let Ok(Some(place)) = lease.terms.place(stream, run, part) else { return };
        if let Some(ahead) = lease.ahead.get_mut(&stream) {
            ahead.give_back(place);
        }
    }

    /// Whether the lease still lives, asked between two chunks; and what went out under it.
    pub fn sent(&self, id: LeaseId, items: u64, bytes: u64, now: MonoTime) -> bool {
        let mut leases = self.locked();
        let Some(lease) = leases.get_mut(&id) else { return false };
        lease.items += items;
        lease.bytes += bytes;
        lease.ended.is_none() && now < lease.expires
    }

    pub fn close(&self, leased: &Leased, partner: OrganisationId) -> Option<Ended> {
        let mut leases = self.locked();
        let lease = leases.get_mut(&leased.lease)?;
        let theirs = lease.terms.partner == partner && lease.terms.access.id == leased.request;
        if theirs { lease.end(refuse::NO_LEASE) } else { None }
    }

    /// Ends every lease under an agreement, at once.
    pub fn end_agreement(&self, agreement: AgreementId) -> Vec<Ended> {
        let mut leases = self.locked();
        let under = leases.values_mut().filter(|lease| lease.terms.access.agreement == agreement);
        under.filter_map(|lease| lease.end(refuse::REVOKED)).collect()
    }

    pub fn end_all(&self) -> Vec<Ended> {
        self.locked().values_mut().filter_map(|lease| lease.end(refuse::EXPIRED)).collect()
    }

    /// Ends what has expired, forgets what ended a while ago.
    pub fn sweep(&self, now: MonoTime) -> Vec<Ended> {
        let mut leases = self.locked();
        leases.retain(|_, lease| lease.ended.is_none() || now - lease.expires < REMEMBERED_US);
        let over = leases.values_mut().filter(|lease| now >= lease.expires);
        over.filter_map(|lease| lease.end(refuse::EXPIRED)).collect()
    }

    /// Everything that distinguishes the leases there are.
    #[cfg(test)]
    pub fn states(&self) -> Vec<String> {
        let leases = self.locked();
        let state = |(id, lease): (&LeaseId, &Lease)| {
            let Lease { expires, renewed, ahead, items, bytes, ended, .. } = lease;
            format!("{id} {expires:?} {renewed:?} {ahead:?} {items} {bytes} {ended:?}")
        };
        let mut states: Vec<String> = leases.iter().map(state).collect();
        states.sort();
        states
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<LeaseId, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    fn end(&mut self, why: &'static str) -> Option<Ended> {
        self.ended.get_or_insert(why);
        self.entry.take().map(|entry| Ended { entry, items: self.items, bytes: self.bytes })
    }
}

fn with_live<T>(
    leases: &mut HashMap<LeaseId, Lease>,
    leased: &Leased,
    partner: OrganisationId,
    now: MonoTime,
    then: impl FnOnce(&mut Lease) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let none = || refusal(refuse::NO_LEASE, "there is no such lease; open the playback again");
    let lease = leases.get_mut(&leased.lease).ok_or_else(none)?;
    if lease.terms.partner != partner || lease.terms.access.id != leased.request {
        return Err(none());
    }
    match lease.ended {
        Some(refuse::REVOKED) => Err(refusal(refuse::REVOKED, "the agreement was revoked")),
        Some(refuse::NO_LEASE) => Err(none()),
        Some(_) => Err(refusal(refuse::EXPIRED, "the lease has ended; open the playback again")),
        None if now >= lease.expires => Err(refusal(refuse::EXPIRED, "the lease has ended; open the playback again")),
        None => then(lease),
    }
}
