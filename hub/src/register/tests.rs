//! What the register promises: nothing acknowledged is lost, changed or thinned without being noticed.

use super::*;
use campanile_proto::federation::v1::Purpose;
use campanile_proto::ids::RequestId;
use campanile_proto::time::{MICROS_PER_HOUR, SimClock, WallTime};
use campanile_proto::types::v1::{Act, Phase};
use prost::Message;
use rusqlite::Connection;

const US: OrganisationId = OrganisationId::from_u128(1);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn open(folder: &Path) -> Result<Register, RegisterError> {
    let clock = Arc::new(SimClock::starting_at(WallTime(1_800_000_000_000_000)));
    Register::open(&folder.join("register.sqlite"), US, key(), clock)
}

fn draft(phase: Phase, request: u128) -> LeafDraft {
    let mut draft = LeafDraft::new(Act::Search, phase, RequestId::from_u128(request));
    draft.operator = format!("anna {request}");
    draft.purpose = Some(Purpose::UrbanSecurity);
    draft.case_number = Some("2026/17".into());
    draft.clause = "3.1".into();
    draft
}

/// The files as they lie on the disk at this moment, elsewhere: what a power cut leaves.
fn as_it_lies(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["register.sqlite", "register.sqlite-wal"] {
        if folder.join(name).exists() {
            std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
    }
    copy
}

async fn phases(register: &Register) -> Vec<(Phase, u128)> {
    let page = register.page(0, 1_000).await.unwrap();
    let id = |bytes: &bytes::Bytes| RequestId::try_from(bytes).unwrap();
    page.iter().map(|e| (e.leaf.phase(), u128::from_be_bytes(*id(&e.leaf.request_id).as_bytes()))).collect()
}

#[tokio::test]
async fn what_a_crash_left_open_is_interrupted_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let register = open(folder.path()).unwrap();
    for (phase, request) in
        [(Phase::Opened, 1), (Phase::Opened, 2), (Phase::Closed, 1), (Phase::Refused, 3), (Phase::Done, 4)]
    {
        register.append(draft(phase, request)).await.unwrap();
    }
    let mut crashed = as_it_lies(folder.path());
    for start in 1..=3 {
        let again = open(crashed.path()).unwrap();
        let all = phases(&again).await;
        assert_eq!(all.len(), 6, "start {start}: {all:?}");
        assert_eq!(all[5], (Phase::Interrupted, 2));
        let last = again.page(5, 1).await.unwrap().remove(0);
        assert_eq!((last.leaf.reason.as_str(), last.leaf.clause.as_str()), ("PROCESS_ENDED", "3.1"));
        assert_eq!(again.verify().await.unwrap().root.size, 6);
        crashed = as_it_lies(crashed.path());
    }
}

