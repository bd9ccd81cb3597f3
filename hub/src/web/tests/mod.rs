//! The web side of a whole hub in a folder, behind a door that a test can shut.

mod commands;
mod coverage;
mod door;
mod people;
mod unsealings;

use super::Web;
use super::routes::{self, Visitor};
use super::tls::Tls;
use crate::access::{Principal, Shutter};
use crate::config;
use crate::hub::Hub;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use axum::response::Response;
use campanile_proto::time::{Clock, SimClock, SystemClock};
use campanile_proto::types::v1::{Phase, RegisterLeaf};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A person on the hub's own machine.
pub const LOCAL: Visitor = Visitor::Local { uid: 0 };
pub const STRANGER: Visitor = Visitor::Network(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

pub struct Stand {
    pub web: Arc<Web>,
    pub shutter: Arc<Shutter>,
    pub clock: Arc<SimClock>,
    folder: tempfile::TempDir,
}

impl Stand {
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("hub");
        crate::fleet::identity::private_folder(&data_dir).unwrap();
        let text = format!(
            "config_version = 1\ndata_dir = '{}'\n[organisation]\nname = 'Comune di Prova'\n[web]\ntls = 'plain-loopback'",
            data_dir.display()
        );
        let config = config::parse(&text).unwrap();
        let clock = Arc::new(SimClock::starting_at(SystemClock::new().utc()));
        let (mut hub, _, _) = crate::hub::open(config, clock.clone(), vec!["127.0.0.1:1".into()]).await.unwrap();
        let shutter = Arc::new(Shutter::default());
        hub.door = hub.door.judged_by(&shutter);
        let tls = Tls::prepare(&hub.config).unwrap();
        Self { web: Arc::new(Web::new(Arc::new(hub), &tls, CancellationToken::new())), shutter, clock, folder }
    }

    pub fn hub(&self) -> &Hub {
        &self.web.hub
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn router(&self) -> Router {
        routes::all(self.web.clone()).router()
    }

    /// The register's leaves from `from` on.
    pub async fn leaves(&self, from: u64) -> Vec<RegisterLeaf> {
        self.hub().register.page(from, 1_000).await.unwrap().into_iter().map(|entry| entry.leaf).collect()
    }

    pub async fn size(&self) -> u64 {
        self.hub().register.root().await.unwrap().size
    }

    /// Everything a request could have changed: the data directory without the register, and what is held in
    /// memory. The search index is left out: its own thread tidies it whenever it likes.
    pub fn traces(&self) -> (String, [usize; 2]) {
        let mut digest = Sha256::new();
        digest_folder(&self.path("hub"), &mut digest);
        (hex::encode(digest.finalize()), [self.web.viewings.len(), self.web.searches.len()])
    }
}

fn digest_folder(folder: &Path, digest: &mut Sha256) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("register.sqlite") || name.ends_with("-shm") || name == "tantivy" {
            continue;
        }
        if path.is_dir() {
            digest_folder(&path, digest);
        } else {
            digest.update(path.as_os_str().as_encoded_bytes());
            // A socket has no content.
            digest.update(std::fs::read(&path).unwrap_or_default());
        }
    }
}

pub async fn ask(router: &Router, visitor: Visitor, method: &Method, uri: &str, body: Option<Value>) -> Response {
    let mut request = Request::builder().method(method).uri(uri).header(header::HOST, "localhost");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(visitor);
    router.clone().oneshot(request).await.unwrap()
}

/// Status, and the JSON of the answer if it is that.
pub async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

pub fn refusals(leaves: &[RegisterLeaf]) -> Vec<&RegisterLeaf> {
    leaves.iter().filter(|leaf| leaf.phase() == Phase::Refused).collect()
}

pub fn administrator() -> Principal {
    Principal::Administrator { uid: 0 }
}
