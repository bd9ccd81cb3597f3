//! The boxes of this organisation: who they are, who is connected, what they are told.
//!
//! Belongs here: the organisation's identity and certificate authority, enrolment, renewal, the registry,
//! live sessions, and fetches through them.
//! Does not belong here: what boxes report (`catalog`), what footage becomes (`media`), gRPC (`rpc`).
//! Invariant: a revoked or quarantined box is neither heard nor asked within 5 s.

pub mod authority;
mod enrol;
mod fetch;
mod hello;
pub mod identity;
mod registry;
mod revocations;
mod session;
mod sessions;
mod status;
mod token;

pub use authority::{Authority, AuthorityError};
pub use enrol::{EnrolError, Enrolled};
pub use fetch::{FetchError, FetchItem, FetchStream};
pub use identity::{Identity, IdentityError};
pub use session::SessionTerms;
pub use status::EdgeStatus;

use crate::catalog::{Catalog, CatalogError, EdgeRow};
use crate::media::{KeeperError, RingKeeper};
use campanile_proto::edge::v1::Pin;
use campanile_proto::ids::{CameraId, EdgeId};
use campanile_proto::kind::Kind;
use campanile_proto::time::Clock;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Cheap to clone; every clone is the same fleet.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    identity: Arc<Identity>,
    authority: Arc<Authority>,
    catalog: Arc<dyn Catalog>,
    keeper: Arc<RingKeeper>,
    clock: Arc<dyn Clock>,
    /// host:port in tokens.
    advertise: Vec<String>,
    retention_days: u32,
    terms: SessionTerms,
    /// Mirror of the catalogue's registry, so that every message can look.
    registry: RwLock<HashMap<EdgeId, EdgeRow>>,
    revocations: revocations::Revocations,
    sessions: sessions::Sessions,
    fetches: fetch::Fetches,
    /// Generation of the sealing keys; sessions deliver them when it changes.
    keys: watch::Sender<u32>,
    /// Sessions deliver what is theirs of it when it changes.
    wanted: watch::Sender<Wanted>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What boxes are told beside keys and time, for all of them.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// What must not be deleted.
    pins: Arc<Vec<Pin>>,
    /// Cameras of which nothing is recorded.
    masked: BTreeSet<CameraId>,
}

/// What a fleet is made of.
pub struct Parts {
    pub identity: Arc<Identity>,
    pub authority: Arc<Authority>,
    pub catalog: Arc<dyn Catalog>,
    pub keeper: Arc<RingKeeper>,
    pub clock: Arc<dyn Clock>,
    pub advertise: Vec<String>,
    pub retention_days: u32,
    pub terms: SessionTerms,
}

/// Why the fleet did not do it.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("the catalogue failed")]
    Catalog(#[source] CatalogError),
    #[error("the sealing keys cannot be read or made")]
    Keys(#[source] KeeperError),
    #[error("the list of revoked boxes cannot be read or written")]
    Revocations(#[source] IdentityError),
    #[error("no box {0} is registered: see campanile-hub edges")]
    UnknownEdge(EdgeId),
    #[error("no camera {0} is known")]
    UnknownCamera(CameraId),
    #[error("camera {0} is not masked")]
    NotMasked(CameraId),
    #[error("box {0} is revoked or quarantined")]
    NotGood(EdgeId),
    #[error("box {0} is not quarantined")]
    NotQuarantined(EdgeId),
    #[error("no random bytes from the kernel")]
    NoRandom,
}

impl FleetError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Keys(error) => error.kind(),
            Self::UnknownEdge(_) | Self::UnknownCamera(_) => Kind::NotFound,
            Self::NotQuarantined(_) | Self::NotGood(_) | Self::NotMasked(_) => Kind::Conflict,
            Self::Revocations(_) | Self::NoRandom => Kind::Internal,
        }
    }
}

impl Fleet {
    /// Reads the registry; what the list of revocations names is revoked, whatever a restored catalogue says.
    pub async fn open(data_dir: &Path, parts: Parts) -> Result<Self, FleetError> {
        let revocations = revocations::Revocations::open(data_dir).map_err(FleetError::Revocations)?;
        let rows = parts.catalog.edges().await.map_err(FleetError::Catalog)?;
        let registry = rows.into_iter().map(|row| (row.id, row)).collect();
        let keys = watch::Sender::new(parts.keeper.generation());
        let masks = parts.catalog.masks().await.map_err(FleetError::Catalog)?;
        let masked = masks.into_iter().map(|mask| mask.camera).collect();
        let fleet = Self(Arc::new(Inner {
            identity: parts.identity,
            authority: parts.authority,
            catalog: parts.catalog,
            keeper: parts.keeper,
            clock: parts.clock,
            advertise: parts.advertise,
            retention_days: parts.retention_days,
            terms: parts.terms,
            registry: RwLock::new(registry),
            revocations,
            sessions: sessions::Sessions::default(),
            fetches: fetch::Fetches::default(),
            keys,
            wanted: watch::Sender::new(Wanted { masked, ..Wanted::default() }),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }));
        fleet.apply_revocations().await?;
        Ok(fleet)
    }

    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// SHA-256 of the authority's SubjectPublicKeyInfo, in hexadecimal.
    pub fn ca_fingerprint(&self) -> String {
        hex::encode(self.0.authority.fingerprint())
    }

    /// Tells every session that other sealing keys are to be delivered.
    pub fn keys_changed(&self) {
        self.0.keys.send_replace(self.0.keeper.generation());
    }

    /// What boxes must not delete from now on, all of it; every session is told.
    pub fn pin(&self, pins: Vec<Pin>) {
        self.0.wanted.send_if_modified(|wanted| {
            let changes = *wanted.pins != pins;
            if changes {
                wanted.pins = Arc::new(pins);
            }
            changes
        });
    }

    /// Says goodbye to every box and waits for the sessions to end.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}
