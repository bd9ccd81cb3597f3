//! The hub wired together: bind, open, serve, drain.

use crate::access::PeopleError;
use crate::access::{Door, People};
use crate::catalog::{self, Catalog, CatalogError, Derived};
use crate::config::Config;
use crate::federation::{Federation, FederationError};
use crate::fleet::{self, Authority, AuthorityError, Fleet, FleetError, Identity, IdentityError, SessionTerms};
use crate::holds::{self, Holds, HoldsError};
use crate::media::{Keeper, KeeperError, Playback, RingKeeper};
use crate::register::{Register, RegisterError};
use crate::retention::Retention;
use crate::rpc::{self, EdgeService, RpcError, Served};
use crate::search::{Follower, Search, SearchError};
use crate::web::{self, WebError};
use campanile_proto::kind::Chain;
use campanile_proto::signed;
use campanile_proto::time::Clock;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// From the stop to the end of the last task; systemd kills after 90 s.
const DRAIN: Duration = Duration::from_secs(15);

/// Everything a request can need; each part is a cheap handle.
pub struct Hub {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub organisation: Arc<Identity>,
    pub catalog: Arc<dyn Catalog>,
    pub derived: Arc<Derived>,
    pub keeper: Arc<RingKeeper>,
    pub fleet: Fleet,
    pub playback: Playback,
    pub holds: Holds,
    pub search: Search,
    pub door: Door,
    pub people: People,
    pub register: Register,
    pub federation: Federation,
}

/// Where a running hub is reached; also written to `addresses.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    pub rpc: SocketAddr,
    /// With its scheme.
    pub web: String,
    pub web_scheme: &'static str,
    /// SHA-256 of the web certificate; empty for plain HTTP.
    pub web_fingerprint: String,
    /// SHA-256 of the authority's SubjectPublicKeyInfo.
    pub ca_fingerprint: String,
    pub organisation_id: String,
    /// Of the long-term key, as people compare it.
    pub organisation_fingerprint: String,
}

