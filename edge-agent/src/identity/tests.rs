//! Enrolment and renewal against a hub with real TLS.

use super::{Identity, IdentityError, IdentityFolder, Token, connect, enrol, renew};
use crate::clock::Reckoned;
use crate::fake_hub::FakeHub;
use crate::identity::token::tests::text as token_text;
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::WallTime;
use ed25519_dalek::SigningKey;
use std::os::unix::fs::PermissionsExt;

const NOW: Reckoned = Reckoned { at: WallTime(crate::specimen::NOON), vouched: true };

async fn enrolled(hub: &FakeHub, state: &std::path::Path) -> Result<Identity, IdentityError> {
    let folder = IdentityFolder::open(state).unwrap();
    enrol(&folder, &Token::parse(&hub.token()).unwrap(), "piazza", NOW, false).await
}

#[tokio::test]
async fn a_token_becomes_an_identity_that_survives_a_restart() {
    let hub = FakeHub::start().await;
    let state = tempfile::tempdir().unwrap();
    let made = enrolled(&hub, state.path()).await.unwrap();
    let folder = IdentityFolder::open(state.path()).unwrap();
    let read = folder.load().unwrap().unwrap();
    assert_eq!((read.edge, &read.certificate, read.hub.clone()), (hub.edge, &made.certificate, made.hub));
    assert_eq!(folder.load_keys(&read).unwrap().generation, 1);
    for (path, mode) in [(folder.file("key.pem"), 0o600), (state.path().join("identity"), 0o700)] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[tokio::test]
async fn a_wrong_or_used_token_is_refused_with_the_hubs_sentence() {
    let hub = FakeHub::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut stranger = hub.clone();
    stranger.secret = "00".repeat(32);
    let wrong = enrolled(&stranger, state.path()).await.unwrap_err();
    assert!(wrong.to_string().contains("not known here"), "{wrong}");
    assert_eq!((wrong.kind(), wrong.exit_code()), (Kind::Denied, 77));
    assert!(!Chain(&wrong).to_string().contains(&stranger.secret));
    enrolled(&hub, state.path()).await.unwrap();
    let again = enrolled(&hub, state.path()).await.unwrap_err();
    assert!(matches!(again, IdentityError::AlreadyEnrolled { .. }));
    let elsewhere = tempfile::tempdir().unwrap();
    let used = enrolled(&hub, elsewhere.path()).await.unwrap_err();
    assert!(used.to_string().contains("used already"), "{used}");
    assert!(IdentityFolder::open(elsewhere.path()).unwrap().load().unwrap().is_none());
}

#[tokio::test]
async fn an_answer_that_was_lost_does_not_strand_the_token() {
    let hub = FakeHub::start().await;
    hub.memory.lock().unwrap().loses_answers = 1;
    let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(enrolled(&hub, state.path()).await.unwrap_err().kind(), Kind::Unavailable);
    let keys = || {
        let entries = std::fs::read_dir(state.path().join("identity")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().ends_with(".pem")).collect::<Vec<_>>()
    };
    assert_eq!(keys().len(), 1, "{:?}", keys());
    assert_eq!(std::fs::metadata(&keys()[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!keys()[0].to_string_lossy().contains(&hub.secret[..16]), "the name tells nothing of the token");
    let used = enrolled(&hub, elsewhere.path()).await.unwrap_err();
    assert!(used.to_string().contains("used already"), "another box with the same token: {used}");
    let made = enrolled(&hub, state.path()).await.unwrap();
    enrol::check_certificate(&made.certificate, &made.authority, &made.key).unwrap();
    assert_eq!(keys(), [state.path().join("identity/key.pem")], "what was kept for the enrolment is gone");
}

#[tokio::test]
async fn every_token_is_spent_with_a_key_of_its_own() {
    let first = FakeHub::start().await;
    let second = FakeHub::start_with(|hub| hub.secret = "6f".repeat(32)).await;
    let state = tempfile::tempdir().unwrap();
    first.memory.lock().unwrap().loses_answers = 1;
    enrolled(&first, state.path()).await.unwrap_err();
    enrolled(&second, state.path()).await.unwrap();
    let key = |hub: &FakeHub| hub.memory.lock().unwrap().used_with.clone().unwrap();
    assert_ne!(key(&first), key(&second));
}

#[tokio::test]
async fn a_replaced_identity_is_whole_or_the_old_one_whenever_the_power_goes() {
    let (first, second) = (FakeHub::start().await, FakeHub::start().await);
    let state = tempfile::tempdir().unwrap();
    let old = enrolled(&first, state.path()).await.unwrap();
    let folder = IdentityFolder::open(state.path()).unwrap();
    std::fs::write(folder.file("cameras.json"), "{}").unwrap();
    let token = Token::parse(&second.token()).unwrap();
    enrol(&folder, &token, "piazza", NOW, true).await.unwrap();
    let fits = |folder: &IdentityFolder| {
        let identity = folder.load().unwrap().unwrap();
        enrol::check_certificate(&identity.certificate, &identity.authority, &identity.key).unwrap();
        identity.edge
    };
    assert_eq!(fits(&folder), second.edge);
    assert!(folder.file("cameras.json").exists(), "cameras keep their ids");
    // Between the two steps, and before them.
    let identity = state.path().join("identity");
    std::fs::rename(&identity, state.path().join("identity.old")).unwrap();
    assert_eq!(fits(&IdentityFolder::open(state.path()).unwrap()), second.edge);
    std::fs::create_dir(state.path().join("identity.new")).unwrap();
    std::fs::write(state.path().join("identity.new/key.pem"), "half").unwrap();
    let third = FakeHub::start().await;
    enrol(&folder, &Token::parse(&third.token()).unwrap(), "piazza", NOW, true).await.unwrap();
    assert_eq!(fits(&folder), third.edge);
    assert_ne!(old.edge, third.edge);
    assert!(!state.path().join("identity.new").exists() && !state.path().join("identity.old").exists());
}

#[tokio::test]
async fn a_hub_of_another_authority_never_sees_the_secret() {
    let (hub, other) = (FakeHub::start().await, FakeHub::start().await);
    let state = tempfile::tempdir().unwrap();
    let folder = IdentityFolder::open(state.path()).unwrap();
    let text = token_text(&other.address, &hub.pin, &hub.organisation_key, &other.secret);
    let error = enrol(&folder, &Token::parse(&text).unwrap(), "piazza", NOW, false).await.unwrap_err();
    assert!(matches!(error, IdentityError::NotOurHub { .. }), "{}", Chain(&error));
    assert_eq!(error.exit_code(), 77);
    assert!(other.memory.lock().unwrap().used_with.is_none());
}

#[tokio::test]
async fn an_organisation_that_is_not_the_tokens_is_not_believed() {
    let hub = FakeHub::start().await;
    let state = tempfile::tempdir().unwrap();
    let folder = IdentityFolder::open(state.path()).unwrap();
    let text = token_text(&hub.address, &hub.pin, &SigningKey::from_bytes(&[9; 32]), &hub.secret);
    let error = enrol(&folder, &Token::parse(&text).unwrap(), "piazza", NOW, false).await.unwrap_err();
    assert!(matches!(error, IdentityError::Unbelievable(_)), "{error}");
    assert!(folder.load().unwrap().is_none());
}

#[tokio::test]
async fn a_box_with_a_dead_clock_still_finds_and_believes_its_hub() {
    let hub = FakeHub::start().await;
    let state = tempfile::tempdir().unwrap();
    let identity = enrolled(&hub, state.path()).await.unwrap();
    let at = |at, vouched| {
        let now = Reckoned { at: WallTime(at), vouched };
        connect(&identity.hub, identity.pin().unwrap(), Some(&identity), now)
    };
    // rcgen's certificates begin in 1975 and end in the year 4096.
    let (dead, far_ahead) = (0, 70_000_000_000_000_000);
    assert!(at(dead, false).await.is_ok(), "a battery that died");
    assert!(at(far_ahead, false).await.is_ok(), "a clock that was set far ahead");
    assert!(at(far_ahead, true).await.is_err(), "an expired certificate, and somebody vouches for the time");
}

#[tokio::test]
async fn an_address_that_takes_connections_and_says_nothing_leaves_time_for_the_next() {
    let hub = FakeHub::start().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = vec![silent.local_addr().unwrap().to_string(), hub.address.clone()];
    let addresses = super::HubAddresses::parse(addresses).unwrap();
    let pin = super::SpkiPin::from_hex(&hub.pin).unwrap();
    connect(&addresses, pin, None, NOW).await.unwrap();
}

#[tokio::test]
async fn renewing_keeps_the_key_and_replaces_the_certificate() {
    let hub = FakeHub::start().await;
    let state = tempfile::tempdir().unwrap();
    let old = enrolled(&hub, state.path()).await.unwrap();
    let folder = IdentityFolder::open(state.path()).unwrap();
    let channel = connect(&old.hub, old.pin().unwrap(), Some(&old), NOW).await.unwrap();
    let renewed = renew(&folder, &old, channel).await.unwrap();
    assert_ne!(renewed.certificate, old.certificate);
    assert_eq!(folder.load().unwrap().unwrap().certificate, renewed.certificate);
    assert_eq!(hub.memory.lock().unwrap().renewals, 1);
}

#[test]
fn the_boxs_signature_is_checked_with_its_certificate() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = tempfile::tempdir().unwrap();
    let identity = runtime.block_on(async { enrolled(&FakeHub::start().await, state.path()).await.unwrap() });
    let signature = identity.signer()(b"a footer");
    let certificate = rustls_pki_types::CertificateDer::from(identity.certificate.to_vec());
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let p256 = algorithms.mapping.iter().find(|(s, _)| *s == rustls::SignatureScheme::ECDSA_NISTP256_SHA256).unwrap();
    let verified = p256.1.iter().any(|algorithm| {
        algorithm.verify_signature(&parsed.public_key().subject_public_key.data, b"a footer", &signature).is_ok()
    });
    assert!(verified);
}
