//! From first contact to revocation.

use super::town::*;
use crate::federation::agreement::{Problem, check, read as read_agreement};
use crate::federation::store::Store;
use crate::federation::*;
use campanile_proto::federation::v1::{Agreement, Purpose, Right};
use campanile_proto::signed;
use campanile_proto::time::MICROS_PER_HOUR;

fn draft(prato: &Town, firenze: &Town) -> AgreementDraft {
    AgreementDraft { title: "Intesa".into(), partner: firenze.id(), grants: firenze.grants(prato), valid_days: 30 }
}

#[tokio::test]
async fn a_partner_is_pinned_only_with_the_fingerprint_people_compared() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let wrong = prato.federation.add_partner(&firenze.address, &"0123 ".repeat(8)).await;
    assert!(matches!(wrong, Err(FederationError::Fingerprint { .. })));
    let itself = prato.federation.add_partner(&prato.address, "").await;
    assert!(matches!(itself, Err(FederationError::Ourselves(_))));
    assert!(matches!(prato.federation.add_partner("no address", "").await, Err(FederationError::Address(_))));
    assert!(prato.federation.partners().is_empty());
    prato.meet(&firenze).await;
    assert_eq!(prato.federation.partners()[0].name, "Comune 2");
}

#[tokio::test]
async fn an_agreement_lives_when_both_have_signed() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.meet(&firenze).await;
    let id = prato.federation.propose(draft(&prato, &firenze)).await.unwrap();
    assert_eq!((prato.state(id), firenze.state(id)), (State::Proposed, State::AwaitingUs));
    firenze.federation.sign(id, Vec::new()).await.unwrap();
    assert_eq!((prato.state(id), firenze.state(id)), (State::Live, State::Live));
    firenze.federation.sign(id, Vec::new()).await.unwrap();
    prato.clock.advance_micros(30 * 24 * MICROS_PER_HOUR);
    assert_eq!(prato.state(id), State::Expired);
}

/// Prato proposes both ways without knowing Firenze's cameras.
async fn proposed_with_blanks(prato: &Town, firenze: &Town) -> AgreementId {
    prato.meet(firenze).await;
    let mutual = Mutual {
        us: prato.id(),
        partner: firenze.id(),
        title: "Intesa".into(),
        rights: vec![Right::Search, Right::Playback],
        purposes: vec![Purpose::UrbanSecurity],
        roles: Vec::new(),
        lookback_hours: 0,
        our_cameras: vec![camera(1, 1)],
        valid_days: 30,
    };
    prato.federation.propose(AgreementDraft::mutual(mutual)).await.unwrap()
}

#[tokio::test]
async fn the_partner_fills_in_its_own_cameras_when_it_signs() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = proposed_with_blanks(&prato, &firenze).await;
    assert!(matches!(firenze.federation.sign(id, Vec::new()).await, Err(FederationError::Agreement(Problem::Blank))));
    firenze.federation.sign(id, vec![camera(2, 1), camera(2, 2)]).await.unwrap();
    eventually("both hold it signed by both", || async {
        (prato.state(id) == State::Live && firenze.state(id) == State::Live).then_some(())
    })
    .await;
    let cameras: Vec<_> = prato.federation.granted_cameras().into_iter().map(|granted| granted.camera).collect();
    assert_eq!(cameras, [camera(2, 1), camera(2, 2)]);
    let theirs: Vec<_> = firenze.federation.granted_cameras().into_iter().map(|granted| granted.camera).collect();
    assert_eq!(theirs, [camera(1, 1)]);
}

#[tokio::test]
async fn what_the_partner_changes_beyond_its_own_cameras_is_not_countersigned() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = proposed_with_blanks(&prato, &firenze).await;
    let proposal = prato.federation.agreements()[0].agreement.clone();
    let filled = agreement::fill_in(&proposal, firenze.id(), &[camera(2, 1)]);
    let changes: [fn(&mut Agreement); 4] = [
        |a| a.grants[0].camera_ids.push(camera(1, 2).into()),
        |a| a.grants[3].lookback_hours = 1,
        |a| a.valid_until_us += 1,
        |a| a.grants.push(a.grants[0].clone()),
    ];
    let from = prato.federation.partners().remove(0);
    for change in changes {
        let mut changed = filled.clone();
        change(&mut changed);
        let envelope = signed::envelope(&changed, firenze.id(), &firenze.federation.0.identity.long_term);
        assert!(prato.federation.concluded(&from, envelope).await.is_err());
        assert_eq!(prato.state(id), State::Proposed);
    }
    let envelope = signed::envelope(&filled, firenze.id(), &firenze.federation.0.identity.long_term);
    prato.federation.concluded(&from, envelope).await.unwrap();
    assert_eq!(prato.state(id), State::Live, "the positive control");
}

