//! The requester's end of a sealed reply: requests signed with a fresh key, chunks opened in order.

use super::Inner;
use super::directory::Partner;
use super::error::AskError;
use super::request::{MAX_TERM_US, SCHEMA};
use campanile_proto::federation::v1::reply::Reply as Content;
use campanile_proto::federation::v1::{AccessRequest, LeaseRequest, Purpose, Reply, Right, SealedChunk};
use campanile_proto::ids::{AgreementId, CameraId, LeaseId, RequestId};
use campanile_proto::reply::ReplyOpener;
use campanile_proto::segment::{PrivateKey, key_pair};
use campanile_proto::time::WallTime;
use prost::Message;

/// For whom we ask: as our own register entry has it.
#[derive(Debug, Clone)]
pub struct OnBehalf {
    pub request_id: RequestId,
    pub operator_pseudonym: String,
    pub role: String,
    pub purpose: Purpose,
    pub case_number: String,
}

/// What is asked for, under which agreement.
pub(super) struct Asking {
    pub agreement: AgreementId,
    pub right: Right,
    pub cameras: Vec<CameraId>,
    pub from: WallTime,
    pub to: WallTime,
}

impl Inner {
    /// A request to `partner`, and the private key its answer is sealed to.
    pub(super) fn access_request(
        &self,
        partner: &Partner,
        behalf: &OnBehalf,
        asking: Asking,
    ) -> (AccessRequest, PrivateKey) {
        let (private, public) = key_pair();
        let now = self.clock.utc();
        let request = AccessRequest {
            schema: SCHEMA,
            request_id: behalf.request_id.into(),
            requester_id: self.identity.id.into(),
            audience_id: partner.id.into(),
            agreement_id: asking.agreement.into(),
            right: asking.right.into(),
            purpose: behalf.purpose.into(),
            case_number: behalf.case_number.clone(),
            operator_pseudonym: behalf.operator_pseudonym.clone(),
            role: behalf.role.clone(),
            camera_ids: asking.cameras.into_iter().map(Into::into).collect(),
            from_us: asking.from.0,
            to_us: asking.to.0,
            issued_us: now.0,
            expires_us: now.0 + MAX_TERM_US,
            reply_key: bytes::Bytes::copy_from_slice(&public.0),
            search: None,
            event_id: bytes::Bytes::new(),
        };
        (request, private)
    }

    pub(super) fn lease_request(
        &self,
        partner: &Partner,
        lease: LeaseId,
        request: RequestId,
    ) -> (LeaseRequest, PrivateKey) {
        let (private, public) = key_pair();
        let wire = LeaseRequest {
            schema: SCHEMA,
            lease_id: lease.into(),
            request_id: request.into(),
            requester_id: self.identity.id.into(),
            audience_id: partner.id.into(),
            issued_us: self.clock.utc().0,
            reply_key: bytes::Bytes::copy_from_slice(&public.0),
            ..Default::default()
        };
        (wire, private)
    }

    /// An opener of what `partner` answers to `request`.
    pub(super) fn opener(
        &self,
        partner: &Partner,
        request: RequestId,
        private: PrivateKey,
    ) -> Result<ReplyOpener, AskError> {
        let hub = partner.hub_key(self.clock.utc()).ok_or(AskError::UnknownPartner(partner.id))?;
        Ok(ReplyOpener::new(private, request, hub))
    }
}

/// A reply as it comes.
pub(super) struct Replies {
    stream: tonic::Streaming<SealedChunk>,
    opener: ReplyOpener,
}

impl Replies {
    pub fn new(stream: tonic::Streaming<SealedChunk>, opener: ReplyOpener) -> Self {
        Self { stream, opener }
    }

    /// The next part; none after the last. A refusal is an error, and so is a stream that ends early.
    pub async fn next(&mut self) -> Result<Option<Content>, AskError> {
        if self.opener.ended() {
            return Ok(None);
        }
        let chunk = self.stream.message().await?.ok_or(AskError::CutShort)?;
        let plain = self.opener.open(&chunk).map_err(AskError::NotAuthentic)?;
        let reply = Reply::decode(plain.as_slice()).map_err(|_| AskError::Unexpected("bytes that are no reply"))?;
        match reply.reply.ok_or(AskError::Unexpected("an empty part"))? {
            Content::Refusal(refusal) => Err(AskError::Refused(bounded(refusal))),
            content => Ok(Some(content)),
        }
    }
}

/// A partner's refusal, short enough for a table.
pub(super) fn bounded(
    mut refusal: campanile_proto::federation::v1::Refusal,
) -> campanile_proto::federation::v1::Refusal {
    for (text, most) in [(&mut refusal.code, 40), (&mut refusal.clause, 100), (&mut refusal.sentence, 400)] {
        *text = text.chars().filter(|c| !c.is_control()).take(most).collect();
    }
    refusal
}
