//! The one-time token an installer carries from the hub to the box.
//!
//! `cmp1_` and base64url (no padding) of JSON
//! `{"v":1,"hub":["host:port"],"ca":"<hex>","org":"<hex>","secret":"<hex>"}`: where the hub is, the SHA-256 of
//! its authority's SubjectPublicKeyInfo, the organisation's Ed25519 key, and a secret that works once.

use super::{HubAddresses, IdentityError, SpkiPin};
use base64::Engine;
use campanile_proto::signed;
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use std::io::Read;

const PREFIX: &str = "cmp1_";
/// Two addresses and four hashes take about 400 bytes.
const MAX_TOKEN_BYTES: u64 = 4096;
const MAX_HUBS: usize = 8;

/// What a token says; its secret never shows.
#[derive(Clone)]
pub struct Token {
    pub hub: HubAddresses,
    pub pin: SpkiPin,
    pub organisation_key: VerifyingKey,
    secret: String,
}

#[derive(Deserialize)]
struct RawToken {
    v: u32,
    hub: Vec<String>,
    ca: String,
    org: String,
    secret: String,
}

impl Token {
    /// Reads a token from a file, or from standard input for `-`: never from a command line, which every
    /// user of the machine can see.
    pub fn read(from: &str) -> Result<Self, IdentityError> {
        let mut text = String::new();
        let outcome = if from == "-" {
            std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut text)
        } else {
            std::fs::File::open(from).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text))
        };
        outcome.map_err(|source| IdentityError::ReadToken { from: from.to_owned(), source })?;
        Self::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let bad = IdentityError::BadToken;
        let body = text.trim().strip_prefix(PREFIX).ok_or(bad("it does not begin with cmp1_"))?;
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| bad("it holds characters that do not belong there, or an end is missing"))?;
        let raw: RawToken = serde_json::from_slice(&json).map_err(|_| bad("a part of it is missing"))?;
        if raw.v != 1 {
            return Err(bad("it was made by a newer hub: update this box first"));
        }
        if raw.hub.is_empty() || raw.hub.len() > MAX_HUBS {
            return Err(bad("it names no hub, or too many"));
        }
        let key = hex::decode(&raw.org).map_err(|_| bad("the organisation's key is not hexadecimal"))?;
        if raw.secret.len() != 64 || hex::decode(&raw.secret).is_err() {
            return Err(bad("its secret is not 32 bytes in hexadecimal"));
        }
        Ok(Self {
            hub: HubAddresses::parse(raw.hub)?,
            pin: SpkiPin::from_hex(&raw.ca).ok_or(bad("the authority's hash is not 32 bytes in hexadecimal"))?,
            organisation_key: signed::verifying_key(&key).map_err(IdentityError::OrganisationKey)?,
            secret: raw.secret,
        })
    }

    /// For the one request that spends it.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("hub", &self.hub).field("secret", &"redacted").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    /// A token as a hub prints it.
    pub fn text(hub: &str, pin: &str, organisation: &SigningKey, secret: &str) -> String {
        let org = hex::encode(organisation.verifying_key().as_bytes());
        let json = format!(r#"{{"v":1,"hub":["{hub}"],"ca":"{pin}","org":"{org}","secret":"{secret}"}}"#);
        PREFIX.to_owned() + &base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    }

    #[test]
    fn reads_what_a_hub_prints_and_never_shows_its_secret() {
        let secret = "ab".repeat(32);
        let line = text("127.0.0.1:4433", &"cd".repeat(32), &SigningKey::from_bytes(&[1; 32]), &secret);
        let token = Token::parse(&format!("  {line}\n")).unwrap();
        assert_eq!(token.secret(), secret);
        assert!(!format!("{token:?}").contains(&secret));
    }

    #[test]
    fn says_what_is_wrong_with_a_token() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let whole = text("hub:1", &"cd".repeat(32), &key, &"ab".repeat(32));
        for (broken, why) in [
            ("hello".to_owned(), "cmp1_"),
            (whole[..whole.len() - 9].to_owned(), "missing"),
            (text("hub", &"cd".repeat(32), &key, &"ab".repeat(32)), "host:port"),
            (text("hub:1", "cd", &key, &"ab".repeat(32)), "authority"),
            (text("hub:1", &"cd".repeat(32), &key, "short"), "secret"),
        ] {
            let error = Token::parse(&broken).unwrap_err();
            assert!(error.to_string().contains(why), "{error} should name {why}");
            assert_eq!(error.exit_code(), 65);
        }
    }
}