#[tokio::test]
async fn every_leaf_and_every_growth_is_proved_and_wrong_proofs_fail() {
    const SIZES: u64 = 64;
    let folder = tempfile::tempdir().unwrap();
    let register = open(folder.path()).unwrap();
    let mut roots = vec![register.root().await.unwrap()];
    for request in 0..SIZES {
        register.append(draft(Phase::Done, request.into())).await.unwrap();
        roots.push(register.root().await.unwrap());
    }
    let page = register.page(0, 1_000).await.unwrap();
    let leaves: Vec<Vec<u8>> = page.iter().map(|entry| entry.leaf.encode_to_vec()).collect();
    for size in 1..=SIZES {
        let root = &roots[size as usize];
        for sequence in 0..size {
            let proof = register.inclusion(sequence, size).await.unwrap();
            let leaf = &leaves[sequence as usize];
            assert!(verify_inclusion(root, sequence, leaf, &proof), "{sequence} of {size}");
            assert!(!verify_inclusion(root, (sequence + 1) % size.max(2), leaf, &proof) || size == 1);
            assert!(!verify_inclusion(root, sequence, &leaf[1..], &proof));
            assert!(!verify_inclusion(&roots[size as usize - 1], sequence, leaf, &proof));
            if !proof.is_empty() {
                let mut wrong = proof.clone();
                wrong[0][0] ^= 1;
                assert!(!verify_inclusion(root, sequence, leaf, &wrong));
                assert!(!verify_inclusion(root, sequence, leaf, &proof[1..]));
            }
        }
        for old in 1..=size {
            let proof = register.consistency(old, size).await.unwrap();
            let before = &roots[old as usize];
            assert!(verify_consistency(before, root, &proof), "{old} to {size}");
            let forked = Root { hash: [9; 32], ..*before };
            assert!(!verify_consistency(&forked, root, &proof), "{old} to {size}");
            if old < size {
                assert!(!verify_consistency(&roots[old as usize + 1], root, &proof) || proof.is_empty());
                let mut wrong = proof.clone();
                wrong[0][31] ^= 1;
                assert!(!verify_consistency(before, root, &wrong));
            }
        }
    }
    for (sequence, size) in [(0, 0), (3, 3), (0, SIZES + 1), (SIZES, SIZES)] {
        assert!(matches!(register.inclusion(sequence, size).await, Err(RegisterError::OutOfRange(_))));
    }
    for (old, new) in [(0, 1), (2, 1), (1, SIZES + 1)] {
        assert!(matches!(register.consistency(old, new).await, Err(RegisterError::OutOfRange(_))));
    }
}

/// A register of five entries with a checkpoint, changed by somebody who owns the file.
async fn tampered(sql: &str) -> (tempfile::TempDir, Result<Verified, RegisterError>) {
    let folder = tempfile::tempdir().unwrap();
    let register = open(folder.path()).unwrap();
    for request in 0..5 {
        register.append(draft(Phase::Done, request)).await.unwrap();
    }
    register.checkpoint().await.unwrap();
    Connection::open(folder.path().join("register.sqlite")).unwrap().execute_batch(sql).unwrap();
    let verified = register.verify().await;
    (as_it_lies(folder.path()), verified)
}

const WITHOUT_TRIGGERS: &str = "DROP TRIGGER leaf_stays; DROP TRIGGER leaf_is_final; DROP TRIGGER leaf_follows;
     DROP TRIGGER checkpoint_stays; DROP TRIGGER checkpoint_is_final; PRAGMA foreign_keys = OFF;";

fn is_tampered<T>(outcome: &Result<T, RegisterError>) -> bool {
    matches!(outcome, Err(RegisterError::Tampered(_)))
}

#[tokio::test]
async fn what_was_altered_or_deleted_is_noticed_while_running_and_at_the_next_start() {
    for sql in [
        "UPDATE leaf SET leaf = (SELECT leaf FROM leaf WHERE sequence = 1) WHERE sequence = 2",
        "UPDATE leaf SET leaf = CAST(leaf || x'a00601' AS BLOB) WHERE sequence = 2",
        "DELETE FROM leaf WHERE sequence = 2",
        "DELETE FROM leaf WHERE sequence = 4",
        "DELETE FROM leaf",
        "UPDATE checkpoint SET envelope = x'00'",
        "UPDATE checkpoint SET envelope = CAST(substr(envelope, 1, length(envelope) - 1) || x'00' AS BLOB)",
    ] {
        let (copy, verified) = tampered(&format!("{WITHOUT_TRIGGERS} {sql}")).await;
        assert!(is_tampered(&verified), "{sql}: {verified:?}");
        assert!(is_tampered(&open(copy.path()).map(drop)), "{sql}");
    }
    let (copy, verified) = tampered(WITHOUT_TRIGGERS).await;
    assert_eq!(verified.unwrap().root.size, 5, "the control");
    assert!(open(copy.path()).is_ok(), "the control");
}

