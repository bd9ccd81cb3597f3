//! Sealing: a fresh key a segment, wrapped to its organisation's hour key by HPKE (RFC 9180, base mode,
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256), and under it one key a payload by HKDF-Expand (RFC 5869).
//! A payload's key seals once, so its nonce is zero.

use crate::ids::OrganisationId;
use crate::types::v1::{SegmentHeader, Suite};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::ChaCha20Poly1305;
use hkdf::Hkdf;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, kem::X25519HkdfSha256 as X25519};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

type HpkeKdf = hpke::kdf::HkdfSha256;
const KEY_BYTES: usize = 32;
/// X25519 encapsulated key in front of the wrapped key.
const ENC_BYTES: usize = 32;

/// Why something could not be sealed, wrapped or opened. Says nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("suite {0} is not one this version seals or opens")]
    UnknownSuite(i32),
    #[error("a key of {have} bytes where {want} belong")]
    KeyLength { have: usize, want: usize },
    #[error("the payload or its header is not what was sealed, or the key is another one")]
    NotAuthentic,
    #[error("the wrapped key cannot be opened with this private key")]
    WrongPrivateKey,
    #[error("the public key is not a point this suite accepts")]
    BadPublicKey,
    #[error("no random bytes from the kernel")]
    NoRandom,
}

/// The key of one segment; lives in memory only.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SegmentKey([u8; KEY_BYTES]);

/// The key of one payload: it opens that one and nothing else of its segment.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct FragmentKey([u8; KEY_BYTES]);

/// X25519 private key of an hour, of a reserve, of a hold, or of a reply.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_BYTES]);

/// X25519 public key, 32 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey(pub [u8; KEY_BYTES]);

impl std::fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SegmentKey(redacted)")
    }
}

impl std::fmt::Debug for FragmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FragmentKey(redacted)")
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl PrivateKey {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let have = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| SealError::KeyLength { have, want: KEY_BYTES })?))
    }

    /// For the key ring's file, and nothing else.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    pub(crate) fn hpke(&self) -> Result<<X25519 as Kem>::PrivateKey, SealError> {
        Deserializable::from_bytes(&self.0).map_err(|_| SealError::WrongPrivateKey)
    }
}

impl PublicKey {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let have = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| SealError::KeyLength { have, want: KEY_BYTES })?))
    }

    pub(crate) fn hpke(&self) -> Result<<X25519 as Kem>::PublicKey, SealError> {
        Deserializable::from_bytes(&self.0).map_err(|_| SealError::BadPublicKey)
    }
}

/// A fresh X25519 pair.
pub fn key_pair() -> (PrivateKey, PublicKey) {
    let (private, public) = X25519::gen_keypair();
    let (mut a, mut b) = ([0; KEY_BYTES], [0; KEY_BYTES]);
    a.copy_from_slice(&private.to_bytes());
    b.copy_from_slice(&public.to_bytes());
    (PrivateKey(a), PublicKey(b))
}

/// AES-256-GCM where the processor has AES instructions, ChaCha20-Poly1305 elsewhere.
pub fn suite_for_this_machine() -> Suite {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let fast = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let fast = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    let fast = false;
    if fast { Suite::Aes256Gcm } else { Suite::Chacha20Poly1305 }
}

