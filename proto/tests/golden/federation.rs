//! Hub and hub: signed envelopes and a sealed reply.

use crate::records::{label, picture_box};
use crate::{AT_US, golden, hash, holds, id, written};
use bytes::Bytes;
use campanile_proto::federation::v1::reply::Reply as Content;
use campanile_proto::federation::v1::*;
use campanile_proto::ids::{OrganisationId, RequestId};
use campanile_proto::reply::{ReplyOpener, ReplySealer};
use campanile_proto::segment::{PrivateKey, PublicKey};
use campanile_proto::signed::{self, SignedMessage};
use campanile_proto::types::v1::{Checkpoint, Stream};
use ed25519_dalek::SigningKey;
use prost::Message;
use std::fmt::Debug;

pub const NAMES: &[&str] = &[
    "introduction",
    "agreement_envelope",
    "mandate_envelope",
    "revocation_envelope",
    "access_request_envelope",
    "lease_request_envelope",
    "checkpoint_envelope",
    "checkpoint_growth_envelope",
    "receipt",
    "sealed_reply",
];

const PRATO: OrganisationId = OrganisationId::from_u128(0x0202_0202_0202_0202_0202_0202_0202_0202);
const FIRENZE: OrganisationId = OrganisationId::from_u128(0x0d0d_0d0d_0d0d_0d0d_0d0d_0d0d_0d0d_0d0d);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn key_bytes(seed: u8) -> Bytes {
    Bytes::copy_from_slice(key(seed).verifying_key().as_bytes())
}

fn card(id: OrganisationId, name: &str, ipa_code: &str, seed: u8) -> OrganisationCard {
    OrganisationCard {
        organisation_id: id.into(),
        name: name.into(),
        ipa_code: ipa_code.into(),
        public_key: key_bytes(seed),
    }
}

fn prato() -> OrganisationCard {
    card(PRATO, "Comune di Prato", "c_g999", 0x21)
}

pub fn agreement() -> Agreement {
    let party = |card| Party { card: Some(card) };
    let grant = Grant {
        clause: "3.1".into(),
        owner_id: FIRENZE.into(),
        beneficiary_id: PRATO.into(),
        right: Right::Playback.into(),
        camera_ids: vec![id(4), id(14)],
        purposes: vec![Purpose::UrbanSecurity.into(), Purpose::JudicialPolice.into()],
        roles: vec!["agente".into()],
        lookback_hours: 72,
    };
    Agreement {
        schema: 1,
        agreement_id: id(15),
        title: "Protocollo d'intesa Prato e Firenze".into(),
        parties: vec![party(prato()), party(card(FIRENZE, "Comune di Firenze", "c_d612", 0x22))],
        grants: vec![grant],
        valid_from_us: AT_US,
        valid_until_us: AT_US + 31_536_000_000_000,
        drawn_up_us: AT_US - 1,
    }
}

pub fn mandate() -> HubMandate {
    HubMandate {
        organisation_id: PRATO.into(),
        sequence: 4,
        hub_key: key_bytes(0x23),
        register_key: key_bytes(0x24),
        endpoints: vec!["hub.comune.prato.it:8443".into()],
        tls_authority: hash(0x61),
        contacts: vec!["polizia.municipale@comune.prato.it".into()],
        not_before_us: AT_US,
        not_after_us: AT_US + 1,
    }
}

pub fn revocation() -> Revocation {
    let reason = "fine dell'intesa".to_owned();
    Revocation { agreement_id: id(15), organisation_id: PRATO.into(), at_us: AT_US, reason }
}

fn reply_keys() -> (PrivateKey, PublicKey) {
    let private = PrivateKey::from_bytes(&hash(0x51)).unwrap();
    let public = x25519(&private);
    (private, public)
}