#[tokio::test]
async fn a_personal_value_may_be_removed_and_not_altered() {
    let (_, verified) = tampered("UPDATE personal SET value = 'bruno' WHERE sequence = 2 AND field = 'operator'").await;
    assert!(is_tampered(&verified));
    let (_, verified) = tampered("UPDATE personal SET salt = x'00' WHERE sequence = 2 AND field = 'case'").await;
    assert!(is_tampered(&verified));
    let (copy, verified) = tampered("DELETE FROM personal WHERE sequence = 2").await;
    assert_eq!(verified.unwrap().personal, 12);
    let register = open(copy.path()).unwrap();
    let page = register.page(0, 10).await.unwrap();
    assert_eq!((page[2].operator.clone(), page[1].operator.as_deref()), (None, Some("anna 1")));
}

#[tokio::test]
async fn the_file_itself_refuses_to_be_thinned_changed_or_forked() {
    let folder = tempfile::tempdir().unwrap();
    let register = open(folder.path()).unwrap();
    register.append(draft(Phase::Done, 1)).await.unwrap();
    register.checkpoint().await.unwrap();
    let connection = Connection::open(folder.path().join("register.sqlite")).unwrap();
    for sql in [
        "DELETE FROM leaf",
        "UPDATE leaf SET phase = 1",
        "INSERT INTO leaf (sequence, request_id, phase, leaf) VALUES (5, x'00', 1, x'00')",
        "INSERT OR REPLACE INTO leaf (sequence, request_id, phase, leaf) VALUES (0, x'00', 1, x'00')",
        "DELETE FROM checkpoint",
        "UPDATE checkpoint SET envelope = x'00'",
    ] {
        assert!(connection.execute_batch(sql).is_err(), "{sql}");
    }
    assert_eq!(register.verify().await.unwrap().root.size, 1);
}

#[tokio::test]
async fn no_personal_value_stands_in_a_leaf() {
    let folder = tempfile::tempdir().unwrap();
    let register = open(folder.path()).unwrap();
    register.append(draft(Phase::Opened, 1)).await.unwrap();
    let entry = register.page(0, 1).await.unwrap().remove(0);
    assert_eq!((entry.operator.as_deref(), entry.case_number.as_deref()), (Some("anna 1"), Some("2026/17")));
    let leaf = entry.leaf.encode_to_vec();
    let holds = |text: &str| leaf.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("3.1"), "the control: what is public is found");
    assert!(!holds("anna 1") && !holds("2026/17") && !holds("URBAN"));
}

#[tokio::test]
async fn who_and_why_are_forgotten_after_their_term_and_the_tree_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(WallTime(1_800_000_000_000_000)));
    let path = folder.path().join("register.sqlite");
    let register = Register::open(&path, US, key(), clock.clone()).unwrap();
    let holds = |name: &str| {
        let files = ["register.sqlite", "register.sqlite-wal"].map(|file| std::fs::read(folder.path().join(file)));
        let bytes: Vec<u8> = files.into_iter().flatten().flatten().collect();
        bytes.windows(name.len()).any(|window| window == name.as_bytes())
    };
    for request in 1_000..1_700 {
        register.append(draft(Phase::Done, request)).await.unwrap();
    }
    clock.advance_micros(MICROS_PER_HOUR);
    register.append(draft(Phase::Done, 2_000)).await.unwrap();
    assert!(holds("anna 1000") && holds("anna 1699"), "the control: they are on the disk");
    let first = WallTime(1_800_000_000_000_000);
    assert_eq!(register.forget_personal(first).await.unwrap(), 0, "nothing is older");
    assert_eq!(register.forget_personal(first.plus_micros(1)).await.unwrap(), 3 * 700);
    assert!(!holds("anna 1000") && !holds("anna 1699") && holds("anna 2000"));
    let verified = register.verify().await.unwrap();
    assert_eq!((verified.root.size, verified.personal), (701, 3));
    let page = register.page(699, 2).await.unwrap();
    assert_eq!((page[0].operator.as_deref(), page[1].operator.as_deref()), (None, Some("anna 2000")));
}

