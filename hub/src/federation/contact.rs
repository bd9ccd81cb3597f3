//! First contact: a partner pinned by the fingerprint that people compared, and its mandate kept fresh.

use super::connect::{first_contact, within};
use super::directory::Partner;
use super::error::FederationError;
use super::mandate::MandateProblem;
use super::{Federation, mandate, write};
use campanile_proto::federation::v1::{IntroduceRequest, Introduction, SignedEnvelope};
use prost::Message;

const CALL_SECONDS: u64 = 5;

impl Federation {
    /// Pins the organisation at `address` if its long-term key has the fingerprint that people compared.
    pub async fn add_partner(&self, address: &str, expected_fingerprint: &str) -> Result<Partner, FederationError> {
        let (introduction, authority) = introduce(address).await?;
        let believed = self.believe(introduction, authority, address)?;
        let partner = believed.0.clone();
        if normal(&partner.fingerprint) != normal(expected_fingerprint) {
            let (address, found) = (address.to_owned(), partner.fingerprint);
            return Err(FederationError::Fingerprint { address, expected: expected_fingerprint.to_owned(), found });
        }
        let _alone = self.0.changing.lock().await;
        if let Some(held) = self.partner(partner.id) {
            if held.key != partner.key {
                return Err(FederationError::OtherKey(partner.id));
            }
            let (held, found) = (held.mandate.sequence, partner.mandate.sequence);
            if found < held {
                return Err(FederationError::Mandate(MandateProblem::Older { held, found }));
            }
        }
        self.keep(believed).await?;
        Ok(partner)
    }

    /// Asks a partner for its newest mandate, at every address known of it.
    pub(super) async fn refresh(&self, partner: &Partner) -> Result<(), FederationError> {
        let mut outcome = Err(FederationError::UnknownPartner(partner.id));
        for address in partner.mandate.endpoints.iter().chain([&partner.address]) {
            outcome = self.refresh_at(partner, address).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn refresh_at(&self, partner: &Partner, address: &str) -> Result<(), FederationError> {
        let (introduction, authority) = introduce(address).await?;
        let found = self.believe(introduction, authority, &partner.address)?;
        if found.0.id != partner.id || found.0.key != partner.key {
            return Err(FederationError::OtherKey(partner.id));
        }
        let _alone = self.0.changing.lock().await;
        let held = self.partner(partner.id).map_or(0, |held| held.mandate.sequence);
        if found.0.mandate.sequence <= held {
            return Ok(());
        }
        self.keep(found).await
    }

    /// Checks an introduction against itself: card, mandate signed by the card's key, TLS by the mandate's authority.
    fn believe(
        &self,
        introduction: Introduction,
        authority: Option<[u8; 32]>,
        address: &str,
    ) -> Result<Believed, FederationError> {
        let card = introduction.card.ok_or(FederationError::Card("there is none"))?;
        let (id, key) = mandate::read_card(&card).map_err(FederationError::Card)?;
        if id == self.us() {
            return Err(FederationError::Ourselves(id));
        }
        let envelope = introduction.mandate.unwrap_or_default();
        let mandate = mandate::read(&envelope, id, &key, self.0.clock.utc()).map_err(FederationError::Mandate)?;
        if authority.is_none_or(|seen| mandate.tls_authority.as_ref() != seen) {
            return Err(FederationError::OtherAuthority);
        }
        let partner = Partner::of(card, mandate, address.to_owned()).map_err(FederationError::Card)?;
        Ok(Believed(partner, envelope))
    }

    async fn keep(&self, Believed(partner, mandate): Believed) -> Result<(), FederationError> {
        let card = partner.card.encode_to_vec();
        self.0.store.put_partner(partner.id, card, &mandate, partner.address.clone()).await?;
        write(&self.0.directory).partners.insert(partner.id, partner);
        Ok(())
    }
}

/// A partner whose introduction holds together, and its mandate's envelope.
struct Believed(Partner, SignedEnvelope);

async fn introduce(address: &str) -> Result<(Introduction, Option<[u8; 32]>), FederationError> {
    if !mandate::is_endpoint(address) {
        return Err(FederationError::Address(address.chars().take(100).collect()));
    }
    let (mut client, pin) = first_contact(address);
    let introduction = within(CALL_SECONDS, client.introduce(IntroduceRequest {})).await;
    let introduction = introduction.map_err(|source| FederationError::Reach { address: address.to_owned(), source })?;
    Ok((introduction.into_inner(), pin.seen()))
}

/// A fingerprint without what people put between its digits.
fn normal(fingerprint: &str) -> String {
    fingerprint.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_uppercase()).collect()
}
