//! Hubs under agreement: who asks, who answers, and what both signed.
//!
//! Belongs here: partners and their mandates, agreements from draft to revocation, requests to partners
//! (`ask`, `viewing`), answers to them (`answer`, `lease`), counter-signatures.
//! Does not belong here: whether a request is allowed (`access::decide`), what is found or shown (`search`,
//! `media`), how our own people ask (`web`).
//! Invariant: nothing leaves for a partner without its valid signature, a live agreement and a durable
//! register entry; what leaves is sealed to that one request.

mod agreement;
mod answer;
mod arrivals;
mod ask;
mod connect;
mod contact;
mod diplomacy;
mod directory;
mod error;
mod lease;
mod mandate;
mod marker;
mod owner;
mod owner_hub;
mod refuse;
mod release;
mod replies;
mod request;
mod service;
mod store;
mod store_schema;
#[cfg(test)]
mod tests;
mod turnstile;
mod upkeep;
mod viewing;
mod witness;

pub use agreement::{AgreementDraft, Mutual, Problem as AgreementProblem, State};
pub use ask::{Answer, GrantedCamera, PartnerAnswer, PartnerQuery, ThumbnailQuery};
pub use directory::{AgreementRow, Partner};
pub use error::{AskError, FederationError};
pub use marker::marker_path;
pub use owner::{Entry, NotReleased, Owner, Wanted};
pub use replies::OnBehalf;
pub use request::MAX_WORDS_CHARACTERS;
pub use service::Service;
pub use viewing::{PartnerPlayback, PlaybackQuery};
pub(crate) use witness::root_of;

use crate::access::LiveAgreement;
use crate::fleet::Identity;
use campanile_proto::federation::v1::federation_server::FederationServer;
use campanile_proto::federation::v1::{OrganisationCard, SignedEnvelope};
use campanile_proto::ids::{AgreementId, OrganisationId};
use campanile_proto::time::Clock;
use connect::Connections;
use directory::Directory;
use lease::Leases;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use store::Store;
use tokio::sync::broadcast;

/// Tells the door which agreements stand.
pub type Publish = Box<dyn Fn(Vec<LiveAgreement>) + Send + Sync>;

/// What federation needs of the hub around it.
pub struct Parts {
    /// federation.sqlite
    pub path: PathBuf,
    /// What a restored federation.sqlite must not undo; see [`marker_path`].
    pub marker: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub identity: Arc<Identity>,
    /// SHA-256 of the SubjectPublicKeyInfo of the hub's certificate authority.
    pub tls_authority: [u8; 32],
    /// host:port at which partners reach this hub.
    pub endpoints: Vec<String>,
    pub contacts: Vec<String>,
    pub publish: Publish,
}

/// A cheap handle; every clone is the same federation.
#[derive(Clone)]
pub struct Federation(Arc<Inner>);

pub(crate) struct Inner {
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    tls_authority: [u8; 32],
    endpoints: Vec<String>,
    contacts: Vec<String>,
    publish: Publish,
    store: Store,
    directory: RwLock<Directory>,
    mandate: RwLock<SignedEnvelope>,
    connections: Connections,
    leases: Leases,
    /// Agreements as they are revoked, by whichever side.
    revoked: broadcast::Sender<AgreementId>,
    turnstile: turnstile::Turnstile,
    /// Held from reading an agreement or a partner to having written it. A revocation never waits for it.
    changing: tokio::sync::Mutex<()>,
}

impl Federation {
    /// Opens the store, makes or renews this hub's mandate, and publishes the agreements that stand.
    pub async fn open(parts: Parts) -> Result<Self, FederationError> {
        let store = Store::open(parts.path, parts.marker).await?;
        if store.distrust_if_restored().await? {
            tracing::error!(
                "federation.sqlite is older than what this hub has done: it was restored, and every agreement is suspended until it is confirmed"
            );
        }
        let mut directory = Directory::read(store.everything().await?, parts.identity.id)?;
        directory.revoke_again(&store.revoked_once(), parts.clock.utc());
        let held = store.own_mandate().await?;
        let terms = mandate::Terms {
            endpoints: &parts.endpoints,
            contacts: &parts.contacts,
            tls_authority: &parts.tls_authority,
        };
        let mandate = mandate::current(&parts.identity, held.as_ref(), &terms, parts.clock.utc());
        if held.as_ref() != Some(&mandate) {
            store.set_own_mandate(mandate.clone()).await?;
        }
        let federation = Self(Arc::new(Inner {
            clock: parts.clock,
            identity: parts.identity,
            tls_authority: parts.tls_authority,
            endpoints: parts.endpoints,
            contacts: parts.contacts,
            publish: parts.publish,
            store,
            directory: RwLock::new(directory),
            mandate: RwLock::new(mandate),
            connections: Connections::default(),
            leases: Leases::default(),
            revoked: broadcast::channel(16).0,
            turnstile: turnstile::Turnstile::default(),
            changing: tokio::sync::Mutex::default(),
        }));
        federation.publish();
        Ok(federation)
    }

    /// The side that answers, for the rpc listener.
    pub fn service(&self, owner: Arc<dyn Owner>) -> FederationServer<Service> {
        FederationServer::new(Service::new(self.clone(), owner)).max_decoding_message_size(request::MAX_MESSAGE_BYTES)
    }

    pub fn card(&self) -> OrganisationCard {
        card_of(&self.0.identity)
    }

    /// Our newest mandate, as partners get it.
    pub fn mandate(&self) -> SignedEnvelope {
        read(&self.0.mandate).clone()
    }

    pub fn partners(&self) -> Vec<Partner> {
        read(&self.0.directory).partners.values().cloned().collect()
    }

    pub fn agreements(&self) -> Vec<AgreementRow> {
        read(&self.0.directory).rows(self.us(), self.0.clock.utc())
    }

    pub(crate) fn us(&self) -> OrganisationId {
        self.0.identity.id
    }

    fn partner(&self, id: OrganisationId) -> Option<Partner> {
        read(&self.0.directory).partners.get(&id).cloned()
    }

    /// Tells the door, after every change.
    fn publish(&self) {
        let standing = read(&self.0.directory).standing();
        (self.0.publish)(standing);
    }
}

/// The card of an identity.
pub(crate) fn card_of(identity: &Identity) -> OrganisationCard {
    OrganisationCard {
        organisation_id: identity.id.into(),
        name: identity.name.clone(),
        ipa_code: identity.ipa_code.clone(),
        public_key: bytes::Bytes::copy_from_slice(identity.long_term.verifying_key().as_bytes()),
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
