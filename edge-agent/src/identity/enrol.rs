//! Enrolment: a token becomes a certificate.

use super::{Identity, IdentityError, IdentityFolder, SpkiPin, Token, connect};
use crate::clock::Reckoned;
use crate::keys::KeySet;
use campanile_proto::edge::v1::edge_client::EdgeClient;
use campanile_proto::edge::v1::{EnrolRequest, EnrolResponse};
use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::signed;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_NAME: usize = 200;

/// Spends the token and keeps what the hub answers, if all of it can be believed. `replace` gives an enrolled
/// box a new identity. Tried again after an answer that was lost, it is the same box to the hub: a token that was used
/// is good for the key it was used with.
pub async fn enrol(
    folder: &IdentityFolder,
    token: &Token,
    name: &str,
    now: Reckoned,
    replace: bool,
) -> Result<Identity, IdentityError> {
    if !replace && let Some(old) = folder.load()? {
        return Err(IdentityError::AlreadyEnrolled { edge: old.edge.to_string(), organisation: old.organisation_name });
    }
    let key = folder.key_for(token)?;
    let csr = certificate_request(&key, name)?;
    let channel = connect(&token.hub, token.pin, None, now).await?;
    let request = EnrolRequest { token_secret: token.secret().to_owned(), csr: csr.into(), name: name.to_owned() };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, EdgeClient::new(channel).enrol(request))
        .await
        .map_err(|_| IdentityError::from_status(tonic::Status::unavailable("no answer within 30 seconds")))?
        .map_err(IdentityError::from_status)?
        .into_inner();
    let identity = believe(&answer, token, key)?;
    let keys = answer.keys.ok_or(IdentityError::Unbelievable("it holds no sealing keys"))?;
    KeySet::verify(&keys, &identity.organisation_key, identity.edge)?;
    folder.store(&identity, &keys)?;
    Ok(identity)
}

/// PKCS#10 (RFC 2986), DER, ECDSA P-256; the common name is what the installer called the box.
pub(super) fn certificate_request(key: &KeyPair, name: &str) -> Result<Vec<u8>, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(key).map_err(IdentityError::MakeKey)?;
    Ok(request.der().to_vec())
}

/// Everything in the answer must follow from the token: the organisation's key, the authority, and a
/// certificate of that authority for the key made here.
fn believe(answer: &EnrolResponse, token: &Token, key: KeyPair) -> Result<Identity, IdentityError> {
    let organisation_key = signed::verifying_key(&answer.organisation_key).map_err(IdentityError::OrganisationKey)?;
    if organisation_key != token.organisation_key {
        return Err(IdentityError::Unbelievable("the organisation's key is not the token's"));
    }
    if SpkiPin::of(&answer.authority) != Some(token.pin) {
        return Err(IdentityError::Unbelievable("the authority is not the token's"));
    }
    check_certificate(&answer.certificate, &answer.authority, &key)?;
    let unreadable = |what| move |_| IdentityError::Unbelievable(what);
    Ok(Identity {
        edge: EdgeId::try_from(&answer.edge_id).map_err(unreadable("the edge id is none"))?,
        organisation: OrganisationId::try_from(&answer.organisation_id)
            .map_err(unreadable("the organisation id is none"))?,
        organisation_name: answer.organisation_name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect(),
        organisation_key,
        hub: token.hub.clone(),
        certificate: CertificateDer::from(answer.certificate.to_vec()),
        authority: CertificateDer::from(answer.authority.to_vec()),
        key: Arc::new(key),
    })
}

/// The certificate is for `key` and signed by `authority`.
pub(super) fn check_certificate(certificate: &[u8], authority: &[u8], key: &KeyPair) -> Result<(), IdentityError> {
    let refuse = IdentityError::Unbelievable;
    let parse = |der| X509Certificate::from_der(der).map(|(_, parsed)| parsed);
    let authority = parse(authority).map_err(|_| refuse("the authority cannot be read"))?;
    let parsed = parse(certificate).map_err(|_| refuse("the certificate cannot be read"))?;
    if parsed.public_key().subject_public_key.data != key.public_key_raw() {
        return Err(refuse("the certificate is for another key"));
    }
    parsed
        .verify_signature(Some(authority.public_key()))
        .map_err(|_| refuse("the certificate is not signed by the authority"))
}
