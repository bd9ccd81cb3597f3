//! Partners and agreements as read from the store, in memory.

use super::agreement::{self, Standing, State};
use super::error::FederationError;
use super::mandate::read_card;
use super::refuse;
use super::store::Everything;
use crate::access::LiveAgreement;
use bytes::Bytes;
use campanile_proto::federation::v1::{
    Agreement, CameraCard, Grant, HubMandate, OrganisationCard, Purpose, Right, SignedEnvelope,
};
use campanile_proto::ids::{AgreementId, CameraId, OrganisationId};
use campanile_proto::signed;
use campanile_proto::time::WallTime;
use ed25519_dalek::VerifyingKey;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A partner: pinned by people, speaking through the hub of its newest mandate.
#[derive(Debug, Clone)]
pub struct Partner {
    pub id: OrganisationId,
    pub name: String,
    pub ipa_code: String,
    /// As people compare it by telephone.
    pub fingerprint: String,
    pub key: VerifyingKey,
    pub card: OrganisationCard,
    pub mandate: HubMandate,
    /// Where people said it is; its mandate's endpoints are tried first.
    pub address: String,
}

impl Partner {
    /// Key of its hub while the mandate holds.
    pub fn hub_key(&self, now: WallTime) -> Option<VerifyingKey> {
        self.mandated(&self.mandate.hub_key, now)
    }

    pub fn register_key(&self, now: WallTime) -> Option<VerifyingKey> {
        self.mandated(&self.mandate.register_key, now)
    }

    fn mandated(&self, key: &Bytes, now: WallTime) -> Option<VerifyingKey> {
        let holds = (self.mandate.not_before_us..self.mandate.not_after_us).contains(&now.0);
        if holds { signed::verifying_key(key).ok() } else { None }
    }

    pub(super) fn of(card: OrganisationCard, mandate: HubMandate, address: String) -> Result<Self, &'static str> {
        let (id, key) = read_card(&card)?;
        let fingerprint = signed::fingerprint(&key);
        Ok(Self {
            id,
            name: card.name.clone(),
            ipa_code: card.ipa_code.clone(),
            fingerprint,
            key,
            card,
            mandate,
            address,
        })
    }
}

/// An agreement as it is held: its bytes verbatim.
#[derive(Debug, Clone)]
pub struct Held {
    pub id: AgreementId,
    pub agreement: Agreement,
    pub envelope: SignedEnvelope,
    pub signers: Vec<OrganisationId>,
    pub revoked_at: Option<WallTime>,
    pub suspended: bool,
}

/// An agreement as people see it.
#[derive(Debug, Clone)]
pub struct AgreementRow {
    pub id: AgreementId,
    pub state: State,
    pub agreement: Agreement,
    pub signers: Vec<OrganisationId>,
    pub revoked_at: Option<WallTime>,
}

impl Held {
    pub fn of(envelope: SignedEnvelope, agreement: Agreement) -> Option<Self> {
        let id = AgreementId::try_from(&agreement.agreement_id).ok()?;
        let signers = agreement::signers(&envelope, &agreement);
        Some(Self { id, agreement, envelope, signers, revoked_at: None, suspended: false })
    }

    pub fn state(&self, us: OrganisationId, now: WallTime) -> State {
        let standing =
            Standing { signers: &self.signers, revoked: self.revoked_at.is_some(), suspended: self.suspended };
        agreement::state(&self.agreement, &standing, us, now)
    }

    /// The other parties.
    pub fn others(&self, us: OrganisationId) -> Vec<OrganisationId> {
        agreement::cards(&self.agreement).unwrap_or_default().into_keys().filter(|id| *id != us).collect()
    }

    /// Grants of `owner` to `beneficiary` of `right`.
    fn grants(&self, owner: OrganisationId, beneficiary: OrganisationId) -> impl Iterator<Item = &Grant> {
        self.agreement.grants.iter().filter(move |grant| {
            grant.owner_id.as_ref() == owner.as_bytes().as_slice()
                && grant.beneficiary_id.as_ref() == beneficiary.as_bytes().as_slice()
        })
    }
}

