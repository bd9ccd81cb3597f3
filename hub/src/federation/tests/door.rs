//! Every method of the Federation service passes the door.

use super::town::*;
use crate::access::{Action, METHODS, Shutter};
use crate::federation::replies::{Asking, Replies};
use crate::federation::*;
use campanile_proto::federation::v1::reply::Reply as Content;
use campanile_proto::federation::v1::{IntroduceRequest, LeaseRequest, Receipt, Revocation, Right};
use campanile_proto::ids::{LeaseId, RequestId};
use campanile_proto::segment::PrivateKey;
use campanile_proto::signed;
use campanile_proto::types::v1::{Phase, Stream};
use tonic::Status;

const SERVICE: &str = "/campanile.federation.v1.Federation/";

/// A requester that sends by hand, with a lease nobody renews.
struct Asker<'a> {
    prato: &'a Town,
    firenze: &'a Town,
    agreement: AgreementId,
    lease: LeaseId,
    request: RequestId,
}

type Sealed = Result<tonic::Response<tonic::Streaming<campanile_proto::federation::v1::SealedChunk>>, Status>;

impl Asker<'_> {
    fn partner(&self) -> Partner {
        self.prato.federation.partner(self.firenze.id()).unwrap()
    }

    fn access(&self, right: Right) -> (SignedEnvelope, RequestId, PrivateKey) {
        let behalf = behalf();
        let playing = playback(self.firenze, 1, 10);
        let asking = Asking {
            agreement: self.agreement,
            right,
            cameras: vec![camera(2, 1)],
            from: playing.from,
            to: playing.to,
        };
        let inner = &self.prato.federation.0;
        let (mut request, private) = inner.access_request(&self.partner(), &behalf, asking);
        if right == Right::Thumbnail {
            request.event_id = event_of(camera(2, 1)).into();
        }
        (signed::envelope(&request, self.prato.id(), &inner.identity.hub), behalf.request_id, private)
    }

    fn leased(&self, change: impl FnOnce(&mut LeaseRequest)) -> (SignedEnvelope, RequestId, PrivateKey) {
        let inner = &self.prato.federation.0;
        let (mut wire, private) = inner.lease_request(&self.partner(), self.lease, self.request);
        change(&mut wire);
        (signed::envelope(&wire, self.prato.id(), &inner.identity.hub), self.request, private)
    }

    /// The first part of a sealed answer.
    async fn opened(&self, sealed: Sealed, request: RequestId, private: PrivateKey) -> Result<Content, String> {
        let opener = self.prato.federation.0.opener(&self.partner(), request, private).unwrap();
        let stream = sealed.map_err(|status| status.to_string())?.into_inner();
        match Replies::new(stream, opener).next().await {
            Ok(content) => content.ok_or("nothing".to_owned()),
            Err(error) => Err(error.code().to_owned()),
        }
    }

    /// Calls one method with everything it needs; the word of the refusal.
    async fn call(&self, method: &str) -> Result<(), String> {
        let mut client = self.prato.federation.0.connections.client(&self.partner());
        let plain = |answer: Result<(), Status>| answer.map_err(|status| format!("{:?}", status.code()));
        let said = |answer: Result<tonic::Response<Receipt>, Status>| match answer {
            Err(status) => Err(format!("{:?}", status.code())),
            Ok(receipt) => receipt.into_inner().refusal.map_or(Ok(()), |refusal| Err(refusal.code)),
        };
        let (us, long_term) = (self.prato.id(), &self.prato.federation.0.identity.long_term);
        match method {
            "Introduce" => plain(client.introduce(IntroduceRequest {}).await.map(drop)),
            "Propose" | "Conclude" => {
                let draft = AgreementDraft {
                    title: method.into(),
                    partner: self.firenze.id(),
                    grants: self.firenze.grants(self.prato),
                    valid_days: 1,
                };
                let cards = vec![self.prato.federation.card(), self.firenze.federation.card()];
                let drawn = agreement::draw_up(&draft, cards, NOW);
                let mut envelope = signed::envelope(&drawn, us, long_term);
                if method == "Propose" {
                    return said(client.propose(envelope).await);
                }
                let firenze = &self.firenze.federation.0.identity;
                signed::countersign(&mut envelope, firenze.id, &firenze.long_term);
                said(client.conclude(envelope).await)
            }
            "Revoke" => {
                let revocation = Revocation {
                    agreement_id: self.agreement.into(),
                    organisation_id: us.into(),
                    at_us: NOW.0,
                    reason: "basta".into(),
                };
                said(client.revoke(signed::envelope(&revocation, us, long_term)).await)
            }
            "Search" => {
                let (envelope, request, private) = self.access(Right::Search);
                self.opened(client.search(envelope).await, request, private).await.map(drop)
            }
            "Thumbnail" => {
                let (envelope, request, private) = self.access(Right::Thumbnail);
                self.opened(client.thumbnail(envelope).await, request, private).await.map(drop)
            }
            "Open" => {
                let (envelope, request, private) = self.access(Right::Playback);
                self.opened(client.open(envelope).await, request, private).await.map(drop)
            }
            "Media" => {
                let (envelope, request, private) = self.leased(|wire| {
                    (wire.stream, wire.run_id, wire.last) = (Stream::Main.into(), run_of(camera(2, 1)).into(), 1);
                });
                self.opened(client.media(envelope).await, request, private).await.map(drop)
            }
            "Renew" => said(client.renew(self.leased(|_| ()).0).await),
            "Close" => said(client.close(self.leased(|_| ()).0).await),
            "Witness" => {
                let checkpoint = self.prato.register.checkpoint().await.unwrap();
                plain(client.witness(checkpoint).await.map(drop))
            }
            other => panic!("call {other} here"),
        }
    }

    /// What a method could have changed at the owner.
    fn traces(&self) -> String {
        let federation = &self.firenze.federation;
        let agreements: Vec<_> =
            federation.agreements().iter().map(|row| (row.id, row.state, row.revoked_at)).collect();
        format!("{agreements:?} {:?}", federation.0.leases.states())
    }
}

