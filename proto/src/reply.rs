//! Sealed replies: what a partner answers, readable only with the request's own key, whatever carries it.
//! HPKE base mode (RFC 9180), DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, one context a reply.
//! Anybody can seal to a public key: the answering hub signs the start of the context, which nobody else can continue.

use crate::federation::v1::SealedChunk;
use crate::ids::RequestId;
use crate::segment::{PrivateKey, PublicKey, SealError};
use crate::signed::{self, FEDERATION};
use bytes::Bytes;
use ed25519_dalek::{SigningKey, VerifyingKey};
use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm256};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, kdf::HkdfSha256, kem::X25519HkdfSha256 as X25519};

/// Seals the chunks of one reply, in order.
pub struct ReplySealer {
    context: AeadCtxS<AesGcm256, HkdfSha256, X25519>,
    /// `enc` and its signature, sent with the first chunk.
    start: Option<(Bytes, Bytes)>,
}

/// Opens the chunks of one reply, in order.
pub struct ReplyOpener {
    private: PrivateKey,
    request: RequestId,
    hub: VerifyingKey,
    context: Option<AeadCtxR<AesGcm256, HkdfSha256, X25519>>,
    ended: bool,
}

/// Why a chunk is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("the reply cannot be sealed to, or opened with, this key")]
    Key(#[source] SealError),
    #[error("the reply starts without its encapsulated key")]
    NoStart,
    #[error("the start of the reply is not signed by the hub that was asked")]
    NotFromHub(#[source] signed::SignatureError),
    #[error("the reply goes on after its last chunk")]
    AfterEnd,
    #[error("a chunk is missing, out of order, or not what was sealed")]
    NotAuthentic,
}

/// Name under which the start of a reply is signed.
const SIGNED_NAME: &str = "Reply";

fn info(request: RequestId) -> Vec<u8> {
    [FEDERATION.as_bytes(), &[0], request.as_bytes()].concat()
}

/// request id || enc.
fn signed_start(request: RequestId, enc: &[u8]) -> Vec<u8> {
    [request.as_bytes(), enc].concat()
}

impl ReplySealer {
    /// `reply_key` and `request` as the request carried them, `hub` the key our mandate names.
    pub fn new(reply_key: &PublicKey, request: RequestId, hub: &SigningKey) -> Result<Self, ReplyError> {
        let key = reply_key.hpke().map_err(ReplyError::Key)?;
        let (enc, context) = hpke::setup_sender::<AesGcm256, HkdfSha256, X25519>(&OpModeS::Base, &key, &info(request))
            .map_err(|_| ReplyError::Key(SealError::BadPublicKey))?;
        let enc = Bytes::copy_from_slice(&enc.to_bytes());
        let signature = signed::sign(FEDERATION, SIGNED_NAME, &signed_start(request, &enc), hub);
        Ok(Self { context, start: Some((enc, signature.into())) })
    }

    /// The next chunk.
    pub fn seal(&mut self, plain: &[u8], last: bool) -> Result<SealedChunk, ReplyError> {
        let ciphertext = self.context.seal(plain, &[u8::from(last)]).map_err(|_| ReplyError::NotAuthentic)?;
        let (enc, signature) = self.start.take().unwrap_or_default();
        Ok(SealedChunk { enc, ciphertext: ciphertext.into(), last, signature })
    }
}

impl ReplyOpener {
    /// `hub` is the key in the mandate of whom was asked.
    pub fn new(private: PrivateKey, request: RequestId, hub: VerifyingKey) -> Self {
        Self { private, request, hub, context: None, ended: false }
    }

    /// Opens the next chunk.
    pub fn open(&mut self, chunk: &SealedChunk) -> Result<Vec<u8>, ReplyError> {
        if self.ended {
            return Err(ReplyError::AfterEnd);
        }
        if self.context.is_none() {
            let enc = <X25519 as Kem>::EncappedKey::from_bytes(&chunk.enc).map_err(|_| ReplyError::NoStart)?;
            let start = signed_start(self.request, &chunk.enc);
            signed::verify(FEDERATION, SIGNED_NAME, &start, &chunk.signature, &self.hub)
                .map_err(ReplyError::NotFromHub)?;
            let private = self.private.hpke().map_err(ReplyError::Key)?;
            let context = hpke::setup_receiver::<AesGcm256, HkdfSha256, X25519>(
                &OpModeR::Base,
                &private,
                &enc,
                &info(self.request),
            );
            self.context = Some(context.map_err(|_| ReplyError::NoStart)?);
        }
        let context = self.context.as_mut().ok_or(ReplyError::NoStart)?;
        let plain = context.open(&chunk.ciphertext, &[u8::from(chunk.last)]).map_err(|_| ReplyError::NotAuthentic)?;
        self.ended = chunk.last;
        Ok(plain)
    }

    /// Whether the last chunk was read: a stream that stops before was cut.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::key_pair;

    fn hub() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    #[test]
    fn a_relay_can_neither_read_nor_cut_unnoticed() {
        let (private, public) = key_pair();
        let request = RequestId::random();
        let key = hub().verifying_key();
        let mut sealer = ReplySealer::new(&public, request, &hub()).unwrap();
        let chunks = [sealer.seal(b"one", false).unwrap(), sealer.seal(b"two", true).unwrap()];
        assert!(!chunks[0].ciphertext.windows(3).any(|w| w == b"one"));

        let mut opener = ReplyOpener::new(private.clone(), request, key);
        assert_eq!(opener.open(&chunks[0]).unwrap(), b"one");
        assert!(!opener.ended());
        assert_eq!(opener.open(&chunks[1]).unwrap(), b"two");
        assert!(opener.ended());
        assert_eq!(opener.open(&chunks[1]), Err(ReplyError::AfterEnd));

        let mut cut = ReplyOpener::new(private.clone(), request, key);
        let pretended_last = SealedChunk { last: true, ..chunks[0].clone() };
        assert_eq!(cut.open(&pretended_last), Err(ReplyError::NotAuthentic));
        let mut stranger = ReplyOpener::new(key_pair().0, request, key);
        assert_eq!(stranger.open(&chunks[0]), Err(ReplyError::NotAuthentic));
        let mut other_request = ReplyOpener::new(private, RequestId::random(), key);
        assert!(matches!(other_request.open(&chunks[0]), Err(ReplyError::NotFromHub(_))));
    }

    #[test]
    fn a_relay_cannot_answer_in_the_hubs_place() {
        let (private, public) = key_pair();
        let request = RequestId::random();
        let mut relay = ReplySealer::new(&public, request, &SigningKey::from_bytes(&[6; 32])).unwrap();
        let forged = relay.seal(b"nothing found", true).unwrap();
        let mut opener = ReplyOpener::new(private.clone(), request, hub().verifying_key());
        assert!(matches!(opener.open(&forged), Err(ReplyError::NotFromHub(_))));

        let genuine = ReplySealer::new(&public, request, &hub()).unwrap().seal(b"one found", true).unwrap();
        let spliced = SealedChunk { ciphertext: forged.ciphertext, ..genuine };
        let mut opener = ReplyOpener::new(private, request, hub().verifying_key());
        assert_eq!(opener.open(&spliced), Err(ReplyError::NotAuthentic));
    }
}
