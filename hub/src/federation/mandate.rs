//! Mandates: an organisation's word for which hub speaks for it. Ours made and renewed, theirs read strictly.

use crate::fleet::Identity;
use bytes::Bytes;
use campanile_proto::federation::v1::{HubMandate, OrganisationCard, SignedEnvelope};
use campanile_proto::ids::OrganisationId;
use campanile_proto::signed::{self, SignatureError};
use campanile_proto::time::{MICROS_PER_HOUR, WallTime};
use ed25519_dalek::VerifyingKey;

/// 13 months of at most 30.5 days.
const MAX_TERM_US: i64 = 396 * 24 * MICROS_PER_HOUR;
/// A partner's clock may be this far behind ours.
const BACKDATED_US: i64 = MICROS_PER_HOUR;
const MAX_ENDPOINTS: usize = 8;
const MAX_ENDPOINT_BYTES: usize = 255;
const MAX_CONTACTS: usize = 8;
const MAX_CONTACT_CHARACTERS: usize = 200;
const MAX_NAME_CHARACTERS: usize = 200;

/// What of a mandate is not a key.
pub struct Terms<'a> {
    pub endpoints: &'a [String],
    pub contacts: &'a [String],
    pub tls_authority: &'a [u8; 32],
}

/// Why a mandate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MandateProblem {
    #[error("the signature of the organisation does not hold")]
    Signature(#[source] SignatureError),
    #[error("it speaks for another organisation")]
    OtherOrganisation,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("it is not valid at this time")]
    NotNow,
    #[error("it is older than the one already held (sequence {held}, this one {found})")]
    Older { held: u64, found: u64 },
}

/// The mandate that holds now: the stored one while it says the same and half its term is left, else a new one.
pub fn current(identity: &Identity, held: Option<&SignedEnvelope>, terms: &Terms<'_>, now: WallTime) -> SignedEnvelope {
    let stored = held.and_then(|envelope| signed::open_strictly::<HubMandate>(envelope).ok());
    if let (Some(envelope), Some(stored)) = (held, &stored)
        && says(stored, identity, terms)
        && now.0 >= stored.not_before_us
        && now.0 < stored.not_before_us + MAX_TERM_US / 2
    {
        return envelope.clone();
    }
    let sequence = stored.map_or(0, |mandate| mandate.sequence) + 1;
    let mandate = HubMandate {
        organisation_id: identity.id.into(),
        sequence,
        hub_key: key_bytes(&identity.hub.verifying_key()),
        register_key: key_bytes(&identity.register.verifying_key()),
        endpoints: terms.endpoints.to_vec(),
        tls_authority: Bytes::copy_from_slice(terms.tls_authority),
        contacts: terms.contacts.to_vec(),
        not_before_us: now.0 - BACKDATED_US,
        not_after_us: now.0 - BACKDATED_US + MAX_TERM_US,
    };
    signed::envelope(&mandate, identity.id, &identity.long_term)
}

fn says(mandate: &HubMandate, identity: &Identity, terms: &Terms<'_>) -> bool {
    mandate.organisation_id == Bytes::from(identity.id)
        && mandate.hub_key == key_bytes(&identity.hub.verifying_key())
        && mandate.register_key == key_bytes(&identity.register.verifying_key())
        && mandate.endpoints == terms.endpoints
        && mandate.contacts == terms.contacts
        && mandate.tls_authority.as_ref() == terms.tls_authority
}

fn key_bytes(key: &VerifyingKey) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// Reads a partner's mandate: signed by its long-term key, wholly understood, valid now.
pub fn read(
    envelope: &SignedEnvelope,
    organisation: OrganisationId,
    key: &VerifyingKey,
    now: WallTime,
) -> Result<HubMandate, MandateProblem> {
    signed::verify_envelope::<HubMandate>(envelope, organisation, key).map_err(MandateProblem::Signature)?;
    let mandate: HubMandate = signed::open_strictly(envelope).map_err(MandateProblem::Signature)?;
    if mandate.organisation_id != Bytes::from(organisation) {
        return Err(MandateProblem::OtherOrganisation);
    }
    check(&mandate)?;
    if now.0 < mandate.not_before_us || now.0 >= mandate.not_after_us {
        return Err(MandateProblem::NotNow);
    }
    Ok(mandate)
}