#[tokio::test]
async fn every_method_is_refused_by_a_shut_door_and_leaves_nothing_but_its_entry() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let agreement = prato.agree_with(&firenze).await;
    let (lease, request) = (LeaseId::from_u128(0), RequestId::from_u128(0));
    let mut asker = Asker { prato: &prato, firenze: &firenze, agreement, lease, request };
    let (envelope, request, private) = asker.access(Right::Playback);
    let mut client = prato.federation.0.connections.client(&asker.partner());
    let listing = asker.opened(client.open(envelope).await, request, private).await.unwrap();
    let Content::Listing(listing) = listing else { panic!("{listing:?}") };
    (asker.lease, asker.request) = (LeaseId::try_from(&listing.lease_id).unwrap(), request);
    // Signed later than the request that opened the lease.
    prato.clock.advance_micros(1);

    let methods: Vec<(&str, Action)> =
        METHODS.iter().filter_map(|(path, action)| Some((path.strip_prefix(SERVICE)?, *action))).collect();
    assert_eq!(methods.len(), 11);
    firenze.shutter.shut();
    for (method, action) in &methods {
        let (before, size) = (asker.traces(), firenze.register.root().await.unwrap().size);
        let refused = asker.call(method).await.unwrap_err();
        assert!([Shutter::CODE, "PermissionDenied"].contains(&refused.as_str()), "{method}: {refused}");
        assert_eq!(firenze.shutter.asked(), [*action], "{method}");
        assert_eq!(asker.traces(), before, "{method}");
        let leaves = firenze.register.page(size, 10).await.unwrap();
        let leaves: Vec<_> = leaves.iter().map(|entry| (entry.leaf.act(), entry.leaf.phase())).collect();
        // Whoever introduces himself is nobody yet.
        let known = *action != Action::Introduce;
        assert_eq!(leaves, vec![(action.refused_act(), Phase::Refused); known.into()], "{method}");
    }

    firenze.shutter.open();
    let (last, others): (Vec<_>, Vec<_>) = methods.iter().partition(|(method, _)| ["Close", "Revoke"].contains(method));
    for &(method, action) in others.into_iter().chain(last.into_iter().rev()) {
        let before = asker.traces();
        assert_eq!(asker.call(method).await, Ok(()), "the control: {method} goes through an open door");
        assert_eq!(firenze.shutter.asked(), [action], "{method}");
        let changes = ["Propose", "Conclude", "Revoke", "Open", "Media", "Renew", "Close"].contains(&method);
        assert_eq!(asker.traces() != before, changes, "the control: what {method} changes is seen");
    }
}
