//! Signed bytes: a payload kept verbatim and Ed25519 signatures (RFC 8032) over
//! domain || 0 || message name || 0 || SHA-256(payload).

use crate::federation::v1::{Signature as WireSignature, SignedEnvelope};
use crate::ids::OrganisationId;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use prost::Message;
use sha2::{Digest, Sha256};

pub const FEDERATION: &str = "campanile.federation.v1";
pub const EDGE: &str = "campanile.edge.v1";

/// Why signed bytes are not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("a {expected} was expected, not a {found}")]
    WrongMessage { expected: &'static str, found: String },
    #[error("no signature of {0}")]
    Missing(OrganisationId),
    #[error("the signature does not match the bytes and the key")]
    Mismatch,
    #[error("the public key is not 32 bytes of a point on Curve25519")]
    BadKey,
    #[error("the signed bytes are not a {0}")]
    Undecodable(&'static str),
    #[error("the {0} carries a field or value this version does not know")]
    UnknownField(&'static str),
}

/// A message that is signed, under the name that stands in its signature.
pub trait SignedMessage: Message + Default {
    const NAME: &'static str;
}

macro_rules! signed {
    ($($message:ident),*) => {$(
        impl SignedMessage for crate::federation::v1::$message {
            const NAME: &'static str = stringify!($message);
        }
    )*};
}
signed!(Agreement, HubMandate, Revocation, AccessRequest, LeaseRequest);

impl SignedMessage for crate::types::v1::Checkpoint {
    const NAME: &'static str = "Checkpoint";
}

/// What is signed.
pub fn signature_input(domain: &str, name: &str, payload: &[u8]) -> Vec<u8> {
    [domain.as_bytes(), &[0], name.as_bytes(), &[0], &Sha256::digest(payload)].concat()
}

/// The name of a key: SHA-256 of its 32 bytes. Shown to people as its fingerprint.
pub fn key_id(key: &VerifyingKey) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Fingerprint as people compare it by telephone: the first 16 bytes of the key id in groups of four
/// hexadecimal digits.
pub fn fingerprint(key: &VerifyingKey) -> String {
    let text = hex::encode_upper(&key_id(key)[..16]);
    let groups: Vec<&str> = (0..text.len()).step_by(4).map(|at| &text[at..at + 4]).collect();
    groups.join(" ")
}

/// Reads a 32-byte Ed25519 public key.
pub fn verifying_key(bytes: &[u8]) -> Result<VerifyingKey, SignatureError> {
    let array = bytes.try_into().map_err(|_| SignatureError::BadKey)?;
    VerifyingKey::from_bytes(array).map_err(|_| SignatureError::BadKey)
}

/// Signs `payload`, 64 bytes.
pub fn sign(domain: &str, name: &str, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    key.sign(&signature_input(domain, name, payload)).to_bytes().to_vec()
}

/// Checks a signature made by [`sign`] (strictly: no malleable or small-order forms).
pub fn verify(
    domain: &str,
    name: &str,
    payload: &[u8],
    signature: &[u8],
    key: &VerifyingKey,
) -> Result<(), SignatureError> {
    let signature = Signature::from_slice(signature).map_err(|_| SignatureError::Mismatch)?;
    key.verify_strict(&signature_input(domain, name, payload), &signature).map_err(|_| SignatureError::Mismatch)
}

/// An envelope around `message` with one signature.
pub fn envelope<M: SignedMessage>(message: &M, signer: OrganisationId, key: &SigningKey) -> SignedEnvelope {
    let payload = message.encode_to_vec();
    let mut envelope =
        SignedEnvelope { message_name: M::NAME.to_owned(), payload: payload.into(), ..Default::default() };
    countersign(&mut envelope, signer, key);
    envelope
}

/// Adds one more signature over the same bytes; an earlier one of the same organisation is replaced.
pub fn countersign(envelope: &mut SignedEnvelope, signer: OrganisationId, key: &SigningKey) {
    let signature = sign(FEDERATION, &envelope.message_name, &envelope.payload, key);
    envelope.signatures.retain(|s| s.organisation_id != signer.as_bytes().as_slice());
    envelope.signatures.push(WireSignature {
        organisation_id: signer.into(),
        key_id: bytes::Bytes::copy_from_slice(&key_id(&key.verifying_key())),
        signature: signature.into(),
    });
}

/// Checks the signature of one organisation in an envelope.
pub fn verify_envelope<M: SignedMessage>(
    envelope: &SignedEnvelope,
    signer: OrganisationId,
    key: &VerifyingKey,
) -> Result<(), SignatureError> {
    expect_name::<M>(envelope)?;
    let signature = envelope
        .signatures
        .iter()
        .find(|s| s.organisation_id == signer.as_bytes().as_slice())
        .ok_or(SignatureError::Missing(signer))?;
    verify(FEDERATION, M::NAME, &envelope.payload, &signature.signature, key)
}

/// Decodes a payload strictly: a field, or a value, that this version does not know is an error, so that
/// an old hub never misses a newer restriction. Holds because encoding is deterministic: what decodes
/// and encodes to the same bytes had nothing else in it. Unknown enum values survive decoding, so the
/// caller's own checks must refuse `UNSPECIFIED` and unknown ones.
pub fn open_strictly<M: SignedMessage>(envelope: &SignedEnvelope) -> Result<M, SignatureError> {
    expect_name::<M>(envelope)?;
    let message = M::decode(envelope.payload.clone()).map_err(|_| SignatureError::Undecodable(M::NAME))?;
    if message.encode_to_vec() == envelope.payload { Ok(message) } else { Err(SignatureError::UnknownField(M::NAME)) }
}

fn expect_name<M: SignedMessage>(envelope: &SignedEnvelope) -> Result<(), SignatureError> {
    if envelope.message_name == M::NAME {
        return Ok(());
    }
    Err(SignatureError::WrongMessage { expected: M::NAME, found: envelope.message_name.chars().take(40).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::v1::{Agreement, HubMandate, Revocation};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn two_sign_the_same_bytes() {
        let (prato, firenze) = (OrganisationId::from_u128(1), OrganisationId::from_u128(2));
        let agreement = Agreement { schema: 1, title: "Prato e Firenze".into(), ..Default::default() };
        let mut envelope = envelope(&agreement, prato, &key(1));
        assert_eq!(
            verify_envelope::<Agreement>(&envelope, firenze, &key(2).verifying_key()),
            Err(SignatureError::Missing(firenze))
        );
        countersign(&mut envelope, firenze, &key(2));
        for (who, seed) in [(prato, 1), (firenze, 2)] {
            assert_eq!(verify_envelope::<Agreement>(&envelope, who, &key(seed).verifying_key()), Ok(()));
        }
        assert_eq!(
            verify_envelope::<Agreement>(&envelope, prato, &key(2).verifying_key()),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(open_strictly::<Agreement>(&envelope).unwrap(), agreement);
    }

    #[test]
    fn a_signature_of_one_message_is_none_of_another() {
        let signer = OrganisationId::from_u128(1);
        let mut envelope = envelope(&Revocation { reason: "x".into(), ..Default::default() }, signer, &key(1));
        assert!(matches!(
            verify_envelope::<HubMandate>(&envelope, signer, &key(1).verifying_key()),
            Err(SignatureError::WrongMessage { .. })
        ));
        envelope.message_name = "HubMandate".into();
        assert_eq!(
            verify_envelope::<HubMandate>(&envelope, signer, &key(1).verifying_key()),
            Err(SignatureError::Mismatch)
        );
    }

    #[test]
    fn an_unknown_restriction_is_refused() {
        let signer = OrganisationId::from_u128(1);
        let mut envelope = envelope(&Agreement { schema: 1, ..Default::default() }, signer, &key(1));
        assert!(open_strictly::<Agreement>(&envelope).is_ok());
        // Field 100, varint 1: what a newer version might add.
        envelope.payload = [envelope.payload.as_ref(), &[0xa0, 0x06, 0x01]].concat().into();
        assert_eq!(open_strictly::<Agreement>(&envelope), Err(SignatureError::UnknownField("Agreement")));
    }
}
