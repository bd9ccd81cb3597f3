//! Requests that are late, replayed, misdirected, altered or too new; relays that flip, cut and forge.

use super::town::*;
use crate::federation::replies::{Asking, Replies};
use crate::federation::*;
use campanile_proto::federation::v1::{AccessRequest, Right, SealedChunk};
use campanile_proto::segment::PrivateKey;
use campanile_proto::signed;
use campanile_proto::types::v1::Phase;
use futures::StreamExt;

struct Pair {
    prato: Town,
    firenze: Town,
    agreement: AgreementId,
}

impl Pair {
    async fn start() -> Self {
        let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
        let agreement = prato.agree_with(&firenze).await;
        Self { prato, firenze, agreement }
    }

    fn request(&self) -> (AccessRequest, PrivateKey) {
        let partner = self.prato.federation.partner(self.firenze.id()).unwrap();
        let query = query();
        let asking = Asking {
            agreement: self.agreement,
            right: Right::Search,
            cameras: Vec::new(),
            from: query.from,
            to: query.to,
        };
        self.prato.federation.0.access_request(&partner, &query.behalf, asking)
    }

    fn sign(&self, request: &AccessRequest) -> SignedEnvelope {
        signed::envelope(request, self.prato.id(), &self.prato.federation.0.identity.hub)
    }

    /// What becomes of an envelope: "ok", the sealed refusal's code, or the bare status.
    async fn send(&self, envelope: SignedEnvelope, request: &AccessRequest, private: PrivateKey) -> String {
        let partner = self.prato.federation.partner(self.firenze.id()).unwrap();
        let id = campanile_proto::ids::RequestId::try_from(&request.request_id).unwrap();
        let opener = self.prato.federation.0.opener(&partner, id, private).unwrap();
        let stream = match self.prato.federation.0.connections.client(&partner).search(envelope).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => {
                assert_eq!(status.message(), "", "it confirms nothing");
                return format!("{:?}", status.code());
            }
        };
        let mut replies = Replies::new(stream, opener);
        loop {
            match replies.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return "ok".into(),
                Err(error) => return error.code().to_owned(),
            }
        }
    }

    async fn outcome(&self, change: impl Fn(&mut AccessRequest)) -> String {
        let (mut request, private) = self.request();
        change(&mut request);
        self.send(self.sign(&request), &request, private).await
    }
}

#[tokio::test]
async fn a_request_that_is_late_replayed_or_misdirected_is_refused() {
    let pair = Pair::start().await;
    assert_eq!(pair.outcome(|_| ()).await, "ok");
    assert_eq!(pair.outcome(|r| r.expires_us = NOW.0 - 1).await, "EXPIRED");
    assert_eq!(pair.outcome(|r| r.expires_us += 1_000_000).await, "EXPIRED");
    assert_eq!(pair.outcome(|r| r.audience_id = OrganisationId::from_u128(77).into()).await, "WRONG_AUDIENCE");
    assert_eq!(pair.outcome(|r| r.right = Right::Playback.into()).await, "MALFORMED");
    assert_eq!(pair.outcome(|r| r.agreement_id = AgreementId::from_u128(5).into()).await, "NO_AGREEMENT");
    assert_eq!(pair.outcome(|r| r.case_number.clear()).await, "MALFORMED");

    let (request, private) = pair.request();
    let envelope = pair.sign(&request);
    assert_eq!(pair.send(envelope.clone(), &request, private.clone()).await, "ok");
    assert_eq!(pair.send(envelope, &request, private).await, "REPLAYED");

    let leaves = pair.firenze.leaves().await;
    let refusals: Vec<_> = leaves.iter().filter(|leaf| leaf.0 == Phase::Refused).map(|leaf| leaf.2.as_str()).collect();
    let expected = ["EXPIRED", "EXPIRED", "WRONG_AUDIENCE", "MALFORMED", "NO_AGREEMENT", "MALFORMED", "REPLAYED"];
    assert_eq!(refusals, expected, "every refusal leaves its entry");
}

