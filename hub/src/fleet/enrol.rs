//! From a token to a certificate, and from a certificate to the next.

use super::{AuthorityError, Fleet, FleetError, authority, token};
use crate::catalog::{CatalogError, EdgeRow, EdgeStanding, NewToken, Redeemed, TokenRefused};
use crate::media::KeeperError;
use campanile_proto::edge::v1::SignedKeys;
use campanile_proto::ids::EdgeId;
use campanile_proto::kind::Kind;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;

/// A token that nobody used in this time is no use to anybody.
const LONGEST_TOKEN: Duration = Duration::from_secs(30 * 86_400);
const MAX_NAME_CHARS: usize = 100;

/// What a box gets.
pub struct Enrolled {
    pub edge: EdgeId,
    pub certificate: CertificateDer<'static>,
    pub authority: CertificateDer<'static>,
    pub keys: SignedKeys,
}

/// Why a box was not enrolled or renewed. The sentences are for the installer.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error(
        "this enrolment token is not one of this hub: copy the whole token, or make a new one with campanile-hub edges token"
    )]
    UnknownToken,
    #[error("this enrolment token was used already: each box needs its own, make one with campanile-hub edges token")]
    UsedToken,
    #[error("this enrolment token has expired: make a new one with campanile-hub edges token")]
    ExpiredToken,
    #[error("the certificate request was not accepted")]
    Certificate(#[source] AuthorityError),
    #[error("the registry failed")]
    Catalog(#[source] CatalogError),
    #[error("the sealing keys failed")]
    Keys(#[source] KeeperError),
    #[error("the hub is stopping")]
    Stopping,
}

impl EnrolError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownToken | Self::UsedToken | Self::ExpiredToken => Kind::Denied,
            Self::Certificate(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Keys(error) => error.kind(),
            Self::Stopping => Kind::Unavailable,
        }
    }
}

/// A name an installer typed, as it may stand in a list.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect::<String>().trim().to_owned()
}

impl Fleet {
    /// A one-time token for a box at `site_name`.
    pub async fn new_token(&self, site_name: &str, valid_for: Duration) -> Result<String, FleetError> {
        let fleet = &self.0;
        let key = fleet.identity.long_term.verifying_key();
        let (text, secret_hash) =
            token::make(&fleet.advertise, &self.ca_fingerprint(), key.as_bytes()).map_err(|_| FleetError::NoRandom)?;
        let made = fleet.clock.utc();
        let micros = i64::try_from(valid_for.min(LONGEST_TOKEN).as_micros()).unwrap_or(0);
        let token = NewToken { secret_hash, site_name: plain(site_name), made, expires: made.plus_micros(micros) };
        fleet.catalog.add_token(token).await.map_err(FleetError::Catalog)?;
        Ok(text)
    }

    /// Uses a token up. The certificate request is looked at before, so that a bad one costs no token, and only
    /// when there is such a token, so that a stranger costs nothing. The same key gets the same box again.
    pub async fn enrol(&self, secret: &str, csr: &[u8], name: &str) -> Result<Enrolled, EnrolError> {
        let fleet = &self.0;
        let now = fleet.clock.utc();
        let secret_hash = token::hash(secret).ok_or(EnrolError::UnknownToken)?;
        if !fleet.catalog.token_known(secret_hash).await.map_err(EnrolError::Catalog)? {
            return Err(EnrolError::UnknownToken);
        }
        let request = authority::Request::read(csr).map_err(EnrolError::Certificate)?;
        let row = EdgeRow {
            id: EdgeId::ordered(),
            name: plain(name),
            site_name: String::new(),
            enrolled: now,
            standing: EdgeStanding::Good,
        };
        let redeemed = fleet.catalog.redeem(secret_hash, request.key_hash(), row, now).await;
        let edge = match redeemed.map_err(EnrolError::Catalog)? {
            Redeemed::Enrolled(row) => {
                let edge = row.id;
                self.mirror(row);
                edge
            }
            Redeemed::Refused(TokenRefused::Unknown) => return Err(EnrolError::UnknownToken),
            Redeemed::Refused(TokenRefused::Used) => return Err(EnrolError::UsedToken),
            Redeemed::Refused(TokenRefused::Expired) => return Err(EnrolError::ExpiredToken),
        };
        let certificate = fleet.authority.issue(edge, &request, now).map_err(EnrolError::Certificate)?;
        let keys = self.signed_keys(edge).await?;
        tracing::info!(%edge, name = plain(name), "box enrolled");
        Ok(Enrolled { edge, certificate, authority: fleet.authority.certificate().clone(), keys })
    }

    /// The next certificate of a box that showed one of ours, expired or not.
    pub async fn renew(&self, edge: EdgeId, csr: &[u8]) -> Result<CertificateDer<'static>, EnrolError> {
        let request = authority::Request::read(csr).map_err(EnrolError::Certificate)?;
        self.0.authority.issue(edge, &request, self.0.clock.utc()).map_err(EnrolError::Certificate)
    }

    pub(super) async fn signed_keys(&self, edge: EdgeId) -> Result<SignedKeys, EnrolError> {
        let keeper = Arc::clone(&self.0.keeper);
        let made = tokio::task::spawn_blocking(move || keeper.signed_keys(edge)).await;
        made.map_err(|_| EnrolError::Stopping)?.map_err(EnrolError::Keys)
    }
}