/// Why the hub does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("cannot listen on {address} ({key})")]
    Bind { key: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("another hub runs on {0}: stop it, or choose another data_dir")]
    InUse(PathBuf),
    #[error("the organisation's identity")]
    Identity(#[from] IdentityError),
    #[error("the certificate authority")]
    Authority(#[from] AuthorityError),
    #[error("the key ring")]
    Keeper(#[from] KeeperError),
    #[error("the catalogue")]
    Catalog(#[from] CatalogError),
    #[error("the fleet")]
    Fleet(#[from] FleetError),
    #[error("the holds")]
    Holds(#[from] HoldsError),
    #[error("the register")]
    Register(#[from] RegisterError),
    #[error("the accounts")]
    People(#[from] PeopleError),
    #[error("the search index")]
    Search(#[from] SearchError),
    #[error("federation")]
    Federation(#[from] FederationError),
    #[error("the web side")]
    Web(#[from] WebError),
    #[error("the gRPC side")]
    Rpc(#[from] RpcError),
    #[error("task {0} ended by itself")]
    TaskEnded(&'static str),
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), HubError> {
    let failed = |source| HubError::Bind { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Held as long as the hub runs, so that two never write the same files.
fn lock(data_dir: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, HubError> {
    let path = data_dir.join("lock");
    let opened = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| IdentityError::File { attempt: "open", path: path.clone(), source })?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|_| HubError::InUse(data_dir.to_owned()))
}

/// Runs until `stop`. `ready` is told where it listens.
pub async fn run(
    config: Config,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    ready: impl FnOnce(&Addresses),
) -> Result<(), HubError> {
    let (rpc_listener, rpc) = bind("rpc.listen", config.rpc_listen).await?;
    let (web_listener, web) = bind("web.listen", config.web.listen).await?;
    fleet::identity::private_folder(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    let announced = config.data_dir.join("addresses.json");
    // What a hub that was killed left behind leads nowhere.
    let _ = std::fs::remove_file(&announced);
    let advertise = match config.rpc_advertise.as_slice() {
        [] => vec![rpc.to_string()],
        given => given.to_vec(),
    };
    let tls = web::Tls::prepare(&config)?;
    let (hub, authority, follower) = open(config, clock, advertise.clone()).await?;
    let addresses = addresses(&hub, &tls, rpc, web);
    let hub = Arc::new(hub);

    let mut tasks: JoinSet<Result<(), HubError>> = JoinSet::new();
    let served = Served {
        authority,
        names: advertise,
        clock: hub.clock.clone(),
        edge: EdgeService::new(hub.fleet.clone(), hub.door.clone(), hub.clock.clone()),
        federation: Some(hub.federation.service(hub.clone())),
    };
    let token = stop.child_token();
    tasks.spawn(async move { ended("rpc", &token, rpc::serve(rpc_listener, served, token.clone()).await?) });
    let (token, served) = (stop.child_token(), hub.clone());
    let announce = announce(addresses.clone(), announced.clone());
    let serving = web::serve(served, tls, web_listener, announce, token.clone());
    tasks.spawn(async move { ended("web", &token, serving.await?) });
    let (token, federation, owner) = (stop.child_token(), hub.federation.clone(), hub.clone());
    tasks.spawn(async move {
        federation.run(owner, token.clone()).await;
        ended("federation", &token, ())
    });
    let (token, retention) = (stop.child_token(), retention(&hub));
    tasks.spawn(async move {
        retention.run(token.clone()).await;
        ended("retention", &token, ())
    });

    let (token, holds) = (stop.child_token(), hub.holds.clone());
    tasks.spawn(async move {
        holds.run(token.clone()).await;
        ended("holds", &token, ())
    });
    let token = stop.child_token();
    tasks.spawn(async move {
        follower.run(token.clone()).await;
        ended("search index", &token, ())
    });
    let (token, register, served) = (stop.child_token(), hub.register.clone(), hub.clone());
    tasks.spawn(async move {
        let (days, clock, keeper) = (served.config.register_personal_days, served.clock.clone(), served.keeper.clone());
        register.run(days, clock, move || keeper.may_destroy(), token.clone()).await;
        ended("register", &token, ())
    });

    let text = serde_json::to_vec_pretty(&addresses).unwrap_or_default();
    fleet::identity::write_private(&announced, &text)?;
    ready(&addresses);
    let result = supervise(tasks, &stop, &hub).await;
    let _ = std::fs::remove_file(&announced);
    info!("hub stopped");
    result
}

/// Tells people and `addresses.json` of a web certificate that took another's place.
fn announce(addresses: Addresses, path: PathBuf) -> web::Announce {
    Box::new(move |web_fingerprint| {
        println!("campanile-hub: web certificate SHA-256 {web_fingerprint}");
        let text = serde_json::to_vec_pretty(&Addresses { web_fingerprint, ..addresses.clone() }).unwrap_or_default();
        if let Err(failure) = fleet::identity::write_private(&path, &text) {
            error!(error = %Chain(&failure), "addresses.json does not name the new web certificate");
        }
    })
}

/// A task that ends before it is told to is a failure.
fn ended(task: &'static str, token: &CancellationToken, (): ()) -> Result<(), HubError> {
    if token.is_cancelled() { Ok(()) } else { Err(HubError::TaskEnded(task)) }
}

/// Waits for the stop or the first failure; then everything ends, in time.
async fn supervise(
    mut tasks: JoinSet<Result<(), HubError>>,
    stop: &CancellationToken,
    hub: &Hub,
) -> Result<(), HubError> {
    let mut result = Ok(());
    tokio::select! {
        () = stop.cancelled() => {}
        Some(joined) = tasks.join_next() => result = joined.unwrap_or_else(|panic| Err(HubError::Panicked(panic))),
    }
    if let Err(failure) = &result {
        error!(error = %Chain(failure), "hub fails");
    }
    info!("hub stopping");
    // Boxes first: their goodbye travels on what ends next.
    let drained = tokio::time::timeout(DRAIN, async {
        hub.fleet.close().await;
        stop.cancel();
        while let Some(joined) = tasks.join_next().await {
            if let Err(failure) = joined.unwrap_or_else(|panic| Err(HubError::Panicked(panic))) {
                error!(error = %Chain(&failure), "task failed while stopping");
            }
        }
    });
    if drained.await.is_err() {
        error!(seconds = DRAIN.as_secs(), "tasks did not end in time");
        tasks.abort_all();
    }
    result
}

/// Opens every store and makes the parts.
pub(crate) async fn open(
    config: Config,
    clock: Arc<dyn Clock>,
    advertise: Vec<String>,
) -> Result<(Hub, Arc<Authority>, Follower), HubError> {
    let dir = config.data_dir.clone();
    let days = config.retention_days;
    let identity = Arc::new(Identity::open(&dir, &config.organisation.name, &config.organisation.ipa_code)?);
    let authority = Arc::new(Authority::open(&dir, &identity, clock.utc())?);
    let keeper = Arc::new(RingKeeper::open_beside(
        &dir.join("keyring"),
        identity.clone(),
        days,
        clock.clone(),
        config.clock_marks.clone(),
    )?);
    let (catalog, derived) = catalog::open(&dir, identity.id, keeper.clone(), clock.clone(), days)?;
    let register = Register::open(&dir.join("register.sqlite"), identity.id, identity.register.clone(), clock.clone())?;
    let people = People::open(&dir, identity.id, clock.clone())?;
    let door = Door::new(identity.id, days, register.clone(), clock.clone());
    let parts = fleet::Parts {
        identity: identity.clone(),
        authority: authority.clone(),
        catalog: catalog.clone(),
        keeper: keeper.clone(),
        clock: clock.clone(),
        advertise: advertise.clone(),
        retention_days: days,
        terms: SessionTerms::default(),
    };
    let fleet = Fleet::open(&dir, parts).await?;
    let playback =
        Playback::new(identity.id, fleet.clone(), catalog.clone(), keeper.clone(), door.clone(), clock.clone(), days);
    let parts = holds::Parts {
        organisation: identity.id,
        catalog: catalog.clone(),
        keeper: keeper.clone(),
        fleet: fleet.clone(),
        door: door.clone(),
        clock: clock.clone(),
        retention_days: days,
    };
    let holds = Holds::open(&dir, parts).await?;
    let (search, follower) =
        Search::open(&dir.join("derived").join("tantivy"), derived.clone(), catalog.clone(), clock.clone()).await?;
    let publishing = door.clone();
    let federation = Federation::open(crate::federation::Parts {
        path: dir.join("federation.sqlite"),
        marker: crate::federation::marker_path(&dir),
        clock: clock.clone(),
        identity: identity.clone(),
        tls_authority: authority.fingerprint(),
        endpoints: advertise,
        contacts: Vec::new(),
        publish: Box::new(move |agreements| publishing.set_agreements(agreements)),
    })
    .await?;
    let organisation = identity;
    let hub = Hub {
        config,
        clock,
        organisation,
        catalog,
        derived,
        keeper,
        fleet,
        playback,
        holds,
        search,
        door,
        people,
        register,
        federation,
    };
    Ok((hub, authority, follower))
}

fn retention(hub: &Hub) -> Retention {
    Retention {
        keeper: hub.keeper.clone(),
        derived: hub.derived.clone(),
        catalog: hub.catalog.clone(),
        search: hub.search.clone(),
        playback: hub.playback.clone(),
        fleet: hub.fleet.clone(),
        door: hub.door.clone(),
        clock: hub.clock.clone(),
        retention_days: hub.config.retention_days,
        forgotten: AtomicI64::new(0),
        said: AtomicI64::new(0),
    }
}

fn addresses(hub: &Hub, tls: &web::Tls, rpc: SocketAddr, web: SocketAddr) -> Addresses {
    let fingerprint = tls.fingerprint();
    let web_scheme = if fingerprint.is_some() { "https" } else { "http" };
    Addresses {
        rpc,
        web: format!("{web_scheme}://{web}"),
        web_scheme,
        web_fingerprint: fingerprint.unwrap_or_default(),
        ca_fingerprint: hub.fleet.ca_fingerprint(),
        organisation_id: hub.organisation.id.to_string(),
        organisation_fingerprint: signed::fingerprint(&hub.organisation.long_term.verifying_key()),
    }
}