#[tokio::test]
async fn what_is_not_signed_by_a_partner_confirms_nothing() {
    let pair = Pair::start().await;
    let (request, private) = pair.request();
    let good = pair.sign(&request);
    for at in [0, good.payload.len() / 2, good.payload.len() - 1] {
        let mut bytes = good.payload.to_vec();
        bytes[at] ^= 1;
        let altered = SignedEnvelope { payload: bytes.into(), ..good.clone() };
        assert_eq!(pair.send(altered, &request, private.clone()).await, "PermissionDenied");
    }
    let stranger = super::identity(9);
    let by_stranger = signed::envelope(&request, stranger.id, &stranger.hub);
    let by_the_wrong_key = signed::envelope(&request, pair.prato.id(), &stranger.hub);
    let by_the_long_term_key = signed::envelope(&request, pair.prato.id(), &pair.prato.federation.0.identity.long_term);
    let unsigned = SignedEnvelope { signatures: Vec::new(), ..good.clone() };
    for envelope in [by_stranger, by_the_wrong_key, by_the_long_term_key, unsigned] {
        assert_eq!(pair.send(envelope, &request, private.clone()).await, "PermissionDenied");
    }
    assert!(pair.firenze.leaves().await.iter().all(|leaf| leaf.0 != Phase::Opened));
    assert_eq!(pair.send(good, &request, private).await, "ok", "the positive control");
}

#[tokio::test]
async fn a_request_with_a_field_of_a_newer_version_is_refused() {
    let pair = Pair::start().await;
    let (request, private) = pair.request();
    let mut envelope = pair.sign(&request);
    envelope.payload = [envelope.payload.as_ref(), &[0xa0, 0x06, 0x01]].concat().into();
    signed::countersign(&mut envelope, pair.prato.id(), &pair.prato.federation.0.identity.hub);
    assert_eq!(pair.send(envelope, &request, private).await, "SCHEMA_TOO_OLD");
    assert_eq!(pair.outcome(|r| r.purpose = 42).await, "SCHEMA_TOO_OLD");
}

async fn through(mangle: super::relay::Mangle) -> (String, usize) {
    let (prato, firenze) = (Town::start(1).await, Town::start_behind(2, Some(mangle)).await);
    prato.agree_with(&firenze).await;
    let answers: Vec<_> = prato.federation.ask_search(query()).collect().await;
    let hits = answers.iter().map(|a| if let Answer::Hits(hits) = &a.result { hits.len() } else { 0 }).sum();
    match &answers.last().unwrap().result {
        Answer::Failed { code, .. } => (code.clone(), hits),
        Answer::Done { .. } => ("ok".into(), hits),
        Answer::Hits(_) => ("unfinished".into(), hits),
    }
}

#[tokio::test]
async fn what_came_before_the_answer_was_cut_is_shown() {
    // Two cards, two hits, the end: the second hit waits for more when the answer breaks off.
    assert_eq!(through(|at, chunk| (at < 4).then_some(chunk)).await, ("CUT_SHORT".into(), 2));
}

#[tokio::test]
async fn a_relay_that_flips_cuts_or_forges_is_noticed() {
    assert_eq!(through(|_, chunk| Some(chunk)).await, ("ok".into(), 2));
    let flipped = through(|at, mut chunk| {
        let mut bytes = chunk.ciphertext.to_vec();
        bytes[0] ^= u8::from(at == 2);
        chunk.ciphertext = bytes.into();
        Some(chunk)
    });
    assert_eq!(flipped.await.0, "NOT_AUTHENTIC");
    assert_eq!(through(|at, chunk| (at != 2).then_some(chunk)).await.0, "NOT_AUTHENTIC");
    assert_eq!(through(|_, chunk| (!chunk.last).then_some(chunk)).await.0, "CUT_SHORT");
    assert_eq!(through(|at, chunk| Some(SealedChunk { last: at == 2, ..chunk })).await.0, "NOT_AUTHENTIC");
    assert_eq!(
        through(|_, chunk| Some(SealedChunk { signature: Default::default(), ..chunk })).await.0,
        "NOT_AUTHENTIC"
    );
}