impl SegmentKey {
    /// 256 fresh random bits.
    pub fn random() -> Result<Self, SealError> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|_| SealError::NoRandom)?;
        Ok(Self(key))
    }

    /// Wraps this key for the holder of `to`; `header_bytes` is the encoded `header`. Returns
    /// enc || ciphertext, the payload of the segment record.
    pub fn wrap(&self, header: &SegmentHeader, header_bytes: &[u8], to: &PublicKey) -> Result<Vec<u8>, SealError> {
        let (to, info) = (to.hpke()?, wrap_info(header));
        let wrapped = match suite(header.suite)? {
            Suite::Aes256Gcm => hpke::single_shot_seal::<hpke::aead::AesGcm256, HpkeKdf, X25519>(
                &OpModeS::Base,
                &to,
                &info,
                &self.0,
                header_bytes,
            ),
            _ => hpke::single_shot_seal::<hpke::aead::ChaCha20Poly1305, HpkeKdf, X25519>(
                &OpModeS::Base,
                &to,
                &info,
                &self.0,
                header_bytes,
            ),
        };
        let (enc, ciphertext) = wrapped.map_err(|_| SealError::BadPublicKey)?;
        Ok([enc.to_bytes().as_slice(), &ciphertext].concat())
    }

    /// Opens what [`SegmentKey::wrap`] made.
    pub fn unwrap(
        header: &SegmentHeader,
        header_bytes: &[u8],
        wrapped: &[u8],
        with: &PrivateKey,
    ) -> Result<Self, SealError> {
        let (enc, ciphertext) =
            wrapped.split_at_checked(ENC_BYTES).ok_or(SealError::KeyLength { have: wrapped.len(), want: ENC_BYTES })?;
        let enc = <X25519 as Kem>::EncappedKey::from_bytes(enc).map_err(|_| SealError::WrongPrivateKey)?;
        let (with, info) = (with.hpke()?, wrap_info(header));
        let opened = match suite(header.suite)? {
            Suite::Aes256Gcm => hpke::single_shot_open::<hpke::aead::AesGcm256, HpkeKdf, X25519>(
                &OpModeR::Base,
                &with,
                &enc,
                &info,
                ciphertext,
                header_bytes,
            ),
            _ => hpke::single_shot_open::<hpke::aead::ChaCha20Poly1305, HpkeKdf, X25519>(
                &OpModeR::Base,
                &with,
                &enc,
                &info,
                ciphertext,
                header_bytes,
            ),
        };
        let mut key = opened.map_err(|_| SealError::WrongPrivateKey)?;
        let have = key.len();
        let fixed = key.as_slice().try_into().map_err(|_| SealError::KeyLength { have, want: KEY_BYTES });
        key.zeroize();
        Ok(Self(fixed?))
    }

    /// Seals payload number `sealing`, which is never used twice; `header` is authenticated, not hidden.
    pub fn seal(&self, suite_id: i32, sealing: u32, header: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.fragment_key(sealing);
        let message = Payload { msg: plain, aad: header };
        let sealed = match suite(suite_id)? {
            Suite::Aes256Gcm => Aes256Gcm::new(&key.0.into()).encrypt(&[0; 12].into(), message),
            _ => ChaCha20Poly1305::new(&key.0.into()).encrypt(&[0; 12].into(), message),
        };
        sealed.map_err(|_| SealError::NotAuthentic)
    }

    /// Opens payload number `sealing`.
    pub fn open(&self, suite_id: i32, sealing: u32, header: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.fragment_key(sealing).open(suite_id, header, sealed)
    }

    /// The key of payload number `sealing` alone.
    pub fn fragment_key(&self, sealing: u32) -> FragmentKey {
        let info = [b"fragment".as_slice(), &sealing.to_be_bytes()].concat();
        let mut key = [0; KEY_BYTES];
        Hkdf::<Sha256>::from_prk(&self.0)
            .expect("32 bytes are a pseudo-random key of HKDF-SHA256, because RFC 5869 asks for at least 32")
            .expand(&info, &mut key)
            .expect("32 bytes can be expanded, because RFC 5869 allows 255 x 32");
        FragmentKey(key)
    }
}

impl FragmentKey {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let have = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| SealError::KeyLength { have, want: KEY_BYTES })?))
    }

    /// For what is wrapped to the key of a hold, and for who may open a file in hand; nothing else.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Opens the one payload it is of.
    pub fn open(&self, suite_id: i32, header: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let message = Payload { msg: sealed, aad: header };
        let plain = match suite(suite_id)? {
            Suite::Aes256Gcm => Aes256Gcm::new(&self.0.into()).decrypt(&[0; 12].into(), message),
            _ => ChaCha20Poly1305::new(&self.0.into()).decrypt(&[0; 12].into(), message),
        };
        plain.map_err(|_| SealError::NotAuthentic)
    }
}