#[tokio::test]
async fn an_entry_dated_in_the_future_holds_back_no_forgetting() {
    let folder = tempfile::tempdir().unwrap();
    let start = WallTime(1_800_000_000_000_000);
    let clock = Arc::new(SimClock::starting_at(start.plus_micros(365 * 24 * MICROS_PER_HOUR)));
    let path = folder.path().join("register.sqlite");
    // The clock was a year ahead for 600 entries, and then set right.
    let register = Register::open(&path, US, key(), clock).unwrap();
    for request in 0..600 {
        register.append(draft(Phase::Done, request)).await.unwrap();
    }
    drop(register);
    let clock = Arc::new(SimClock::starting_at(start));
    let register = Register::open(&path, US, key(), clock.clone()).unwrap();
    assert_eq!(register.forget_personal(start).await.unwrap(), 0, "nothing proves their age yet");
    register.append(draft(Phase::Done, 1_000)).await.unwrap();
    clock.advance_micros(MICROS_PER_HOUR);
    register.append(draft(Phase::Done, 1_001)).await.unwrap();
    assert_eq!(register.forget_personal(start.plus_micros(1)).await.unwrap(), 3 * 601);
    let page = register.page(600, 2).await.unwrap();
    assert_eq!((page[0].operator.as_deref(), page[1].operator.as_deref()), (None, Some("anna 1001")));
}

#[tokio::test]
async fn what_a_reader_kept_in_the_write_ahead_log_is_swept_once_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(WallTime(1_800_000_000_000_000)));
    let path = folder.path().join("register.sqlite");
    let register = Register::open(&path, US, key(), clock.clone()).unwrap();
    register.append(draft(Phase::Done, 1_000)).await.unwrap();
    let holds = || {
        let files = ["register.sqlite", "register.sqlite-wal"].map(|file| std::fs::read(folder.path().join(file)));
        let bytes: Vec<u8> = files.into_iter().flatten().flatten().collect();
        bytes.windows(9).any(|window| window == b"anna 1000")
    };
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM leaf").unwrap();
    assert!(reader.query_row("SELECT count(*) FROM leaf", [], |row| row.get::<_, i64>(0)).unwrap() > 0);
    register.forget_personal(WallTime(1_800_000_000_000_001)).await.unwrap();
    assert!(holds(), "the control: a reader keeps it");
    drop(reader);
    register.append(draft(Phase::Done, 2)).await.unwrap();
    // Answered after the sweep that follows the entry.
    register.root().await.unwrap();
    assert!(!holds());
}

#[tokio::test]
async fn a_clock_that_is_not_to_go_by_makes_nobody_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(WallTime(1_800_000_000_000_000)));
    let register = Register::open(&folder.path().join("register.sqlite"), US, key(), clock.clone()).unwrap();
    register.append(draft(Phase::Done, 1)).await.unwrap();
    clock.advance_micros(25 * MICROS_PER_HOUR);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for trusted in [false, true] {
        let (stop, asked) = (CancellationToken::new(), asked.clone());
        let before = asked.load(std::sync::atomic::Ordering::SeqCst);
        let looked = asked.clone();
        let is_trusted = move || {
            looked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            trusted
        };
        let running = tokio::spawn(register.clone().run(1, clock.clone(), is_trusted, stop.clone()));
        // Stopped once it has looked at the clock; what it then does it finishes.
        let has_looked = async {
            while asked.load(std::sync::atomic::Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), has_looked).await.expect("it looks at the clock at once");
        stop.cancel();
        running.await.unwrap();
        let page = register.page(0, 10).await.unwrap();
        assert_eq!(page[0].operator.is_some(), !trusted);
        let noted = page.get(1).map(|entry| (entry.leaf.clause.clone(), entry.leaf.items));
        assert_eq!(noted, trusted.then(|| ("register.personal_days = 1".to_owned(), 3)));
    }
}
