//! The owner's side, before anything is released: whose signature it is, and the sealed way back.

use super::directory::Partner;
use super::{Inner, read};
use campanile_proto::federation::v1::reply::Reply as Content;
use campanile_proto::federation::v1::{Refusal, Reply, SealedChunk, SignedEnvelope};
use campanile_proto::ids::{OrganisationId, RequestId};
use campanile_proto::reply::ReplySealer;
use campanile_proto::signed::{self, SignedMessage};
use campanile_proto::time::WallTime;
use ed25519_dalek::VerifyingKey;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

/// More parties than an agreement may have sign nothing.
const MAX_SIGNATURES: usize = 8;
/// Chunks on their way: a slow reader holds back the sealing, not memory.
const IN_FLIGHT: usize = 4;

/// Says nothing of why: whoever is unknown learns nothing.
pub(super) fn unknown() -> Status {
    Status::permission_denied("")
}

/// Which of a partner's keys signs a message.
pub(super) type KeyOf = fn(&Partner, WallTime) -> Option<VerifyingKey>;

pub(super) fn long_term_key(partner: &Partner, _: WallTime) -> Option<VerifyingKey> {
    Some(partner.key)
}

impl Inner {
    /// The partner whose signature this envelope carries, and the message as far as it can be read.
    pub(super) fn hear<M: SignedMessage>(&self, envelope: &SignedEnvelope, key: KeyOf) -> Result<(Partner, M), Status> {
        if envelope.signatures.len() > MAX_SIGNATURES {
            return Err(unknown());
        }
        let now = self.clock.utc();
        let signer = |organisation: &bytes::Bytes| {
            let id = OrganisationId::try_from(organisation).ok()?;
            let partner = read(&self.directory).partners.get(&id).cloned()?;
            let verified = signed::verify_envelope::<M>(envelope, id, &key(&partner, now)?);
            match verified {
                Ok(()) => Some(partner),
                Err(error) => {
                    tracing::warn!(partner = %id, message = M::NAME, %error, "signature refused");
                    None
                }
            }
        };
        let partner = envelope.signatures.iter().find_map(|s| signer(&s.organisation_id)).ok_or_else(unknown)?;
        let message = M::decode(envelope.payload.clone()).map_err(|_| unknown())?;
        Ok((partner, message))
    }

    /// The sealed way back to whoever holds the request's key.
    pub(super) fn answer_to(
        &self,
        request: &bytes::Bytes,
        reply_key: &bytes::Bytes,
    ) -> Result<(Sealed, mpsc::Receiver<Result<SealedChunk, Status>>), Status> {
        let unreadable = |what: &'static str| Status::invalid_argument(what);
        let request = RequestId::try_from(request).map_err(|_| unreadable("request_id must be an id"))?;
        let key = super::request::reply_key(reply_key).ok_or_else(|| unreadable("reply_key must be an X25519 key"))?;
        let sealer = ReplySealer::new(&key, request, &self.identity.hub)
            .map_err(|_| unreadable("reply_key must be an X25519 key"))?;
        let (out, chunks) = mpsc::channel(IN_FLIGHT);
        Ok((Sealed { sealer, out, bytes: 0 }, chunks))
    }
}

/// A reply being sent.
pub(super) struct Sealed {
    sealer: ReplySealer,
    out: mpsc::Sender<Result<SealedChunk, Status>>,
    bytes: u64,
}

/// Nobody reads the answer any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Sealed {
    pub async fn send(&mut self, content: Content, last: bool) -> Result<(), Gone> {
        let plain = Reply { reply: Some(content) }.encode_to_vec();
        self.bytes += plain.len() as u64;
        let chunk = self.sealer.seal(&plain, last).map_err(|_| Status::internal(""));
        self.out.send(chunk).await.map_err(|_| Gone)
    }

    pub async fn refuse(&mut self, refusal: Refusal) {
        let _ = self.send(Content::Refusal(refusal), true).await;
    }

    /// Bytes of the answer so far, before sealing.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
