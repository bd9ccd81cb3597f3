//! Over real TLS on loopback: a hub's gRPC side, and boxes that follow a script.

mod door;
mod enrolment;
mod footage;
mod holds;
mod sessions;
mod terms;

use super::{EdgeService, Served, serve};
use crate::access::{Door, Shutter};
use crate::catalog::{self, Catalog};
use crate::fleet::{Authority, Fleet, Identity, Parts, SessionTerms};
use crate::holds::{self as hold, Holds};
use crate::media::{Playback, RingKeeper};
use crate::register::Register;
use base64::Engine;
use campanile_proto::edge::v1::edge_client::EdgeClient;
use campanile_proto::edge::v1::hub_message::Message as Heard;
use campanile_proto::edge::v1::{
    EdgeMessage, EnrolRequest, EnrolResponse, Hello, HubMessage, RenewRequest, Report, edge_message,
};
use campanile_proto::ids::{BootId, EdgeId, Epoch};
use campanile_proto::time::{Clock, SimClock, SystemClock};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Status, Streaming};

/// No step of a script takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A hub's gRPC side in a folder.
struct Stand {
    dir: std::path::PathBuf,
    address: String,
    clock: Arc<SimClock>,
    catalog: Arc<dyn Catalog>,
    authority: Arc<Authority>,
    fleet: Fleet,
    playback: Playback,
    keeper: Arc<RingKeeper>,
    holds: Holds,
    door: Door,
    register: Register,
    shutter: Arc<Shutter>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Stand {
    async fn open(dir: &Path) -> Self {
        let clock = Arc::new(SimClock::starting_at(SystemClock::new().utc()));
        let terms = SessionTerms {
            dead_known: Duration::from_millis(400),
            replay_settles: Duration::ZERO,
            ..SessionTerms::default()
        };
        Self::with(dir, clock, terms).await
    }

    async fn with(dir: &Path, clock: Arc<SimClock>, terms: SessionTerms) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let identity = Arc::new(Identity::open(dir, "Comune di Prova", "").unwrap());
        let authority = Arc::new(Authority::open(dir, &identity, clock.utc()).unwrap());
        let keeper = RingKeeper::open(&dir.join("keyring"), identity.clone(), 7, clock.clone()).unwrap();
        let keeper = Arc::new(keeper);
        let (catalog, _) = catalog::open(dir, identity.id, keeper.clone(), clock.clone(), 7).unwrap();
        let register =
            Register::open(&dir.join("register.sqlite"), identity.id, identity.register.clone(), clock.clone());
        let (register, shutter) = (register.unwrap(), Arc::new(Shutter::default()));
        let door = Door::new(identity.id, 7, register.clone(), clock.clone()).judged_by(&shutter);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let parts = Parts {
            identity: identity.clone(),
            authority: authority.clone(),
            catalog: catalog.clone(),
            keeper: keeper.clone(),
            clock: clock.clone(),
            advertise: vec![address.clone()],
            retention_days: 7,
            terms,
        };
        let fleet = Fleet::open(dir, parts).await.unwrap();
        let playback =
            Playback::new(identity.id, fleet.clone(), catalog.clone(), keeper.clone(), door.clone(), clock.clone(), 7);
        let parts = hold::Parts {
            organisation: identity.id,
            catalog: catalog.clone(),
            keeper: keeper.clone(),
            fleet: fleet.clone(),
            door: door.clone(),
            clock: clock.clone(),
            retention_days: 7,
        };
        let holds = Holds::open(dir, parts).await.unwrap();
        let served = Served {
            authority: authority.clone(),
            names: vec![address.clone()],
            clock: clock.clone(),
            edge: EdgeService::new(fleet.clone(), door.clone(), clock.clone()),
            federation: None,
        };
        let stop = CancellationToken::new();
        let serving = serve(listener, served, stop.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            dir: dir.to_owned(),
            address,
            clock,
            catalog,
            authority,
            fleet,
            playback,
            keeper,
            holds,
            door,
            register,
            shutter,
            stop,
            task,
        }
    }

    /// Returns once the catalogue's file and the register's are closed, so that others can open them.
    async fn close(self) {
        let Self { dir, catalog, fleet, playback, holds, door, register, stop, task, .. } = self;
        fleet.close().await;
        stop.cancel();
        task.await.unwrap();
        drop((catalog, fleet, playback, holds, door, register));
        let until = std::time::Instant::now() + PATIENCE;
        while ["catalog.sqlite-wal", "register.sqlite-wal"].iter().any(|file| dir.join(file).exists()) {
            assert!(std::time::Instant::now() < until, "the catalogue or the register is still open");
            tokio::task::yield_now().await;
        }
    }

    /// A connection that shows `identity`, if any.
    async fn channel(&self, identity: Option<tonic::transport::Identity>) -> Channel {
        self.connect(identity).await.unwrap()
    }

