//! A town: a hub's federation with canned footage behind the real door.

use super::identity;
use super::relay::{Mangle, Relay};
use crate::access::{Door, Refusal, Request, Shutter};
use crate::federation::owner::Picture;
use crate::federation::*;
use crate::register::{Register, RegisterError, Root};
use bytes::Bytes;
use campanile_proto::federation::v1::{
    CameraCard, Grant, GroupListing, Listing, Purpose, Right, SearchHit, VariantListing,
};
use campanile_proto::ids::{AgreementId, CameraId, EventId, RequestId, RunId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, SimClock, WallTime};
use campanile_proto::types::v1::{Act, Phase, Stream};
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity as TlsIdentity, Server, ServerTlsConfig};

pub const NOW: WallTime = WallTime(1_800_000_000_000_000);
pub const GROUP_US: i64 = 2 * MICROS_PER_SECOND;

/// The canned footage of one camera: an event ten minutes ago, groups of two seconds in one run.
pub fn camera(town: u8, number: u8) -> CameraId {
    CameraId::from_u128(u128::from(town) << 8 | u128::from(number))
}

pub fn run_of(camera: CameraId) -> RunId {
    RunId::from_u128(u128::from_be_bytes(*camera.as_bytes()) << 16)
}

pub fn event_of(camera: CameraId) -> EventId {
    EventId::from_u128(u128::from_be_bytes(*camera.as_bytes()) << 32)
}

pub fn event_start() -> WallTime {
    NOW.plus_micros(-600 * MICROS_PER_SECOND)
}

pub fn footage(camera: CameraId, first: u64) -> Bytes {
    // More than one part of a reply.
    let mut bytes = vec![first as u8; 700 << 10];
    bytes[..16].copy_from_slice(camera.as_bytes());
    bytes.into()
}

/// What is done to hits, and what to listings.
pub type Bends = (fn(&mut SearchHit), fn(&mut Listing));

pub struct Holdings {
    door: Door,
    register: Register,
    number: u8,
    /// How long a search takes.
    pub slow: Mutex<Duration>,
    /// What is done to every hit and listing before it leaves: a partner that misbehaves.
    pub bent: Mutex<Option<Bends>>,
    /// What a listing fails with.
    pub missing: Mutex<Option<Kind>>,
    /// Runs when events or a group are asked for, before they are delivered.
    pub meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

pub struct Town {
    pub number: u8,
    pub federation: Federation,
    pub holdings: Arc<Holdings>,
    pub register: Register,
    pub clock: Arc<SimClock>,
    pub shutter: Arc<Shutter>,
    pub address: String,
    stop: CancellationToken,
    serving: Mutex<Option<tokio::task::JoinHandle<Result<(), tonic::transport::Error>>>>,
    pub folder: tempfile::TempDir,
}

impl Drop for Town {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Owner for Holdings {
    fn enter(&self, request: Request) -> BoxFuture<'_, Result<Entry, Refusal>> {
        Box::pin(async move { Ok(Entry::of(self.door.enter(request).await?)) })
    }