/// What is asked of a partner, as far as it decides under which agreement.
pub struct Need<'a> {
    pub right: Right,
    pub purpose: Purpose,
    pub role: &'a str,
    /// Empty: any.
    pub cameras: &'a [CameraId],
}

/// Why no agreement lets us ask a partner for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotInForce {
    #[error("no agreement with this partner grants anything to this organisation")]
    None,
    #[error("the agreement with this partner was revoked")]
    Revoked,
    #[error("the agreement with this partner is not valid any more")]
    Expired,
    #[error("the agreement with this partner is suspended until it is confirmed")]
    Suspended,
}

impl NotInForce {
    pub fn code(self) -> &'static str {
        match self {
            Self::None => "NO_AGREEMENT",
            Self::Revoked => refuse::REVOKED,
            Self::Expired => refuse::EXPIRED,
            Self::Suspended => refuse::SUSPENDED,
        }
    }
}

#[derive(Default)]
pub struct Directory {
    pub partners: BTreeMap<OrganisationId, Partner>,
    pub agreements: BTreeMap<AgreementId, Held>,
    /// Cards partners sent with their answers.
    pub cards: HashMap<(OrganisationId, CameraId), CameraCard>,
}

impl Directory {
    /// From the store's rows; they were checked when they were written.
    pub fn read(everything: Everything, us: OrganisationId) -> Result<Self, FederationError> {
        let mut directory = Self::default();
        for row in everything.partners {
            let card = OrganisationCard::decode(row.card).map_err(|_| FederationError::Stored { what: "card" })?;
            let mandate =
                HubMandate::decode(row.mandate.payload).map_err(|_| FederationError::Stored { what: "mandate" })?;
            let partner = Partner::of(card, mandate, row.address).map_err(FederationError::Card)?;
            directory.partners.insert(partner.id, partner);
        }
        for row in everything.agreements {
            let agreement = Agreement::decode(row.envelope.payload.clone())
                .map_err(|_| FederationError::Stored { what: "agreement" })?;
            let held = Held::of(row.envelope, agreement).ok_or(FederationError::Stored { what: "agreement" })?;
            let held = Held { revoked_at: row.revoked_at, suspended: row.suspended, ..held };
            directory.agreements.insert(held.id, held);
        }
        for (partner, card) in everything.cards {
            directory.keep_card(partner, card);
        }
        tracing::debug!(organisation = %us, partners = directory.partners.len(), agreements = directory.agreements.len(), "federation read");
        Ok(directory)
    }

    /// What was revoked once stays revoked, even where a restored database has forgotten it.
    pub fn revoke_again(&mut self, revoked: &BTreeSet<AgreementId>, now: WallTime) {
        for held in self.agreements.values_mut().filter(|held| revoked.contains(&held.id)) {
            held.revoked_at.get_or_insert(now);
        }
    }

    pub fn keep_card(&mut self, partner: OrganisationId, card: CameraCard) {
        if let Ok(camera) = CameraId::try_from(&card.camera_id) {
            self.cards.insert((partner, camera), card);
        }
    }

    pub fn rows(&self, us: OrganisationId, now: WallTime) -> Vec<AgreementRow> {
        let row = |held: &Held| AgreementRow {
            id: held.id,
            state: held.state(us, now),
            agreement: held.agreement.clone(),
            signers: held.signers.clone(),
            revoked_at: held.revoked_at,
        };
        self.agreements.values().map(row).collect()
    }

    /// Every agreement that all its parties signed, for the door to judge by date and revocation.
    pub fn standing(&self) -> Vec<LiveAgreement> {
        let all_signed = |held: &&Held| held.signers.len() == held.agreement.parties.len();
        let live = |held: &Held| LiveAgreement {
            id: held.id,
            agreement: held.agreement.clone(),
            suspended: held.suspended,
            revoked_at: held.revoked_at,
        };
        self.agreements.values().filter(all_signed).map(live).collect()
    }

