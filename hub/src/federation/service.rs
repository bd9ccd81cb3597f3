//! The Federation service as tonic calls it.

use super::Federation;
use super::answer::{KeyOf, Sealed, long_term_key, unknown};
use super::directory::Partner;
use super::owner::Owner;
use super::refuse;
use super::release::Asked;
use crate::access::{Action, Principal, Request};
use campanile_proto::federation::v1::federation_server::Federation as Wire;
use campanile_proto::federation::v1::{
    AccessRequest, Agreement, IntroduceRequest, Introduction, LeaseRequest, Receipt, Refusal, Revocation, SealedChunk,
    SignedEnvelope,
};
use campanile_proto::signed::SignedMessage;
use campanile_proto::types::v1::Checkpoint;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// Searches and thumbnails come from this hub's own disks; the asker waits half as long.
const OWN_WITHIN: Duration = Duration::from_secs(10);
/// Footage comes from a box behind a slow line, to a reader behind another.
const FOOTAGE_WITHIN: Duration = Duration::from_secs(40);
const LAST_WORD: Duration = Duration::from_secs(1);

fn within(action: Action) -> Duration {
    match action {
        Action::PartnerSearch | Action::PartnerThumbnail => OWN_WITHIN,
        _ => FOOTAGE_WITHIN,
    }
}

type Chunks = ReceiverStream<Result<SealedChunk, Status>>;

/// The side that answers partners.
pub struct Service {
    federation: Federation,
    owner: Arc<dyn Owner>,
}

/// Works on one request and seals what it finds.
type Release = for<'a> fn(&'a Asked<'a>, &'a mut Sealed) -> BoxFuture<'a, Result<(), Refusal>>;

impl Service {
    pub(super) fn new(federation: Federation, owner: Arc<dyn Owner>) -> Self {
        Self { federation, owner }
    }

    /// Decides whether this partner may do this at all.
    async fn admit(&self, principal: Principal, action: Action) -> Result<(), Refusal> {
        let entry = self.owner.enter(Request::new(principal, action)).await?;
        entry.close(0, 0).await;
        Ok(())
    }

    fn hear<M: SignedMessage>(&self, envelope: &SignedEnvelope, key: KeyOf) -> Result<(Partner, M), Status> {
        let heard = self.federation.0.hear(envelope, key);
        if heard.is_err() {
            self.federation.suspect(envelope);
        }
        heard
    }