    fn note_refused(&self, act: Act, who: String, code: String) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.door.note(act, &who, &code).await })
    }

    fn search(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<SearchHit>, NotReleased>> {
        Box::pin(async move {
            let slow = *self.slow.lock().unwrap();
            tokio::time::sleep(slow).await;
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            let hit = |number| SearchHit {
                event_id: event_of(camera(self.number, number)).into(),
                camera_id: camera(self.number, number).into(),
                start_us: event_start().0,
                ..Default::default()
            };
            // One camera more than any agreement grants: a search that forgets its bounds shows it.
            let within = |hit: &SearchHit| (wanted.from.0..wanted.to.0).contains(&hit.start_us);
            let mut hits: Vec<SearchHit> = (1..=9).map(hit).filter(within).take(wanted.limit).collect();
            if let Some((bend, _)) = *self.bent.lock().unwrap() {
                hits.iter_mut().for_each(bend);
            }
            Ok(hits)
        })
    }

    fn cards(&self, cameras: Vec<CameraId>) -> BoxFuture<'_, Result<Vec<CameraCard>, NotReleased>> {
        let card = |id: CameraId| CameraCard { camera_id: id.into(), name: format!("Via {id}"), ..Default::default() };
        Box::pin(async move { Ok(cameras.into_iter().map(card).collect()) })
    }

    fn picture(&self, event: EventId) -> BoxFuture<'_, Result<Option<Picture>, NotReleased>> {
        let found = (1..=9).map(|number| camera(self.number, number)).find(|camera| event_of(*camera) == event);
        let picture = |camera| Picture { camera, start: event_start(), jpeg: Bytes::from_static(b"jpeg") };
        let meanwhile = self.meanwhile.lock().unwrap().take();
        Box::pin(async move {
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            Ok(found.map(picture))
        })
    }

    fn listing(
        &self,
        _: RequestId,
        camera: CameraId,
        from: WallTime,
        to: WallTime,
    ) -> BoxFuture<'_, Result<Listing, NotReleased>> {
        let groups = (from.0..to.0).step_by(GROUP_US as usize).enumerate().map(|(at, start_us)| GroupListing {
            run_id: run_of(camera).into(),
            first: at as u64 * 2,
            last: at as u64 * 2 + 1,
            start_us,
            duration_us: GROUP_US as u64,
            discontinuity: false,
        });
        let variant = VariantListing { stream: Stream::Main.into(), groups: groups.collect(), ..Default::default() };
        let missing = *self.missing.lock().unwrap();
        Box::pin(async move {
            match missing {
                Some(kind) => Err(NotReleased { what: "a listing", kind, source: "there is none".into() }),
                None => {
                    let mut listing = Listing { zero_us: from.0, variants: vec![variant], ..Default::default() };
                    if let Some((_, bend)) = *self.bent.lock().unwrap() {
                        bend(&mut listing);
                    }
                    Ok(listing)
                }
            }
        })
    }

    fn init(&self, _: RequestId, _: CameraId, _: Stream, _: RunId) -> BoxFuture<'_, Result<Bytes, NotReleased>> {
        Box::pin(async { Ok(Bytes::from_static(b"ftyp moov")) })
    }

    fn group(
        &self,
        _: RequestId,
        camera: CameraId,
        _: Stream,
        _: RunId,
        range: (u64, u64),
        _: WallTime,
    ) -> BoxFuture<'_, Result<Bytes, NotReleased>> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        Box::pin(async move {
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            Ok(footage(camera, range.0))
        })
    }

    fn begins_with(&self, then: Root) -> BoxFuture<'_, Result<bool, NotReleased>> {
        let failed = |source: RegisterError| NotReleased { what: "root", kind: Kind::Internal, source: source.into() };
        Box::pin(async move { self.register.begins_with(Some(then)).await.map_err(failed) })
    }

    fn growth(&self, old: u64, new: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, NotReleased>> {
        let failed = |source: RegisterError| NotReleased { what: "proof", kind: source.kind(), source: source.into() };
        Box::pin(async move { self.register.consistency(old, new).await.map_err(failed) })
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<SignedEnvelope, NotReleased>> {
        Box::pin(async {
            let checkpoint = self.register.checkpoint().await;
            checkpoint.map_err(|source| NotReleased { what: "checkpoint", kind: Kind::Internal, source: source.into() })
        })
    }
}

struct Tls {
    chain: String,
    key: String,
    authority: [u8; 32],
}

fn tls() -> Tls {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let authority = params.self_signed(&authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["hub.campanile".to_owned()]).unwrap();
    let issuer = rcgen::Issuer::new(params, &authority_key);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(authority.der()).unwrap();
    let fingerprint = Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into();
    Tls { chain: leaf.pem() + &authority.pem(), key: key.serialize_pem(), authority: fingerprint }
}

impl Town {
    pub async fn start(number: u8) -> Self {
        Self::start_behind(number, None).await
    }

    /// A hub whose answers pass a relay that holds its TLS key and changes sealed chunks.
    pub async fn start_behind(number: u8, mangle: Option<Mangle>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let clock = Arc::new(SimClock::starting_at(NOW));
        let identity = Arc::new(identity(number));
        let register_path = folder.path().join("register.sqlite");
        let register = Register::open(&register_path, identity.id, identity.register.clone(), clock.clone()).unwrap();
        let shutter = Arc::new(Shutter::default());
        let door = Door::new(identity.id, 7, register.clone(), clock.clone()).judged_by(&shutter);
        let (tls, published) = (tls(), door.clone());
        let federation = Federation::open(Parts {
            path: folder.path().join("federation.sqlite"),
            marker: marker_path(folder.path()),
            clock: clock.clone(),
            identity,
            tls_authority: tls.authority,
            endpoints: vec![address.clone()],
            contacts: Vec::new(),
            publish: Box::new(move |agreements| published.set_agreements(agreements)),
        });
        let federation = federation.await.unwrap();
        let holdings = Arc::new(Holdings {
            door,
            register: register.clone(),
            number,
            slow: Mutex::default(),
            meanwhile: Mutex::default(),
            missing: Mutex::default(),
            bent: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let service = Relay { inner: Service::new(federation.clone(), holdings.clone()), mangle };
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(TlsIdentity::from_pem(tls.chain, tls.key)))
            .unwrap()
            .add_service(FederationServer::new(service))
            .serve_with_incoming_shutdown(
                tokio_stream::wrappers::TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        let serving = Mutex::new(Some(tokio::spawn(server)));
        tokio::spawn(federation.clone().run(holdings.clone(), stop.clone()));
        Self { number, federation, holdings, register, clock, shutter, address, stop, serving, folder }
    }

    /// Nobody answers here any more, when this returns.
    pub async fn fall_silent(&self) {
        self.stop.cancel();
        let serving = self.serving.lock().unwrap().take().expect("it falls silent once");
        serving.await.unwrap().unwrap();
    }

    pub fn id(&self) -> OrganisationId {
        self.federation.us()
    }

    /// Both pin each other, as two people on the telephone.
    pub async fn meet(&self, other: &Town) {
        for (one, two) in [(self, other), (other, self)] {
            let fingerprint =
                campanile_proto::signed::fingerprint(&two.federation.0.identity.long_term.verifying_key());
            one.federation.add_partner(&two.address, &fingerprint).await.unwrap();
        }
    }

    /// Search, thumbnail and playback of our cameras 1 and 2 for `beneficiary`: clauses 3.1, 3.2, 3.3.
    pub fn grants(&self, beneficiary: &Town) -> Vec<Grant> {
        let grant = |(number, right): (usize, Right)| Grant {
            clause: format!("3.{}", number + 1),
            owner_id: self.id().into(),
            beneficiary_id: beneficiary.id().into(),
            right: right.into(),
            camera_ids: vec![camera(self.number, 1).into(), camera(self.number, 2).into()],
            purposes: vec![Purpose::UrbanSecurity.into()],
            roles: vec!["agente".into()],
            lookback_hours: 24,
        };
        [Right::Search, Right::Thumbnail, Right::Playback].into_iter().enumerate().map(grant).collect()
    }

    /// An agreement in force by which `owner` grants to us.
    pub async fn agree_with(&self, owner: &Town) -> AgreementId {
        self.meet(owner).await;
        let draft = AgreementDraft {
            title: "Protocollo d'intesa".into(),
            partner: owner.id(),
            grants: owner.grants(self),
            valid_days: 365,
        };
        let id = self.federation.propose(draft).await.unwrap();
        owner.federation.sign(id, Vec::new()).await.unwrap();
        assert_eq!(self.state(id), State::Live);
        assert_eq!(owner.state(id), State::Live);
        id
    }

    pub fn state(&self, id: AgreementId) -> State {
        self.federation.agreements().iter().find(|row| row.id == id).unwrap().state
    }

    /// Phase, clause and reason of every register leaf.
    pub async fn leaves(&self) -> Vec<(Phase, String, String)> {
        let page = self.register.page(0, 1_000).await.unwrap();
        page.into_iter().map(|entry| (entry.leaf.phase(), entry.leaf.clause.clone(), entry.leaf.reason)).collect()
    }
}

pub fn behalf() -> OnBehalf {
    OnBehalf {
        request_id: RequestId::ordered(),
        operator_pseudonym: "op-7".into(),
        role: "agente".into(),
        purpose: Purpose::UrbanSecurity,
        case_number: "2026/17".into(),
    }
}

pub fn query() -> PartnerQuery {
    PartnerQuery {
        behalf: behalf(),
        from: NOW.plus_micros(-MICROS_PER_HOUR),
        to: NOW,
        words: String::new(),
        region: None,
        limit: 100,
        cameras: Vec::new(),
    }
}

pub fn playback(owner: &Town, number: u8, seconds: i64) -> PlaybackQuery {
    PlaybackQuery {
        behalf: behalf(),
        partner: owner.id(),
        camera: camera(owner.number, number),
        from: event_start(),
        to: event_start().plus_micros(seconds * MICROS_PER_SECOND),
    }
}

/// Waits for something to become so, at most ten seconds.
pub async fn eventually<F: Future<Output = Option<T>>, T>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..1_000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come to be within 10 s");
}