#[tokio::test]
async fn what_a_silent_partner_was_not_told_it_is_told_later() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.meet(&firenze).await;
    let strangers_to_firenze = Town::start(3).await;
    let fingerprint = signed::fingerprint(&prato.federation.0.identity.long_term.verifying_key());
    strangers_to_firenze.federation.add_partner(&prato.address, &fingerprint).await.unwrap();
    // Prato does not know the third town: its proposal is refused without a word, and stays to be told.
    let mut to_prato = draft(&strangers_to_firenze, &prato);
    to_prato.grants = prato.grants(&strangers_to_firenze);
    let id = strangers_to_firenze.federation.propose(to_prato).await.unwrap();
    assert!(prato.federation.agreements().is_empty());
    let fingerprint = signed::fingerprint(&strangers_to_firenze.federation.0.identity.long_term.verifying_key());
    prato.federation.add_partner(&strangers_to_firenze.address, &fingerprint).await.unwrap();
    strangers_to_firenze.federation.tell_untold().await;
    assert_eq!(prato.state(id), State::AwaitingUs);
}

#[tokio::test]
async fn any_party_revokes_alone_and_at_once() {
    for by_owner in [true, false] {
        let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
        let id = prato.agree_with(&firenze).await;
        let revoking = if by_owner { &firenze } else { &prato };
        revoking.federation.revoke(id, "fine dell'intesa").await.unwrap();
        assert_eq!((prato.state(id), firenze.state(id)), (State::Revoked, State::Revoked));
        assert!(matches!(prato.federation.sign(id, Vec::new()).await, Err(FederationError::Revoked(_))));
    }
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let live = prato.agree_with(&firenze).await;
    let gone = prato.federation.propose(draft(&prato, &firenze)).await.unwrap();
    prato.federation.revoke(gone, "").await.unwrap();
    let everything = prato.federation.0.store.everything().await.unwrap();
    let again = Directory::read(everything, prato.id()).unwrap();
    assert_eq!(again.partners.len(), 1);
    assert_eq!(again.agreements[&live].state(prato.id(), NOW), State::Live);
    assert_eq!(again.agreements[&gone].state(prato.id(), NOW), State::Revoked);
    assert_eq!(again.standing().len(), 1, "only what everybody signed can stand");
}

#[tokio::test]
async fn other_bytes_under_the_same_id_are_refused() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let mut wider: Agreement = prato.federation.agreements()[0].agreement.clone();
    wider.grants[0].camera_ids.push(camera(2, 3).into());
    let envelope = signed::envelope(&wider, prato.id(), &prato.federation.0.identity.long_term);
    let from = firenze.federation.partners().remove(0);
    let refusal = firenze.federation.proposed(&from, envelope).await.unwrap_err();
    assert_eq!(refusal.code, "MALFORMED");
    let held = firenze.federation.agreements().into_iter().find(|row| row.id == id).unwrap();
    assert_eq!(held.agreement.grants[0].camera_ids.len(), 2);
}

#[tokio::test]
async fn an_agreement_with_anything_unknown_is_refused_as_too_new() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.meet(&firenze).await;
    let good =
        agreement::draw_up(&draft(&prato, &firenze), vec![prato.federation.card(), firenze.federation.card()], NOW);
    assert_eq!(check(&good), Ok(()));
    let changed = |change: fn(&mut Agreement)| {
        let mut agreement = good.clone();
        change(&mut agreement);
        check(&agreement)
    };
    for too_new in [
        changed(|a| a.schema = 2),
        changed(|a| a.grants[0].right = 77),
        changed(|a| a.grants[0].right = Right::Unspecified.into()),
        changed(|a| a.grants[0].purposes = vec![1, 99]),
        changed(|a| a.grants[0].purposes = vec![0]),
    ] {
        assert!(matches!(too_new, Err(Problem::SchemaTooOld(_))), "{too_new:?}");
    }
    for malformed in [
        changed(|a| a.title.clear()),
        changed(|a| a.parties.truncate(1)),
        changed(|a| a.parties.push(a.parties[0].clone())),
        changed(|a| a.grants.clear()),
        changed(|a| a.grants[0].owner_id = a.grants[0].beneficiary_id.clone()),
        changed(|a| a.grants[0].lookback_hours = 169),
        changed(|a| a.grants[0].roles = vec!["a\nb".into()]),
        changed(|a| a.valid_until_us = a.valid_from_us),
        changed(|a| (a.valid_from_us, a.valid_until_us) = (i64::MIN, i64::MAX)),
    ] {
        assert!(matches!(malformed, Err(Problem::Malformed { .. })), "{malformed:?}");
    }
    let mut envelope = signed::envelope(&good, prato.id(), &prato.federation.0.identity.long_term);
    envelope.payload = [envelope.payload.as_ref(), &[0xa0, 0x06, 0x01]].concat().into();
    assert!(matches!(read_agreement(&envelope), Err(Problem::SchemaTooOld(_))));
    signed::countersign(&mut envelope, prato.id(), &prato.federation.0.identity.long_term);
    let from = firenze.federation.partners().remove(0);
    assert_eq!(firenze.federation.proposed(&from, envelope).await.unwrap_err().code, "SCHEMA_TOO_OLD");
}