/// Bounds and forms, whatever the time.
fn check(mandate: &HubMandate) -> Result<(), MandateProblem> {
    use MandateProblem::Malformed;
    for key in [&mandate.hub_key, &mandate.register_key] {
        signed::verifying_key(key).map_err(|_| Malformed("hub_key and register_key must be Ed25519 keys"))?;
    }
    let term = mandate.not_after_us.checked_sub(mandate.not_before_us);
    if !term.is_some_and(|term| (1..=MAX_TERM_US).contains(&term)) {
        return Err(Malformed("it must be valid for at most 13 months"));
    }
    if mandate.sequence == 0 {
        return Err(Malformed("its sequence must start at 1"));
    }
    if mandate.tls_authority.len() != 32 {
        return Err(Malformed("tls_authority must be the SHA-256 of a public key"));
    }
    if !(1..=MAX_ENDPOINTS).contains(&mandate.endpoints.len()) {
        return Err(Malformed("it must name 1 to 8 endpoints"));
    }
    if !mandate.endpoints.iter().all(|endpoint| is_endpoint(endpoint)) {
        return Err(Malformed("an endpoint must be host:port"));
    }
    let contact = |text: &String| text.chars().count() <= MAX_CONTACT_CHARACTERS && !text.chars().any(char::is_control);
    if mandate.contacts.len() > MAX_CONTACTS || !mandate.contacts.iter().all(contact) {
        return Err(Malformed("at most 8 contacts of 200 characters"));
    }
    Ok(())
}

/// host:port, as a socket address or a name.
pub fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_ok = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-'),
    };
    text.len() <= MAX_ENDPOINT_BYTES && host_ok && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Reads a card: id, key, and texts that a page may show.
pub fn read_card(card: &OrganisationCard) -> Result<(OrganisationId, VerifyingKey), &'static str> {
    let id = OrganisationId::try_from(&card.organisation_id).map_err(|_| "organisation_id is no id")?;
    let key = signed::verifying_key(&card.public_key).map_err(|_| "public_key is no Ed25519 key")?;
    let printable = |text: &str, most: usize| text.chars().count() <= most && !text.chars().any(char::is_control);
    if card.name.trim().is_empty() || !printable(&card.name, MAX_NAME_CHARACTERS) {
        return Err("name must be 1 to 200 printable characters");
    }
    if !printable(&card.ipa_code, 20) {
        return Err("ipa_code must be at most 20 printable characters");
    }
    Ok((id, key))
}

#[cfg(test)]
mod tests {
    use super::super::tests::identity;
    use super::*;

    const TERMS: ([u8; 32], i64) = ([7; 32], 1_800_000_000_000_000);

    fn make(held: Option<&SignedEnvelope>, now: WallTime) -> SignedEnvelope {
        let endpoints = ["127.0.0.1:9".to_owned()];
        let terms = Terms { endpoints: &endpoints, contacts: &[], tls_authority: &TERMS.0 };
        current(&identity(1), held, &terms, now)
    }

    #[test]
    fn renews_itself_at_half_life_and_not_before() {
        let now = WallTime(TERMS.1);
        let first = make(None, now);
        assert_eq!(make(Some(&first), now.plus_micros(MAX_TERM_US / 2 - 2 * BACKDATED_US)), first);
        let later = now.plus_micros(MAX_TERM_US / 2);
        let second = make(Some(&first), later);
        let (id, key) = (identity(1).id, identity(1).long_term.verifying_key());
        assert_eq!(read(&first, id, &key, now).unwrap().sequence, 1);
        assert_eq!(read(&second, id, &key, later).unwrap().sequence, 2);
    }

    #[test]
    fn is_believed_only_whole_signed_and_in_time() {
        let now = WallTime(TERMS.1);
        let envelope = make(None, now);
        let (us, other) = (identity(1), identity(2));
        let key = us.long_term.verifying_key();
        assert!(read(&envelope, us.id, &key, now).is_ok());
        assert_eq!(read(&envelope, us.id, &key, now.plus_micros(MAX_TERM_US)), Err(MandateProblem::NotNow));
        assert!(read(&envelope, us.id, &other.long_term.verifying_key(), now).is_err());
        assert!(read(&envelope, other.id, &key, now).is_err());

        let mut long: HubMandate = signed::open_strictly(&envelope).unwrap();
        long.not_after_us += 1;
        let long = signed::envelope(&long, us.id, &us.long_term);
        assert!(matches!(read(&long, us.id, &key, now), Err(MandateProblem::Malformed(_))));

        let newer = [envelope.payload.as_ref(), &[0xa0, 0x06, 0x01]].concat();
        let newer = resign(newer, &us);
        assert_eq!(
            read(&newer, us.id, &key, now),
            Err(MandateProblem::Signature(SignatureError::UnknownField("HubMandate")))
        );
    }

    fn resign(payload: Vec<u8>, by: &Identity) -> SignedEnvelope {
        let mut envelope =
            SignedEnvelope { message_name: "HubMandate".into(), payload: payload.into(), ..Default::default() };
        signed::countersign(&mut envelope, by.id, &by.long_term);
        envelope
    }

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["127.0.0.1:1", "[::1]:443", "hub.comune.prato.it:8443"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["", "host", "host:0", "host:99999", "http://host:1", "a b:1", "[x]:1", "user@host:1"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