/// The public key of a fixed private one.
pub fn x25519(private: &PrivateKey) -> PublicKey {
    use hpke::{Deserializable, Kem, Serializable};
    type X25519 = hpke::kem::X25519HkdfSha256;
    let key = <X25519 as Kem>::PrivateKey::from_bytes(private.expose()).unwrap();
    PublicKey::from_bytes(&X25519::sk_to_pk(&key).to_bytes()).unwrap()
}

pub fn access_request() -> AccessRequest {
    AccessRequest {
        schema: 1,
        request_id: id(12),
        requester_id: PRATO.into(),
        audience_id: FIRENZE.into(),
        agreement_id: id(15),
        right: Right::Search.into(),
        purpose: Purpose::JudicialPolice.into(),
        case_number: "2026/17".into(),
        operator_pseudonym: "op-7".into(),
        role: "agente".into(),
        camera_ids: vec![id(4)],
        from_us: AT_US - 60_000_000,
        to_us: AT_US,
        issued_us: AT_US,
        expires_us: AT_US + 60_000_000,
        reply_key: Bytes::copy_from_slice(&reply_keys().1.0),
        search: Some(SearchQuery { words: "furgone bianco".into(), region: vec![0x0f; 72].into(), limit: 100 }),
        event_id: id(10),
    }
}

pub fn lease_request() -> LeaseRequest {
    LeaseRequest {
        schema: 1,
        lease_id: id(16),
        request_id: id(12),
        requester_id: PRATO.into(),
        audience_id: FIRENZE.into(),
        issued_us: AT_US,
        reply_key: Bytes::copy_from_slice(&reply_keys().1.0),
        stream: Stream::Sub.into(),
        run_id: id(5),
        first: 600,
        last: 629,
        init: true,
    }
}

pub fn checkpoint() -> Checkpoint {
    Checkpoint { organisation_id: PRATO.into(), tree_size: 42, root_hash: hash(0x71), utc_us: AT_US }
}

/// A checkpoint on its way to a witness.
pub fn growing_checkpoint() -> SignedEnvelope {
    let mut envelope = signed::envelope(&checkpoint(), PRATO, &key(0x24));
    envelope.consistency = vec![hash(0x72), hash(0x73)];
    envelope
}

fn refusal() -> Refusal {
    Refusal { code: "NOT_GRANTED".into(), clause: "3.1".into(), sentence: "no clause grants this".into() }
}

/// Every kind of part a reply may have.
pub fn contents() -> Vec<Content> {
    let hit = SearchHit {
        event_id: id(10),
        camera_id: id(4),
        camera_name: "Piazza della Signoria".into(),
        site: "Centro".into(),
        address: "Piazza della Signoria".into(),
        start_us: AT_US - 2_000_000,
        end_us: AT_US,
        ongoing: true,
        union: Some(picture_box()),
        peak_cells: 44,
        has_thumbnail: true,
        kept_until_us: AT_US + 604_800_000_000,
        uncertainty_us: 2_500,
        labels: vec![label()],
    };
    let group = GroupListing {
        run_id: id(5),
        first: 600,
        last: 629,
        start_us: AT_US,
        duration_us: 2_000_000,
        discontinuity: true,
    };
    let variant = VariantListing {
        stream: Stream::Main.into(),
        codecs: "avc1.64001f".into(),
        width: 1_280,
        height: 720,
        bandwidth_bps: 2_000_000,
        groups: vec![group],
    };
    let card = CameraCard {
        camera_id: id(4),
        name: "Piazza della Signoria".into(),
        site: "Centro".into(),
        address: "Piazza della Signoria".into(),
        latitude: 43.7696,
        longitude: 11.2558,
    };
    let media = |part| Content::Media(MediaPart { part: Some(part) });
    vec![
        Content::Camera(card),
        Content::Hit(hit),
        Content::End(SearchEnd { count: 1, truncated: true }),
        Content::Listing(Listing { lease_id: id(16), lease_seconds: 15, zero_us: AT_US, variants: vec![variant] }),
        media(media_part::Part::Init(Bytes::from_static(b"ftyp moov"))),
        media(media_part::Part::Fragment(Bytes::from_static(b"moof mdat"))),
        Content::Thumbnail(ThumbnailImage { jpeg: Bytes::from_static(&[0xff, 0xd8, 0xff, 0xd9]) }),
        Content::Refusal(refusal()),
    ]
}

