//! The Edge service: who calls, the door, and the call into the fleet.

use crate::access::{Action, Door, Pass, Principal, Refusal, Request as Asked};
use crate::fleet::{EnrolError, Fleet, authority};
use campanile_proto::edge::v1::edge_server::Edge;
use campanile_proto::edge::v1::{
    DeliverDown, DeliverUp, EdgeMessage, EnrolRequest, EnrolResponse, HubMessage, RenewRequest, RenewResponse,
};
use campanile_proto::ids::EdgeId;
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::Clock;
use campanile_proto::types::v1::Act;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Response, Status, Streaming};

/// Messages to a box that it has not taken yet.
const OUT: usize = 256;

/// Cheap to clone.
#[derive(Clone)]
pub struct EdgeService {
    fleet: Fleet,
    door: Door,
    clock: Arc<dyn Clock>,
}

impl EdgeService {
    pub fn new(fleet: Fleet, door: Door, clock: Arc<dyn Clock>) -> Self {
        Self { fleet, door, clock }
    }

    /// Who the connection's certificate says is calling.
    fn principal<T>(&self, request: &Request<T>) -> Principal {
        let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = connection.and_then(TlsConnectInfo::peer_certs);
        let subject = certificates.and_then(|chain| authority::subject(chain.first()?));
        match subject {
            None => Principal::Nobody,
            Some((id, until)) => {
                Principal::Edge { id, current: self.clock.utc() < until, revoked: self.fleet.is_revoked(id) }
            }
        }
    }

    /// The door, for a box.
    async fn enter<T>(&self, request: &Request<T>, action: Action) -> Result<(EdgeId, Pass), Status> {
        let principal = self.principal(request);
        let id = match principal {
            Principal::Edge { id, .. } => Some(id),
            _ => None,
        };
        let pass = self.door.enter(Asked::new(principal, action)).await.map_err(|refusal| refused(&refusal))?;
        let id =
            id.ok_or_else(|| Status::unauthenticated("a certificate of this hub is needed: enrol the box first"))?;
        Ok((id, pass))
    }
}

fn refused(refusal: &Refusal) -> Status {
    Status::new(refusal.kind.grpc(), refusal.sentence.clone())
}

/// What the installer may read; our own faults stay in our log.
fn failed(error: &EnrolError) -> Status {
    match error.kind() {
        Kind::Denied => Status::permission_denied(error.to_string()),
        Kind::Invalid => Status::invalid_argument(Chain(error).to_string()),
        kind => {
            tracing::error!(error = %Chain(error), "enrolment failed");
            Status::new(kind.grpc(), "the hub could not do it; its log says why")
        }
    }
}

#[tonic::async_trait]
impl Edge for EdgeService {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let asked = Asked::new(Principal::Nobody, Action::Enrol);
        let _pass = self.door.enter(asked).await.map_err(|refusal| refused(&refusal))?;
        let EnrolRequest { token_secret, csr, name } = request.into_inner();
        let enrolled = self.fleet.enrol(&token_secret, &csr, &name).await.map_err(|error| failed(&error))?;
        self.door.note(Act::Enrol, &format!("edge {}", enrolled.edge), "").await;
        let identity = self.fleet.identity();
        Ok(Response::new(EnrolResponse {
            edge_id: enrolled.edge.into(),
            organisation_id: identity.id.into(),
            organisation_name: identity.name.clone(),
            certificate: enrolled.certificate.to_vec().into(),
            authority: enrolled.authority.to_vec().into(),
            organisation_key: identity.long_term.verifying_key().to_bytes().to_vec().into(),
            keys: Some(enrolled.keys),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let (edge, _pass) = self.enter(&request, Action::EdgeRenew).await?;
        let csr = request.into_inner().csr;
        let certificate = self.fleet.renew(edge, &csr).await.map_err(|error| failed(&error))?;
        Ok(Response::new(RenewResponse { certificate: certificate.to_vec().into() }))
    }

    type SessionStream = BoxStream<'static, Result<HubMessage, Status>>;

    /// Answers at once and opens inside the stream, because a box may send its hello only once it is
    /// answered.
    async fn session(&self, request: Request<Streaming<EdgeMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        let (edge, _pass) = self.enter(&request, Action::EdgeSession).await?;
        let (out, messages) = mpsc::channel(OUT);
        self.fleet.serve_session(edge, request.into_inner(), out);
        Ok(Response::new(ReceiverStream::new(messages).map(Ok).boxed()))
    }

    type DeliverStream = BoxStream<'static, Result<DeliverDown, Status>>;

    async fn deliver(&self, request: Request<Streaming<DeliverUp>>) -> Result<Response<Self::DeliverStream>, Status> {
        let (edge, _pass) = self.enter(&request, Action::EdgeDeliver).await?;
        let (down, messages) = mpsc::channel(OUT);
        self.fleet.serve_delivery(edge, request.into_inner(), down);
        Ok(Response::new(ReceiverStream::new(messages).map(Ok).boxed()))
    }
}