#[tokio::test]
async fn a_register_that_forks_gets_no_second_signature() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let partner = prato.federation.partners().remove(0);
    let checkpoint = prato.register.checkpoint().await.unwrap();
    let owner: Arc<dyn Owner> = prato.holdings.clone();
    prato.federation.be_witnessed(&owner, &partner, checkpoint.clone()).await.unwrap();
    let kept = prato.federation.0.store.checkpoint(firenze.id(), true).await.unwrap().unwrap();
    assert_eq!(kept.signatures.len(), 2);

    let mut forked: campanile_proto::types::v1::Checkpoint = signed::open_strictly(&checkpoint).unwrap();
    forked.root_hash = vec![9; 32].into();
    let forked = signed::envelope(&forked, prato.id(), &prato.federation.0.identity.register);
    assert!(prato.federation.be_witnessed(&owner, &partner, forked).await.is_err());
}

#[tokio::test]
async fn a_register_that_was_rewritten_is_not_witnessed_and_one_that_grew_is() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let agreement = prato.agree_with(&firenze).await;
    let partner = prato.federation.partner(firenze.id()).unwrap();
    let owner: Arc<dyn Owner> = prato.holdings.clone();
    let key = &prato.federation.0.identity.register;
    let at_firenze = async || {
        let held = firenze.federation.0.store.checkpoint(prato.id(), false).await.unwrap().unwrap();
        signed::open_strictly::<campanile_proto::types::v1::Checkpoint>(&held).unwrap()
    };
    let grow = async || {
        for _ in 0..3 {
            prato.holdings.note_refused(campanile_proto::types::v1::Act::Search, "x".into(), "TEST".into()).await;
        }
        prato.register.checkpoint().await.unwrap()
    };
    let first = grow().await;
    prato.federation.be_witnessed(&owner, &partner, first.clone()).await.unwrap();
    let second = grow().await;
    prato.federation.be_witnessed(&owner, &partner, second.clone()).await.unwrap();
    let size = at_firenze().await.tree_size;
    assert!(size > 6, "the control: what grew is signed");

    // The requester has forgotten the later signature and learns of it with the answer.
    let store = &prato.federation.0.store;
    store.put_checkpoint(firenze.id(), true, u64::MAX >> 1, &first).await.unwrap();
    let third = grow().await;
    prato.federation.be_witnessed(&owner, &partner, third).await.unwrap();
    assert!(at_firenze().await.tree_size > size);
    assert_eq!(prato.state(agreement), State::Live);

    let mut rewritten = at_firenze().await;
    (rewritten.tree_size, rewritten.root_hash) = (rewritten.tree_size + 5, vec![9; 32].into());
    let rewritten = signed::envelope(&rewritten, prato.id(), key);
    let held = at_firenze().await;
    assert!(prato.federation.be_witnessed(&owner, &partner, rewritten).await.is_err());
    assert_eq!(at_firenze().await, held, "it was not signed");
}

