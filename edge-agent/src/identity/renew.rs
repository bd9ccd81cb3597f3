//! Renewal: a fresh certificate for the same identity, at half-life, or whenever the hub takes ours for
//! expired. The key stays: footers signed with it are checked against the box's certificate for years.

use super::enrol::{certificate_request, check_certificate};
use super::{Identity, IdentityError, IdentityFolder};
use campanile_proto::edge::v1::RenewRequest;
use campanile_proto::edge::v1::edge_client::EdgeClient;
use campanile_proto::time::WallTime;
use rustls_pki_types::CertificateDer;
use std::time::Duration;
use tonic::transport::Channel;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether half of the certificate's life is over.
pub fn is_due(validity: (i64, i64), now: WallTime) -> bool {
    let (not_before, not_after) = validity;
    now.0 / 1_000_000 >= not_before + (not_after - not_before) / 2
}

/// Asks the hub for a fresh certificate and keeps it.
pub async fn renew(folder: &IdentityFolder, identity: &Identity, channel: Channel) -> Result<Identity, IdentityError> {
    let csr = certificate_request(&identity.key, &identity.edge.to_string())?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, EdgeClient::new(channel).renew(RenewRequest { csr: csr.into() }))
        .await
        .map_err(|_| IdentityError::from_status(tonic::Status::unavailable("no answer within 30 seconds")))?
        .map_err(IdentityError::from_status)?
        .into_inner();
    check_certificate(&answer.certificate, &identity.authority, &identity.key)?;
    folder.store_certificate(&answer.certificate)?;
    Ok(Identity { certificate: CertificateDer::from(answer.certificate.to_vec()), ..identity.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_from_half_life_on() {
        let at = |seconds: i64| is_due((1_000, 3_000), WallTime(seconds * 1_000_000));
        assert_eq!((at(1_999), at(2_000), at(9_000)), (false, true, true));
    }
}
