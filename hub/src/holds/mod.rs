//! Holds: footage that an authority's act keeps beyond its term.
//!
//! Belongs here: what a hold is, which fragments it covers, their keys wrapped to its key, their ciphertext copied to
//! this hub, what of it is missing and why, reading it, its end.
//! Does not belong here: keys themselves (`media::keeper`), who may (`access`), what a box does with a pin.
//! Invariant: a hold covers the fragments of its interval and nothing else, and nothing of it opens after its end.

mod account;
mod arrivals;
mod copy;
mod cover;
mod error;
mod known;
mod reading;
mod store;
mod take;
mod terms;
mod upkeep;
mod vault;

pub use account::{Part, Sort};
pub(crate) use error::CopyError;
pub use error::HoldsError;
pub use known::StreamAccount;
pub use reading::HeldPlayback;
pub use terms::{Hold, Over, State, Terms};
pub use upkeep::HoldAlarm;

use crate::access::Door;
use crate::catalog::Catalog;
use crate::fleet::Fleet;
use crate::media::RingKeeper;
use campanile_proto::ids::{CameraId, HoldId, OrganisationId};
use campanile_proto::time::{Clock, WallTime, kept_until};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::Store;
use tokio::sync::Notify;
use vault::Vault;

/// Keys of what is known are wrapped before a placing is answered; a hold of very much goes on afterwards.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Cheap to clone; every clone is the same holds.
#[derive(Clone)]
pub struct Holds(Arc<Inner>);

struct Inner {
    parts: Parts,
    store: Store,
    vault: Vault,
    /// Those that are not over, as the store has them.
    standing: Mutex<HashMap<HoldId, Hold>>,
    /// Why a camera's copy does not go on at present.
    troubles: Mutex<HashMap<(HoldId, CameraId), String>>,
    /// Of each hold that is being copied, once it was looked at.
    reckoned: Mutex<HashMap<HoldId, Vec<StreamAccount>>>,
    /// Told when there may be something to copy.
    wake: Notify,
    /// One at a time takes in what boxes reported.
    taking: tokio::sync::Mutex<()>,
}

/// What holds are made of.
pub struct Parts {
    pub organisation: OrganisationId,
    pub catalog: Arc<dyn Catalog>,
    pub keeper: Arc<RingKeeper>,
    pub fleet: Fleet,
    pub door: Door,
    pub clock: Arc<dyn Clock>,
    pub retention_days: u32,
}

impl Holds {
    /// Opens `holds.sqlite` and `holds/` in `data_dir`; boxes are told what to keep from their first session on.
    pub async fn open(data_dir: &Path, parts: Parts) -> Result<Self, HoldsError> {
        let store = Store::open(&data_dir.join("holds.sqlite"), parts.organisation)?;
        let (vault, all) = (Vault::new(data_dir.join("holds")), store.holds().await?);
        let (over, standing): (Vec<Hold>, Vec<Hold>) = all.into_iter().partition(|hold| hold.over.is_some());
        for hold in over {
            // A crash came between the end of its keys and that of its files.
            vault.remove(hold.id)?;
        }
        let standing = Mutex::new(standing.into_iter().map(|hold| (hold.id, hold)).collect());
        let (troubles, reckoned, wake, taking) = Default::default();
        let holds = Self(Arc::new(Inner { parts, store, vault, standing, troubles, reckoned, wake, taking }));
        holds.pin();
        Ok(holds)
    }

    /// Places a hold under an id that is in the register already: keys are wrapped, boxes told and copying begun.
    pub async fn place(&self, id: HoldId, terms: Terms) -> Result<Hold, HoldsError> {
        let now = self.now();
        terms.check(now)?;
        let cameras = self.0.parts.catalog.cameras().await.map_err(HoldsError::Catalog)?;
        if let Some(unknown) = terms.cameras.iter().find(|id| !cameras.iter().any(|camera| camera.id == **id)) {
            return Err(HoldsError::UnknownCamera(*unknown));
        }
        let (keeper, until) = (self.0.parts.keeper.clone(), terms.until);
        blocking(move || keeper.make_hold(id, until)).await?.map_err(HoldsError::Keeper)?;
        let hold = Hold { id, terms, placed: now, complete: None, over: None };
        self.0.store.place(hold.clone()).await?;
        self.standing().insert(id, hold.clone());
        self.pin();
        match tokio::time::timeout(AT_ONCE, self.take_in(&hold)).await {
            Ok(taken) => taken?,
            Err(_) => tracing::info!(hold = %id, "keys of a large hold are still being wrapped"),
        }
        self.0.wake.notify_one();
        Ok(hold)
    }

    /// Ends a hold before its end: its key is destroyed, then its copies go.
    pub async fn release(&self, id: HoldId, by: String, why: String) -> Result<(), HoldsError> {
        if !self.standing().contains_key(&id) {
            let known = self.0.store.holds().await?.iter().any(|hold| hold.id == id);
            return Err(if known { HoldsError::Over(id) } else { HoldsError::Unknown(id) });
        }
        self.finish(id, Over { at: self.now(), released_by: Some(by), why }).await
    }

    /// All there ever were, newest first.
    pub async fn all(&self) -> Result<Vec<(Hold, State)>, HoldsError> {
        let holds = self.0.store.holds().await?;
        Ok(holds.into_iter().map(|hold| (hold.clone(), self.state(&hold))).collect())
    }

    pub async fn one(&self, id: HoldId) -> Result<(Hold, State), HoldsError> {
        self.all().await?.into_iter().find(|(hold, _)| hold.id == id).ok_or(HoldsError::Unknown(id))
    }

    fn state(&self, hold: &Hold) -> State {
        hold.state(self.now(), self.expires(hold))
    }

    /// When the last of it is past its ordinary term.
    fn expires(&self, hold: &Hold) -> WallTime {
        kept_until(hold.terms.to, self.0.parts.retention_days)
    }

    fn is_past_its_term(&self, hold: &Hold) -> bool {
        self.expires(hold) <= self.now()
    }

    fn now(&self) -> WallTime {
        self.0.parts.clock.utc()
    }

    fn standing(&self) -> MutexGuard<'_, HashMap<HoldId, Hold>> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn troubles(&self) -> MutexGuard<'_, HashMap<(HoldId, CameraId), String>> {
        self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_reckoned(&self) -> MutexGuard<'_, HashMap<HoldId, Vec<StreamAccount>>> {
        self.0.reckoned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files and keys off the runtime.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, HoldsError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| HoldsError::Stopping)
}