#[tokio::test]
async fn a_register_behind_what_partners_witnessed_suspends_every_agreement() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let agreement = prato.agree_with(&firenze).await;
    let partner = prato.federation.partner(firenze.id()).unwrap();
    let owner: Arc<dyn Owner> = prato.holdings.clone();
    prato.holdings.note_refused(campanile_proto::types::v1::Act::Search, "x".into(), "TEST".into()).await;
    let checkpoint = prato.register.checkpoint().await.unwrap();
    prato.federation.be_witnessed(&owner, &partner, checkpoint.clone()).await.unwrap();
    prato.federation.check_witnessed(&owner).await;
    assert_eq!(prato.state(agreement), State::Live, "the control");

    // As if the register had been restored from before what firenze signed.
    let mut ahead: campanile_proto::types::v1::Checkpoint = signed::open_strictly(&checkpoint).unwrap();
    (ahead.tree_size, ahead.root_hash) = (ahead.tree_size + 100, vec![9; 32].into());
    let mut ahead = signed::envelope(&ahead, prato.id(), &prato.federation.0.identity.register);
    signed::countersign(&mut ahead, firenze.id(), &firenze.federation.0.identity.register);
    firenze.federation.0.store.put_checkpoint(prato.id(), false, 1_000, &ahead).await.unwrap();
    assert!(prato.federation.be_witnessed(&owner, &partner, checkpoint).await.is_err());
    assert_eq!(prato.state(agreement), State::Suspended);
    assert_eq!(prato.federation.open_playback(playback(&firenze, 1, 10)).await.err().unwrap().code(), "SUSPENDED");
    prato.federation.confirm(agreement).await.unwrap();
    assert_eq!(prato.state(agreement), State::Live);
}

#[tokio::test]
async fn an_older_mandate_takes_no_newer_ones_place() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.meet(&firenze).await;
    // What prato holds is newer than what is answered at firenze's address: an old hub, or a replay.
    let mut held = prato.federation.partner(firenze.id()).unwrap();
    held.mandate.sequence = 7;
    prato.federation.0.directory.write().unwrap().partners.insert(firenze.id(), held.clone());
    let fingerprint = signed::fingerprint(&firenze.federation.0.identity.long_term.verifying_key());
    let older = prato.federation.add_partner(&firenze.address, &fingerprint).await.unwrap_err();
    assert!(matches!(older, FederationError::Mandate(mandate::MandateProblem::Older { held: 7, found: 1 })), "{older}");
    prato.federation.refresh(&held).await.unwrap();
    assert_eq!(prato.federation.partner(firenze.id()).unwrap().mandate.sequence, 7);
    held.mandate.sequence = 1;
    prato.federation.0.directory.write().unwrap().partners.insert(firenze.id(), held);
    assert!(prato.federation.add_partner(&firenze.address, &fingerprint).await.is_ok(), "the control");
}

#[tokio::test]
async fn a_proposal_sent_again_while_it_is_signed_takes_no_signature_away() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.meet(&firenze).await;
    for _ in 0..20 {
        let id = prato.federation.propose(draft(&prato, &firenze)).await.unwrap();
        let proposal = prato.federation.held(id).unwrap().envelope;
        let from = firenze.federation.partner(prato.id()).unwrap();
        let again = || firenze.federation.proposed(&from, proposal.clone());
        let (signed, ..) = tokio::join!(firenze.federation.signed(id, &[]), again(), again(), again(), again());
        assert!(signed.unwrap());
        assert_eq!(firenze.state(id), State::Live);
    }
}

#[tokio::test]
async fn a_proposal_that_was_never_signed_here_is_forgotten_when_it_is_withdrawn() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.meet(&firenze).await;
    for _ in 0..3 {
        let id = prato.federation.propose(draft(&prato, &firenze)).await.unwrap();
        assert_eq!(firenze.state(id), State::AwaitingUs);
        prato.federation.revoke(id, "no").await.unwrap();
        assert!(firenze.federation.agreements().is_empty());
    }
    assert!(firenze.federation.0.store.everything().await.unwrap().agreements.is_empty());
}

#[tokio::test]
async fn the_store_notes_a_request_once_and_forgets_it_when_it_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("f.sqlite"), marker_path(folder.path())).await.unwrap();
    let (partner, request) = (OrganisationId::from_u128(1), behalf().request_id);
    let until = NOW.plus_micros(10);
    assert!(store.first_seen(partner, request, until, NOW).await.unwrap());
    assert!(!store.first_seen(partner, request, until, NOW).await.unwrap());
    assert!(store.first_seen(OrganisationId::from_u128(2), request, until, NOW).await.unwrap());
    assert!(store.first_seen(partner, request, until, NOW.plus_micros(11)).await.unwrap());
}