    /// The cameras `partner` grants us under one live agreement, by agreement: the widest first.
    pub fn granted(
        &self,
        us: OrganisationId,
        partner: OrganisationId,
        need: &Need<'_>,
        now: WallTime,
    ) -> Vec<(AgreementId, Vec<CameraId>)> {
        let fits = |grant: &&Grant| {
            grant.right == need.right as i32
                && grant.purposes.contains(&(need.purpose as i32))
                && (grant.roles.is_empty() || grant.roles.iter().any(|role| role == need.role))
        };
        let mut found: Vec<(AgreementId, Vec<CameraId>)> = Vec::new();
        for held in self.agreements.values().filter(|held| held.state(us, now) == State::Live) {
            let mut cameras: Vec<CameraId> = held
                .grants(partner, us)
                .filter(fits)
                .flat_map(|grant| grant.camera_ids.iter().filter_map(|id| CameraId::try_from(id).ok()))
                .filter(|id| need.cameras.is_empty() || need.cameras.contains(id))
                .collect();
            cameras.sort_unstable();
            cameras.dedup();
            if !cameras.is_empty() {
                found.push((held.id, cameras));
            }
        }
        found.sort_by_key(|(_, cameras)| std::cmp::Reverse(cameras.len()));
        found
    }

    /// A live agreement in which `partner` grants us anything: named when nothing fits, so that the owner
    /// says which clause is missing.
    pub fn any_live(&self, us: OrganisationId, partner: OrganisationId, now: WallTime) -> Option<AgreementId> {
        let grants = |held: &&Held| held.state(us, now) == State::Live && held.grants(partner, us).next().is_some();
        self.agreements.values().find(grants).map(|held| held.id)
    }

    /// Why nothing can be asked of `partner`; none when something can. Where cameras are named that it never
    /// granted, it is not concerned at all. Of several agreements the newest tells.
    pub fn why_not(
        &self,
        us: OrganisationId,
        partner: OrganisationId,
        cameras: &[CameraId],
        now: WallTime,
    ) -> Option<NotInForce> {
        if self.any_live(us, partner, now).is_some() {
            return None;
        }
        let wanted = |grant: &Grant| {
            let named = |id| CameraId::try_from(id).is_ok_and(|id| cameras.contains(&id));
            cameras.is_empty() || grant.camera_ids.iter().any(named)
        };
        let mut concerned = self.agreements.values().rev().filter(|held| held.grants(partner, us).any(wanted));
        let why = |held: &Held| match held.state(us, now) {
            State::Revoked => Some(NotInForce::Revoked),
            State::Expired => Some(NotInForce::Expired),
            State::Suspended => Some(NotInForce::Suspended),
            State::Proposed | State::AwaitingUs | State::Live => None,
        };
        concerned.find_map(why).or(cameras.is_empty().then_some(NotInForce::None))
    }

    /// Every camera granted to us now, with the rights.
    pub fn granted_cameras(
        &self,
        us: OrganisationId,
        now: WallTime,
    ) -> BTreeMap<(OrganisationId, CameraId), Vec<Right>> {
        let mut found: BTreeMap<(OrganisationId, CameraId), Vec<Right>> = BTreeMap::new();
        for held in self.agreements.values().filter(|held| held.state(us, now) == State::Live) {
            for partner in held.others(us) {
                for grant in held.grants(partner, us) {
                    let right = grant.right();
                    for camera in grant.camera_ids.iter().filter_map(|id| CameraId::try_from(id).ok()) {
                        let rights = found.entry((partner, camera)).or_default();
                        if !rights.contains(&right) {
                            rights.push(right);
                        }
                    }
                }
            }
        }
        found
    }
}
