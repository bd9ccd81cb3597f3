//! A hub for tests: real TLS, real gRPC on loopback, and a memory of everything it was told.

use crate::identity::token::tests::text as token_text;
use bytes::Bytes;
use campanile_proto::edge::v1::deliver_down::Message as DeliverDownMessage;
use campanile_proto::edge::v1::deliver_up::Message as DeliverUpMessage;
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::edge_server::{Edge, EdgeServer};
use campanile_proto::edge::v1::hub_message::Message as Down;
use campanile_proto::edge::v1::{
    Ack, DeliverDown, DeliverUp, EdgeMessage, EnrolRequest, EnrolResponse, Hello, HubMessage, RenewRequest,
    RenewResponse, Report, SealingKeys, SequenceRange, SignedKeys, Welcome,
};
use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::segment::key_pair;
use campanile_proto::signed;
use ed25519_dalek::SigningKey;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// What the hub remembers, and what it is to do.
#[derive(Default)]
pub struct Memory {
    pub hellos: Vec<Hello>,
    /// Every report that arrived, in order, doubles included.
    pub reports: Vec<Report>,
    /// What is durable here: by epoch and sequence.
    pub held: BTreeMap<(Bytes, u64), Report>,
    pub other: Vec<Up>,
    /// Reports after which a session breaks, one number a session; empty: it stays.
    pub breaks_after: VecDeque<usize>,
    /// Whether a report of a breaking session is acknowledged.
    pub acknowledges: bool,
    pub delivered: Vec<DeliverUpMessage>,
    pub deliveries_ended: usize,
    pub window_bytes: u64,
    pub renewals: usize,
    /// The key that the token was used with.
    pub used_with: Option<Vec<u8>>,
    /// Answers of an enrolment that are lost on their way.
    pub loses_answers: usize,
    /// Sessions to be turned away as unknown before one is let in.
    pub turns_away: usize,
    /// Ask for these as soon as a session is there.
    pub says: Vec<Down>,
    pub sessions: Vec<mpsc::Sender<Result<HubMessage, Status>>>,
}

#[derive(Clone)]
pub struct FakeHub {
    pub memory: Arc<Mutex<Memory>>,
    pub organisation_key: Arc<SigningKey>,
    pub address: String,
    pub pin: String,
    pub edge: EdgeId,
    pub secret: String,
    authority: CertificateDer<'static>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// Certificates it gives out are over already.
    pub gives_expired: bool,
}