    /// Answers with a sealed stream, in a task of its own that ends with it.
    fn stream(
        &self,
        partner: Partner,
        envelope: SignedEnvelope,
        keys: (&bytes::Bytes, &bytes::Bytes),
        action: Action,
        release: Release,
    ) -> Result<Response<Chunks>, Status> {
        let (mut reply, chunks) = self.federation.0.answer_to(keys.0, keys.1)?;
        let place = self.federation.0.turnstile.pass(partner.id);
        let (federation, owner) = (self.federation.clone(), self.owner.clone());
        tokio::spawn(async move {
            let Some(_place) = place else {
                let who = self::partner(&partner).label();
                owner.note_refused(action.refused_act(), who, refuse::BUSY.to_owned()).await;
                return reply.refuse(refuse::refusal(refuse::BUSY, "too many requests at once")).await;
            };
            let asked = Asked { federation: &federation.0, owner: &owner, partner: &partner, envelope: &envelope };
            let released = tokio::time::timeout(within(action), release(&asked, &mut reply)).await;
            if let Err(refusal) = released.unwrap_or_else(|_| Err(refuse::unavailable())) {
                tracing::info!(partner = %partner.id, code = refusal.code, clause = refusal.clause, "partner refused");
                // Whoever has not read so far may not read this either.
                let _ = tokio::time::timeout(LAST_WORD, reply.refuse(refusal)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(chunks)))
    }
}

fn receipt(outcome: Result<(), Refusal>) -> Result<Response<Receipt>, Status> {
    let refusal = outcome.err();
    Ok(Response::new(Receipt { accepted: refusal.is_none(), refusal }))
}

fn partner(partner: &Partner) -> Principal {
    Principal::Partner { organisation: partner.id }
}

#[tonic::async_trait]
impl Wire for Service {
    type SearchStream = Chunks;
    type ThumbnailStream = Chunks;
    type OpenStream = Chunks;
    type MediaStream = Chunks;

    async fn introduce(&self, _: tonic::Request<IntroduceRequest>) -> Result<Response<Introduction>, Status> {
        self.admit(Principal::Nobody, Action::Introduce).await.map_err(|_| unknown())?;
        let (card, mandate) = (self.federation.card(), self.federation.mandate());
        Ok(Response::new(Introduction { card: Some(card), mandate: Some(mandate) }))
    }

    async fn propose(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        let envelope = request.into_inner();
        let (from, _) = self.hear::<Agreement>(&envelope, long_term_key)?;
        self.admit(partner(&from), Action::Propose).await.map_err(|_| unknown())?;
        receipt(self.federation.proposed(&from, envelope).await)
    }

    async fn conclude(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        let envelope = request.into_inner();
        let (from, _) = self.hear::<Agreement>(&envelope, long_term_key)?;
        self.admit(partner(&from), Action::PartnerConclude).await.map_err(|_| unknown())?;
        receipt(self.federation.concluded(&from, envelope).await)
    }

    async fn revoke(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        let envelope = request.into_inner();
        let (from, _) = self.hear::<Revocation>(&envelope, long_term_key)?;
        self.admit(partner(&from), Action::PartnerRevoke).await.map_err(|_| unknown())?;
        receipt(self.federation.revoked_by(&from, envelope).await)
    }

    async fn search(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        let envelope = request.into_inner();
        let (from, wire) = self.hear::<AccessRequest>(&envelope, Partner::hub_key)?;
        let keys = (&wire.request_id, &wire.reply_key);
        self.stream(from, envelope, keys, Action::PartnerSearch, |asked, reply| Box::pin(asked.search(reply)))
    }

    async fn thumbnail(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        let envelope = request.into_inner();
        let (from, wire) = self.hear::<AccessRequest>(&envelope, Partner::hub_key)?;
        let keys = (&wire.request_id, &wire.reply_key);
        self.stream(from, envelope, keys, Action::PartnerThumbnail, |asked, reply| Box::pin(asked.thumbnail(reply)))
    }

    async fn open(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        let envelope = request.into_inner();
        let (from, wire) = self.hear::<AccessRequest>(&envelope, Partner::hub_key)?;
        let keys = (&wire.request_id, &wire.reply_key);
        self.stream(from, envelope, keys, Action::PartnerPlayback, |asked, reply| Box::pin(asked.open(reply)))
    }

    async fn media(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        let envelope = request.into_inner();
        let (from, wire) = self.hear::<LeaseRequest>(&envelope, Partner::hub_key)?;
        let keys = (&wire.request_id, &wire.reply_key);
        self.stream(from, envelope, keys, Action::PartnerLease, |asked, reply| Box::pin(asked.media(reply)))
    }

    async fn renew(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        let envelope = request.into_inner();
        let (from, _) = self.hear::<LeaseRequest>(&envelope, Partner::hub_key)?;
        let asked = Asked { federation: &self.federation.0, owner: &self.owner, partner: &from, envelope: &envelope };
        receipt(asked.renew().await)
    }

    async fn close(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        let envelope = request.into_inner();
        let (from, _) = self.hear::<LeaseRequest>(&envelope, Partner::hub_key)?;
        let asked = Asked { federation: &self.federation.0, owner: &self.owner, partner: &from, envelope: &envelope };
        receipt(asked.close().await)
    }

    async fn witness(&self, request: tonic::Request<SignedEnvelope>) -> Result<Response<SignedEnvelope>, Status> {
        let envelope = request.into_inner();
        let (from, _) = self.hear::<Checkpoint>(&envelope, Partner::register_key)?;
        self.admit(partner(&from), Action::PartnerWitness).await.map_err(|_| unknown())?;
        let witnessed = self.federation.witnessed(&from, envelope).await;
        witnessed.map(Response::new).map_err(|error| Status::failed_precondition(error.to_string()))
    }
}