    async fn connect(&self, identity: Option<tonic::transport::Identity>) -> Result<Channel, tonic::transport::Error> {
        let authority = pem("CERTIFICATE", self.authority.certificate());
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .domain_name(crate::fleet::authority::SERVER_NAME);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    async fn token(&self, valid_for: Duration) -> String {
        self.fleet.new_token("Piazza", valid_for).await.unwrap()
    }

    /// A box, enrolled.
    async fn enrolled(&self) -> TestBox {
        let token = self.token(Duration::from_secs(60)).await;
        TestBox::enrol(self, &secret(&token)).await.unwrap()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn secret(token: &str) -> String {
    let body = token.strip_prefix("cmp1_").unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap();
    let token: serde_json::Value = serde_json::from_slice(&json).unwrap();
    token["secret"].as_str().unwrap().to_owned()
}

/// What a box keeps.
#[derive(Clone)]
struct TestBox {
    id: EdgeId,
    key: Arc<KeyPair>,
    certificate: Vec<u8>,
    response: EnrolResponse,
    epoch: Epoch,
    boot: BootId,
}

fn csr(key: &KeyPair) -> bytes::Bytes {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec().into()
}

impl TestBox {
    async fn enrol(stand: &Stand, secret: &str) -> Result<Self, Status> {
        let key = Arc::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let request = EnrolRequest { token_secret: secret.to_owned(), csr: csr(&key), name: "palo 7".to_owned() };
        let response = EdgeClient::new(stand.channel(None).await).enrol(request).await?.into_inner();
        Ok(Self {
            id: EdgeId::try_from(&response.edge_id).unwrap(),
            key,
            certificate: response.certificate.to_vec(),
            response,
            epoch: Epoch::random(),
            boot: BootId::random(),
        })
    }

    async fn client(&self, stand: &Stand) -> EdgeClient<Channel> {
        let certificate = pem("CERTIFICATE", &self.certificate);
        let identity = tonic::transport::Identity::from_pem(certificate, self.key.serialize_pem());
        EdgeClient::new(stand.channel(Some(identity)).await)
    }

    async fn renew(&mut self, stand: &Stand) -> Result<(), Status> {
        let request = RenewRequest { csr: csr(&self.key) };
        self.certificate = self.client(stand).await.renew(request).await?.into_inner().certificate.to_vec();
        Ok(())
    }

    fn hello(&self, next_sequence: u64, acknowledged_through: u64) -> Hello {
        Hello {
            oldest_protocol: 1,
            newest_protocol: 1,
            epoch: self.epoch.into(),
            next_sequence,
            acknowledged_through,
            acknowledged_count: acknowledged_through,
            boot_id: self.boot.into(),
            software: "script".to_owned(),
            ..Hello::default()
        }
    }

    async fn session(&self, stand: &Stand, hello: Hello) -> Result<Session, Status> {
        let (up, messages) = mpsc::channel(64);
        let hello = EdgeMessage { message: Some(edge_message::Message::Hello(hello)) };
        up.send(hello).await.unwrap();
        let down = self.client(stand).await.session(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Session { up, down })
    }
}

/// One session, from the box's side.
struct Session {
    up: mpsc::Sender<EdgeMessage>,
    down: Streaming<HubMessage>,
}

impl Session {
    async fn report(&self, report: Report) {
        let message = EdgeMessage { message: Some(edge_message::Message::Report(report)) };
        self.up.send(message).await.unwrap();
    }

    /// The next message; `None` once the hub ended the session.
    async fn hear(&mut self) -> Option<Heard> {
        let next = tokio::time::timeout(PATIENCE, self.down.message());
        let heard = next.await.expect("the hub says something in time");
        heard.ok().flatten().and_then(|message| message.message)
    }

    /// Passes over what does not match.
    async fn hear_until<T>(&mut self, mut wanted: impl FnMut(&Heard) -> Option<T>) -> T {
        let mut passed = Vec::new();
        while let Some(heard) = self.hear().await {
            if let Some(found) = wanted(&heard) {
                return found;
            }
            passed.push(heard);
        }
        panic!("the session ended before; it said {passed:?}");
    }

    async fn goodbye(&mut self) -> String {
        let reason = self.hear_until(|heard| match heard {
            Heard::Goodbye(goodbye) => Some(goodbye.reason.clone()),
            _ => None,
        });
        let reason = reason.await;
        assert!(self.hear().await.is_none(), "the hub goes on after its goodbye");
        reason
    }

    async fn welcome(&mut self) -> campanile_proto::edge::v1::Welcome {
        self.hear_until(|heard| match heard {
            Heard::Welcome(welcome) => Some(welcome.clone()),
            _ => None,
        })
        .await
    }
}