impl FakeHub {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Self)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().der().clone();
        let issuer = Arc::new(Issuer::new(params, key));
        let (_, parsed) = x509_parser::parse_x509_certificate(&authority).unwrap();
        let pin = hex::encode(Sha256::digest(parsed.public_key().raw));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut hub = Self {
            memory: Arc::new(Mutex::new(Memory { acknowledges: true, ..Memory::default() })),
            organisation_key: Arc::new(SigningKey::from_bytes(&[7; 32])),
            address: listener.local_addr().unwrap().to_string(),
            pin,
            edge: EdgeId::random(),
            secret: "5e".repeat(32),
            authority,
            issuer,
            gives_expired: false,
        };
        change(&mut hub);
        hub.serve(listener);
        hub
    }

    fn serve(&self, listener: TcpListener) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["hub.campanile".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let clients = Arc::new(ExpiredToo(clients));
        let chain = vec![certificate.der().clone(), self.authority.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (sender, accepted) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let _ = sender.send(Ok::<_, std::io::Error>(tls)).await;
                }
            }
        });
        let service = EdgeServer::new(self.clone()).max_decoding_message_size(48 << 20);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(accepted)));
    }

    pub fn token(&self) -> String {
        token_text(&self.address, &self.pin, &self.organisation_key, &self.secret)
    }

    /// Looks until `found` says yes, within 20 s; panics with what was seen last.
    pub async fn until<T>(&self, what: &str, mut found: impl FnMut(&mut Memory) -> Option<T>) -> T {
        let look = async {
            loop {
                if let Some(found) = found(&mut self.memory.lock().unwrap()) {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(20), look).await {
            Ok(found) => found,
            Err(_) => {
                let memory = self.memory.lock().unwrap();
                panic!(
                    "{what}: not within 20 s; {} hellos, {} reports, {} held, {} delivered, other {:?}",
                    memory.hellos.len(),
                    memory.reports.len(),
                    memory.held.len(),
                    memory.delivered.len(),
                    memory.other
                );
            }
        }
    }

    /// Says something in every session that is open.
    pub async fn say(&self, message: Down) {
        let sessions = self.memory.lock().unwrap().sessions.clone();
        for session in sessions {
            let _ = session.send(Ok(HubMessage { message: Some(message.clone()) })).await;
        }
    }

    pub fn keys(&self, generation: u32) -> SignedKeys {
        let public = || Bytes::copy_from_slice(&key_pair().1.0);
        let keys = SealingKeys {
            organisation_id: OrganisationId::from_u128(1).into(),
            edge_id: self.edge.into(),
            generation,
            first_hour: 500_000,
            hour_keys: vec![public(), public()],
            reserve_key: public(),
            retention_days: 7,
        };
        let payload = keys.encode_to_vec();
        let signature = signed::sign(signed::EDGE, "SealingKeys", &payload, &self.organisation_key);
        SignedKeys { payload: payload.into(), signature: signature.into() }
    }

    fn certify(&self, csr: &[u8]) -> Result<Bytes, Status> {
        let mut request = CertificateSigningRequestParams::from_der(&csr.into())
            .map_err(|_| Status::invalid_argument("not a certificate request"))?;
        if self.gives_expired {
            request.params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            request.params.not_after = rcgen::date_time_ymd(2020, 2, 1);
        }
        let certificate = request.signed_by(&self.issuer).map_err(|_| Status::internal("cannot sign"))?;
        Ok(Bytes::copy_from_slice(certificate.der()))
    }

    async fn serve_session(&self, mut inbound: Streaming<EdgeMessage>, down: mpsc::Sender<Result<HubMessage, Status>>) {
        let mut breaks_after = self.memory.lock().unwrap().breaks_after.pop_front();
        loop {
            let quiet = tokio::time::timeout(std::time::Duration::from_millis(300), inbound.next());
            let message = match quiet.await {
                Ok(Some(Ok(message))) => message,
                Ok(_) => return,
                // A session that is to break does so also when nothing more comes.
                Err(_) if breaks_after.is_some() => return,
                Err(_) => continue,
            };
            if breaks_after == Some(0) {
                return;
            }
            let answers: Vec<Down> = match message.message {
                Some(Up::Hello(hello)) => self.greet(hello, &down),
                Some(Up::Report(report)) => {
                    breaks_after = breaks_after.map(|left| left - 1);
                    self.remember(report, breaks_after.is_some()).into_iter().collect()
                }
                Some(other) => {
                    self.memory.lock().unwrap().other.push(other);
                    Vec::new()
                }
                None => Vec::new(),
            };
            for answer in answers {
                let _ = down.send(Ok(HubMessage { message: Some(answer) })).await;
            }
        }
    }

    fn greet(&self, hello: Hello, down: &mpsc::Sender<Result<HubMessage, Status>>) -> Vec<Down> {
        let mut memory = self.memory.lock().unwrap();
        let held = memory.held.keys().filter(|(epoch, _)| *epoch == hello.epoch);
        let held = held.map(|(_, sequence)| SequenceRange { first: *sequence, last: *sequence }).collect();
        memory.hellos.push(hello);
        memory.sessions.push(down.clone());
        let welcome = Welcome { protocol: 1, held, ..Welcome::default() };
        [Down::Welcome(welcome)].into_iter().chain(memory.says.drain(..)).collect()
    }

    fn remember(&self, report: Report, breaking: bool) -> Option<Down> {
        let mut memory = self.memory.lock().unwrap();
        let (epoch, sequence) = (report.epoch.clone(), report.sequence);
        memory.held.insert((epoch.clone(), sequence), report.clone());
        memory.reports.push(report);
        let ranges = vec![SequenceRange { first: sequence, last: sequence }];
        (memory.acknowledges || !breaking).then(|| Down::Ack(Ack { epoch, ranges, ..Ack::default() }))
    }
}

/// As a hub does: an expired certificate gets through TLS, so that its box may renew it.
#[derive(Debug)]
struct ExpiredToo(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ExpiredToo {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })) => {
                Ok(ClientCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Edge for FakeHub {
    type SessionStream = Stream_<HubMessage>;
    type DeliverStream = Stream_<DeliverDown>;

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        if request.token_secret != self.secret {
            return Err(Status::permission_denied("this token is not known here"));
        }
        let shown = CertificateSigningRequestParams::from_der(&request.csr.as_ref().into()).unwrap();
        {
            let mut memory = self.memory.lock().unwrap();
            let shown = rcgen::PublicKeyData::der_bytes(&shown.public_key).to_vec();
            // As a hub does: who shows the key that used it had no answer.
            if *memory.used_with.get_or_insert_with(|| shown.clone()) != shown {
                return Err(Status::permission_denied("this token was used already"));
            }
            if memory.loses_answers > 0 {
                memory.loses_answers -= 1;
                return Err(Status::unavailable("lost on its way"));
            }
        }
        Ok(Response::new(EnrolResponse {
            edge_id: self.edge.into(),
            organisation_id: OrganisationId::from_u128(1).into(),
            organisation_name: "Comune di Prova".into(),
            certificate: self.certify(&request.csr)?,
            authority: Bytes::copy_from_slice(&self.authority),
            organisation_key: Bytes::copy_from_slice(self.organisation_key.verifying_key().as_bytes()),
            keys: Some(self.keys(1)),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        self.memory.lock().unwrap().renewals += 1;
        Ok(Response::new(RenewResponse { certificate: self.certify(&request.into_inner().csr)? }))
    }

    async fn session(&self, request: Request<Streaming<EdgeMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        {
            let mut memory = self.memory.lock().unwrap();
            if memory.turns_away > 0 {
                memory.turns_away -= 1;
                return Err(Status::unauthenticated("the certificate has expired"));
            }
        }
        let (down, stream) = mpsc::channel(1_024);
        let hub = self.clone();
        tokio::spawn(async move {
            hub.serve_session(request.into_inner(), down.clone()).await;
            let _ = down.send(Err(Status::unavailable("broken on purpose"))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn deliver(&self, request: Request<Streaming<DeliverUp>>) -> Result<Response<Self::DeliverStream>, Status> {
        let (down, stream) = mpsc::channel(16);
        let memory = self.memory.clone();
        tokio::spawn(async move {
            let window_bytes = memory.lock().unwrap().window_bytes;
            let window = DeliverDown { message: Some(DeliverDownMessage::WindowBytes(window_bytes)) };
            let _ = down.send(Ok(window)).await;
            let mut inbound = request.into_inner();
            while let Some(Ok(DeliverUp { message: Some(message) })) = inbound.next().await {
                let ended = matches!(message, DeliverUpMessage::End(_));
                let mut memory = memory.lock().unwrap();
                memory.delivered.push(message);
                memory.deliveries_ended += usize::from(ended);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