/// The suites that seal.
fn suite(id: i32) -> Result<Suite, SealError> {
    match Suite::try_from(id) {
        Ok(suite @ (Suite::Aes256Gcm | Suite::Chacha20Poly1305)) => Ok(suite),
        _ => Err(SealError::UnknownSuite(id)),
    }
}

/// "campanile.segment.v1" || 0 || organisation || retention days u8 || key kind u8 || hour u64 || generation
/// u32, numbers big-endian.
fn wrap_info(header: &SegmentHeader) -> Vec<u8> {
    let organisation = OrganisationId::try_from(&header.organisation_id).unwrap_or(OrganisationId::from_u128(0));
    [
        b"campanile.segment.v1\0".as_slice(),
        organisation.as_bytes(),
        &[header.retention_days as u8, header.key_kind as u8],
        &header.hour.to_be_bytes(),
        &header.key_generation.to_be_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn header(suite: Suite) -> SegmentHeader {
        SegmentHeader {
            organisation_id: OrganisationId::from_u128(9).into(),
            suite: suite.into(),
            hour: 490_000,
            key_generation: 1,
            retention_days: 7,
            ..Default::default()
        }
    }

    #[test]
    fn only_the_private_key_opens() {
        for suite in [Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
            let header = header(suite);
            let bytes = header.encode_to_vec();
            let ((private, public), (stranger, _)) = (key_pair(), key_pair());
            let key = SegmentKey::random().unwrap();
            let wrapped = key.wrap(&header, &bytes, &public).unwrap();
            let sealed = key.seal(header.suite, 3, b"head", b"pixels").unwrap();

            let opened = SegmentKey::unwrap(&header, &bytes, &wrapped, &private).unwrap();
            assert_eq!(opened.open(header.suite, 3, b"head", &sealed).unwrap(), b"pixels");
            assert_eq!(SegmentKey::unwrap(&header, &bytes, &wrapped, &stranger), Err(SealError::WrongPrivateKey));
            let mut other_hour = header.clone();
            other_hour.hour += 1;
            assert_eq!(SegmentKey::unwrap(&other_hour, &bytes, &wrapped, &private), Err(SealError::WrongPrivateKey));
            for (sealing, head) in [(4, b"head"), (3, b"tail")] {
                assert_eq!(key.open(header.suite, sealing, head, &sealed), Err(SealError::NotAuthentic));
            }
        }
    }

    #[test]
    fn the_key_of_one_payload_opens_no_other() {
        let key = SegmentKey::random().unwrap();
        let suite = Suite::Aes256Gcm.into();
        let [second, third] = [2, 3].map(|n| key.seal(suite, n, b"head", b"pixels").unwrap());
        let alone = FragmentKey::from_bytes(key.fragment_key(3).expose()).unwrap();
        assert_eq!(alone.open(suite, b"head", &third).unwrap(), b"pixels");
        assert_eq!(alone.open(suite, b"head", &second), Err(SealError::NotAuthentic));
    }

    #[test]
    fn clear_is_not_a_suite_that_seals() {
        let key = SegmentKey::random().unwrap();
        assert_eq!(key.seal(Suite::Clear.into(), 0, b"", b""), Err(SealError::UnknownSuite(1)));
    }

    #[test]
    fn keys_do_not_show_in_debug() {
        assert_eq!(format!("{:?}", SegmentKey::random().unwrap()), "SegmentKey(redacted)");
        assert_eq!(format!("{:?}", SegmentKey::random().unwrap().fragment_key(1)), "FragmentKey(redacted)");
        assert_eq!(format!("{:?}", key_pair().0), "PrivateKey(redacted)");
    }
}