pub fn introduction() -> Introduction {
    Introduction { card: Some(prato()), mandate: Some(signed::envelope(&mandate(), PRATO, &key(0x21))) }
}

pub fn receipt() -> Receipt {
    Receipt { accepted: true, refusal: Some(refusal()) }
}

/// An envelope signed by each of `signers` opens strictly to `message`.
fn signed_holds<M>(name: &str, message: &M, signers: &[(OrganisationId, u8)])
where
    M: SignedMessage + PartialEq + Debug,
{
    let mut envelope = signed::envelope(message, signers[0].0, &key(signers[0].1));
    signers.iter().skip(1).for_each(|(signer, seed)| signed::countersign(&mut envelope, *signer, &key(*seed)));
    holds(name, &envelope);
    let read = SignedEnvelope::decode(written(name)).unwrap();
    for (signer, seed) in signers {
        signed::verify_envelope::<M>(&read, *signer, &key(*seed).verifying_key()).unwrap();
        assert!(signed::verify_envelope::<M>(&read, *signer, &key(0x7f).verifying_key()).is_err());
    }
    assert_eq!(&signed::open_strictly::<M>(&read).unwrap(), message);
}

#[test]
fn signed_messages_hold_and_so_do_their_signatures() {
    signed_holds("agreement_envelope", &agreement(), &[(PRATO, 0x21), (FIRENZE, 0x22)]);
    signed_holds("mandate_envelope", &mandate(), &[(PRATO, 0x21)]);
    signed_holds("revocation_envelope", &revocation(), &[(PRATO, 0x21)]);
    signed_holds("access_request_envelope", &access_request(), &[(PRATO, 0x23)]);
    signed_holds("lease_request_envelope", &lease_request(), &[(PRATO, 0x23)]);
    holds("checkpoint_growth_envelope", &growing_checkpoint());
    signed_holds("checkpoint_envelope", &checkpoint(), &[(PRATO, 0x24), (FIRENZE, 0x25)]);
    holds("introduction", &introduction());
    holds("receipt", &receipt());
}

/// Chunks one after another, each with its length before it.
#[test]
fn a_sealed_reply_opens_with_its_key_and_only_whole() {
    let request = RequestId::try_from(&id(12)).unwrap();
    let (private, public) = reply_keys();
    let parts: Vec<Vec<u8>> = contents().into_iter().map(|c| Reply { reply: Some(c) }.encode_to_vec()).collect();
    let mut rest = golden("sealed_reply", || {
        let mut sealer = ReplySealer::new(&public, request, &key(0x26)).unwrap();
        let seal = |(at, part): (usize, &Vec<u8>)| {
            sealer.seal(part, at + 1 == parts.len()).unwrap().encode_length_delimited_to_vec()
        };
        parts.iter().enumerate().flat_map(seal).collect()
    });
    let whole = rest.clone();
    let mut opener = ReplyOpener::new(private, request, key(0x26).verifying_key());
    let (mut opened, mut again) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let chunk = SealedChunk::decode_length_delimited(&mut rest).unwrap();
        again.extend(chunk.encode_length_delimited_to_vec());
        opened.push(opener.open(&chunk).unwrap());
    }
    assert!(opener.ended());
    assert_eq!(opened, parts);
    assert_eq!(again, whole);
}

/// A first and last chunk, as the coverage needs one.
pub fn sealed_chunk() -> SealedChunk {
    let mut sealer = ReplySealer::new(&reply_keys().1, RequestId::from_u128(1), &key(0x26)).unwrap();
    sealer.seal(b"all", true).unwrap()
}
