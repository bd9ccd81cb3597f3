//! Enrolment tokens: what an installer types or pastes, once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const PREFIX: &str = "cmp1_";
const SECRET_BYTES: usize = 32;

/// What a token tells a box: where the hub is, how to know it, and the secret that is used up.
#[derive(Serialize)]
struct Token<'a> {
    v: u8,
    hub: &'a [String],
    ca: &'a str,
    org: String,
    secret: &'a str,
}

/// A fresh token's text, and the hash the hub keeps of its secret.
pub(super) fn make(
    hub: &[String],
    ca_fingerprint: &str,
    organisation_key: &[u8; 32],
) -> Result<(String, [u8; 32]), getrandom::Error> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(secret.as_mut_slice())?;
    let text = Zeroizing::new(hex::encode(*secret));
    let token = Token { v: 1, hub, ca: ca_fingerprint, org: hex::encode(organisation_key), secret: &text };
    let json = Zeroizing::new(serde_json::to_vec(&token).unwrap_or_default());
    Ok((format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json.as_slice())), Sha256::digest(*secret).into()))
}

/// Hash of the secret a box sent, if it has the form of one.
pub(super) fn hash(secret: &str) -> Option<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    hex::decode_to_slice(secret.trim(), bytes.as_mut_slice()).ok()?;
    Some(Sha256::digest(*bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_what_a_box_needs() {
        let (text, kept) = make(&["127.0.0.1:1".to_owned()], "abcd", &[9; 32]).unwrap();
        let json = URL_SAFE_NO_PAD.decode(text.strip_prefix("cmp1_").unwrap()).unwrap();
        let token: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&token["v"], &token["ca"], &token["hub"][0]), (&1.into(), &"abcd".into(), &"127.0.0.1:1".into()));
        assert_eq!(hash(token["secret"].as_str().unwrap()), Some(kept));
        assert_eq!(hash("x"), None);
    }
}