/// Files of a federation as they lie on the disk.
fn copy_database(from: &std::path::Path, to: &std::path::Path) {
    for name in ["federation.sqlite", "federation.sqlite-wal"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// Opens what lies in `folder` as town 1; also what its door is told.
async fn opened(folder: &std::path::Path) -> (Federation, Arc<std::sync::Mutex<Vec<LiveAgreement>>>) {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let published = told.clone();
    let federation = Federation::open(Parts {
        path: folder.join("federation.sqlite"),
        marker: marker_path(folder),
        clock: Arc::new(campanile_proto::time::SimClock::starting_at(NOW)),
        identity: Arc::new(super::identity(1)),
        tls_authority: [0; 32],
        endpoints: vec!["127.0.0.1:1".into()],
        contacts: Vec::new(),
        publish: Box::new(move |agreements| *published.lock().unwrap() = agreements),
    });
    (federation.await.unwrap(), told)
}

#[tokio::test]
async fn a_restored_database_suspends_every_agreement_and_revives_none_that_was_revoked() {
    let (prato, firenze, siena) = (Town::start(1).await, Town::start(2).await, Town::start(3).await);
    let kept = prato.agree_with(&firenze).await;
    let ended = prato.agree_with(&siena).await;
    let backup = tempfile::tempdir().unwrap();
    copy_database(prato.folder.path(), backup.path());
    prato.federation.revoke(ended, "basta").await.unwrap();

    let now = tempfile::tempdir().unwrap();
    let keep_marker = |to: &std::path::Path| {
        std::fs::create_dir_all(to.join("keys")).unwrap();
        std::fs::copy(marker_path(prato.folder.path()), marker_path(to)).unwrap();
    };
    copy_database(prato.folder.path(), now.path());
    keep_marker(now.path());
    let state = |federation: &Federation, id| federation.agreements().iter().find(|row| row.id == id).unwrap().state;
    let (federation, _) = opened(now.path()).await;
    let states = (state(&federation, kept), state(&federation, ended));
    assert_eq!(states, (State::Live, State::Revoked), "the control: nothing was restored");

    keep_marker(backup.path());
    let (federation, told) = opened(backup.path()).await;
    assert_eq!((state(&federation, kept), state(&federation, ended)), (State::Suspended, State::Revoked));
    assert!(told.lock().unwrap().iter().all(|live| live.suspended || live.revoked_at.is_some()));
    assert!(matches!(federation.confirm(ended).await, Err(FederationError::Revoked(_))));
    federation.confirm(kept).await.unwrap();
    assert_eq!(state(&federation, kept), State::Live);
    assert!(told.lock().unwrap().iter().any(|live| live.id == kept && !live.suspended));
    drop(federation);
    let (federation, _) = opened(backup.path()).await;
    let states = (state(&federation, kept), state(&federation, ended));
    assert_eq!(states, (State::Live, State::Revoked), "a confirmation is for good");
}

#[tokio::test]
async fn a_database_from_before_the_marker_is_read_as_it_is() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let old = tempfile::tempdir().unwrap();
    copy_database(prato.folder.path(), old.path());
    let file = rusqlite::Connection::open(old.path().join("federation.sqlite")).unwrap();
    file.execute_batch("DROP TABLE changes").unwrap();
    drop(file);
    let (federation, _) = opened(old.path()).await;
    assert_eq!(federation.agreements()[0].state, State::Live);
    federation.revoke(id, "basta").await.unwrap();
    assert!(std::fs::read_to_string(marker_path(old.path())).unwrap().contains(&format!("revoked {id}")));
}

#[tokio::test]
async fn a_removed_marker_suspends_every_agreement() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let copy = tempfile::tempdir().unwrap();
    copy_database(prato.folder.path(), copy.path());
    let (federation, _) = opened(copy.path()).await;
    assert_eq!(federation.agreements()[0].state, State::Suspended);
    federation.confirm(id).await.unwrap();
    drop(federation);
    let (federation, _) = opened(copy.path()).await;
    assert_eq!(federation.agreements()[0].state, State::Live, "a confirmation is for good");
}

#[tokio::test]
async fn a_suspension_that_arrives_while_an_agreement_is_written_stands() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let read_before = prato.federation.held(id).unwrap();
    prato.federation.hold(read_before.clone(), Vec::new()).await.unwrap();
    assert_eq!(prato.state(id), State::Live, "the control");
    prato.federation.suspend_all().await.unwrap();
    prato.federation.hold(read_before, Vec::new()).await.unwrap();
    assert_eq!(prato.state(id), State::Suspended);
}
