//! The file and its owner thread: group commit, checkpoints, reading back.

use super::leaf::{commitment, place};
use super::tree::Tree;
use super::{Answer, Command, LeafDraft, RegisterError, Verified};
use campanile_proto::federation::v1::SignedEnvelope;
use campanile_proto::ids::{OrganisationId, RequestId};
use campanile_proto::kind::Chain;
use campanile_proto::signed::{envelope, open_strictly, verify_envelope};
use campanile_proto::time::{Clock, MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Checkpoint, Phase, RegisterLeaf};
use ed25519_dalek::SigningKey;
use prost::Message;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::error;

/// Leaves that share one commit: what is queued while the disk is busy with the one before, so that none
/// waits longer than two writes.
const GROUP: usize = 256;
/// A checkpoint is signed at the latest this long after new leaves.
const CHECKPOINT_EVERY_US: i64 = 900 * MICROS_PER_SECOND;
const MAX_PAGE: u32 = 1_000;

/// An entry as it is read: the leaf, and what stands beside the tree for it.
#[derive(Clone, PartialEq)]
pub struct Entry {
    pub leaf: RegisterLeaf,
    pub operator: Option<String>,
    pub purpose: Option<String>,
    pub case_number: Option<String>,
}

pub(super) struct Log {
    connection: Connection,
    tree: Tree,
    organisation: OrganisationId,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    checkpointed: WallTime,
}

impl Log {
    pub fn open(
        path: &Path,
        organisation: OrganisationId,
        key: SigningKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RegisterError> {
        let failed = |source| RegisterError::Open { path: path.to_owned(), source: Arc::new(source) };
        let connection = Connection::open(path).map_err(failed)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(failed)?;
        connection.execute_batch(include_str!("schema.sql")).map_err(failed)?;
        let mut log = Self { connection, tree: Tree::default(), organisation, key, clock, checkpointed: WallTime(0) };
        log.tree = log.read_tree()?.0;
        log.close_interrupted()?;
        if log.tree.len() > 0 {
            log.checkpoint()?;
        }
        Ok(log)
    }

    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut group = Vec::new();
        loop {
            group.clear();
            if commands.blocking_recv_many(&mut group, GROUP) == 0 {
                break;
            }
            let (mut appends, mut others) = (Vec::new(), Vec::new());
            for command in group.drain(..) {
                match command {
                    Command::Append(draft, answer) => appends.push((*draft, answer)),
                    other => others.push(other),
                }
            }
            self.append_group(appends);
            others.into_iter().for_each(|command| self.serve(command));
            if self.tree.len() > 0 && self.clock.utc() - self.checkpointed > CHECKPOINT_EVERY_US {
                let _ = self.checkpoint().inspect_err(|e| error!(error = %Chain(e), "register checkpoint not written"));
            }
        }
    }

    fn serve(&mut self, command: Command) {
        // Whoever has gone away does not need the answer.
        match command {
            Command::Append(draft, answer) => self.append_group(vec![(*draft, answer)]),
            Command::Checkpoint(answer) => drop(answer.send(self.checkpoint())),
            Command::Page { from, limit, answer } => drop(answer.send(self.page(from, limit))),
            Command::Verify(answer) => drop(answer.send(self.verify())),
            Command::Root(answer) => drop(answer.send(Ok(self.tree.root()))),
            Command::Inclusion { sequence, size, answer } => drop(answer.send(self.tree.inclusion(sequence, size))),
            Command::Consistency { old, new, answer } => drop(answer.send(self.tree.consistency(old, new))),
        }
    }

    fn append_group(&mut self, appends: Vec<(LeafDraft, Option<Answer<u64>>)>) {
        if appends.is_empty() {
            return;
        }
        let drafts: Vec<&LeafDraft> = appends.iter().map(|(draft, _)| draft).collect();
        let first = self.write(&drafts);
        if let Err(e) = &first {
            error!(error = %Chain(e), "register not written");
        }
        for (offset, (_, answer)) in (0..).zip(appends) {
            if let Some(answer) = answer {
                let _ = answer.send(first.clone().map(|first| first + offset));
            }
        }
    }

    /// Writes drafts in one transaction; the sequence of the first.
    fn write(&mut self, drafts: &[&LeafDraft]) -> Result<u64, RegisterError> {
        let failed = |e| RegisterError::Write(Arc::new(e));
        let first = self.tree.len();
        let now = self.clock.utc();
        let mut encoded = Vec::with_capacity(drafts.len());
        let transaction = self.connection.transaction().map_err(failed)?;
        for (sequence, draft) in (first..).zip(drafts) {
            let (leaf, personal) = place(draft, sequence, now, self.organisation);
            let bytes = leaf.encode_to_vec();
            transaction
                .prepare_cached("INSERT INTO leaf (sequence, request_id, phase, leaf) VALUES (?1, ?2, ?3, ?4)")
                .and_then(|mut s| s.execute(params![column(sequence), draft.request.as_bytes(), leaf.phase, bytes]))
                .map_err(failed)?;
            for value in personal {
                transaction
                    .prepare_cached("INSERT INTO personal (sequence, field, value, salt) VALUES (?1, ?2, ?3, ?4)")
                    .and_then(|mut s| s.execute(params![column(sequence), value.field, value.value, value.salt]))
                    .map_err(failed)?;
            }
            encoded.push(bytes);
        }
        transaction.commit().map_err(failed)?;
        encoded.into_iter().for_each(|leaf| self.tree.push(leaf));
        Ok(first)
    }

    /// Closes what an earlier process opened and did not close.
    fn close_interrupted(&mut self) -> Result<(), RegisterError> {
        let open: Vec<Vec<u8>> = self
            .connection
            .prepare(
                "SELECT leaf FROM leaf AS opened WHERE phase = ?1 AND NOT EXISTS (
                   SELECT 1 FROM leaf WHERE request_id = opened.request_id AND phase IN (?2, ?3)
                   AND sequence > opened.sequence) ORDER BY sequence",
            )
            .and_then(|mut statement| {
                let phases = params![Phase::Opened as i32, Phase::Closed as i32, Phase::Interrupted as i32];
                statement.query_map(phases, |row| row.get(0))?.collect()
            })
            .map_err(|e| RegisterError::Read(Arc::new(e)))?;
        let drafts: Vec<LeafDraft> = open
            .iter()
            .filter_map(|bytes| RegisterLeaf::decode(bytes.as_slice()).ok())
            .filter_map(|leaf| {
                let request = RequestId::try_from(&leaf.request_id).ok()?;
                let mut draft = LeafDraft::new(leaf.act(), Phase::Interrupted, request);
                draft.requester = OrganisationId::try_from(&leaf.requester_organisation_id).ok();
                draft.clause = leaf.clause;
                draft.reason = "PROCESS_ENDED".into();
                Some(draft)
            })
            .collect();
        if drafts.is_empty() {
            return Ok(());
        }
        self.write(&drafts.iter().collect::<Vec<_>>()).map(drop)
    }

    fn checkpoint(&mut self) -> Result<SignedEnvelope, RegisterError> {
        let (root, now) = (self.tree.root(), self.clock.utc());
        let kept = self.connection.query_row(
            "SELECT envelope FROM checkpoint WHERE tree_size = ?1",
            [column(root.size)],
            |row| row.get::<_, Vec<u8>>(0),
        );
        self.checkpointed = now;
        if let Some(envelope) = kept.ok().and_then(|bytes| SignedEnvelope::decode(bytes.as_slice()).ok()) {
            return Ok(envelope);
        }
        let checkpoint = Checkpoint {
            organisation_id: self.organisation.into(),
            tree_size: root.size,
            root_hash: bytes::Bytes::copy_from_slice(&root.hash),
            utc_us: now.0,
        };
        let signed = envelope(&checkpoint, self.organisation, &self.key);
        self.connection
            .execute(
                "INSERT INTO checkpoint (tree_size, envelope) VALUES (?1, ?2)",
                params![column(root.size), signed.encode_to_vec()],
            )
            .map_err(|e| RegisterError::Write(Arc::new(e)))?;
        Ok(signed)
    }

    fn page(&self, from: u64, limit: u32) -> Result<Vec<Entry>, RegisterError> {
        let upto = from.saturating_add(u64::from(limit.min(MAX_PAGE))).min(self.tree.len());
        let mut entries = Vec::new();
        for sequence in from..upto {
            let Some(leaf) = self.tree.leaf(sequence).and_then(|bytes| RegisterLeaf::decode(bytes).ok()) else { break };
            let mut beside = self.personal(sequence)?;
            entries.push(Entry {
                leaf,
                operator: beside.remove("operator").map(|(value, _)| value),
                purpose: beside.remove("purpose").map(|(value, _)| value),
                case_number: beside.remove("case").map(|(value, _)| value),
            });
        }
        Ok(entries)
    }

    fn personal(&self, sequence: u64) -> Result<BTreeMap<String, (String, Vec<u8>)>, RegisterError> {
        self.connection
            .prepare_cached("SELECT field, value, salt FROM personal WHERE sequence = ?1")
            .and_then(|mut statement| {
                let rows =
                    statement.query_map([column(sequence)], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
                rows.collect()
            })
            .map_err(|e| RegisterError::Read(Arc::new(e)))
    }

    fn verify(&self) -> Result<Verified, RegisterError> {
        let (tree, checkpoints) = self.read_tree()?;
        if tree.root() != self.tree.root() {
            return Err(RegisterError::Tampered("the leaves on the disk are not those that were written".into()));
        }
        let mut personal = 0;
        for sequence in 0..tree.len() {
            let leaf = tree.leaf(sequence).and_then(|bytes| RegisterLeaf::decode(bytes).ok()).unwrap_or_default();
            for (field, (value, salt)) in self.personal(sequence)? {
                let stands = match field.as_str() {
                    "operator" => &leaf.operator_commitment,
                    "purpose" => &leaf.purpose_commitment,
                    _ => &leaf.case_commitment,
                };
                if commitment(&salt, &field, &value) != stands.as_ref() {
                    let what = format!("the {field} beside entry {sequence} is not the committed one");
                    return Err(RegisterError::Tampered(what));
                }
                personal += 1;
            }
        }
        Ok(Verified { root: tree.root(), checkpoints, personal })
    }

    /// Builds the tree anew from the file; every kept checkpoint must be signed by our key and state the
    /// root the tree had at its size. Also counts them.
    fn read_tree(&self) -> Result<(Tree, u64), RegisterError> {
        let failed = |e| RegisterError::Read(Arc::new(e));
        let mut checkpoints = self.read_checkpoints()?;
        let count = checkpoints.len() as u64;
        let mut tree = Tree::default();
        let mut statement =
            self.connection.prepare("SELECT sequence, leaf FROM leaf ORDER BY sequence").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let (sequence, bytes): (i64, Vec<u8>) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
            let said = RegisterLeaf::decode(bytes.as_slice()).map(|leaf| leaf.sequence).ok();
            if column(tree.len()) != sequence || said != Some(tree.len()) {
                return Err(RegisterError::Tampered(format!("entry {} is missing or out of order", tree.len())));
            }
            tree.push(bytes);
            if checkpoints.remove(&tree.len()).is_some_and(|root| root != tree.root().hash) {
                return Err(RegisterError::Tampered(format!("the tree is not that of checkpoint {}", tree.len())));
            }
        }
        match checkpoints.keys().find(|&&size| size > 0) {
            Some(size) => Err(RegisterError::Tampered(format!("entries up to checkpoint {size} are missing"))),
            None => Ok((tree, count)),
        }
    }

    fn read_checkpoints(&self) -> Result<BTreeMap<u64, [u8; 32]>, RegisterError> {
        let envelopes: Vec<Vec<u8>> = self
            .connection
            .prepare("SELECT envelope FROM checkpoint ORDER BY tree_size")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .map_err(|e| RegisterError::Read(Arc::new(e)))?;
        let read = |bytes: &Vec<u8>| -> Option<(u64, [u8; 32])> {
            let signed = SignedEnvelope::decode(bytes.as_slice()).ok()?;
            verify_envelope::<Checkpoint>(&signed, self.organisation, &self.key.verifying_key()).ok()?;
            let checkpoint = open_strictly::<Checkpoint>(&signed).ok()?;
            Some((checkpoint.tree_size, checkpoint.root_hash.as_ref().try_into().ok()?))
        };
        let tampered = || RegisterError::Tampered("a checkpoint is not signed by this register's key".into());
        envelopes.iter().map(|bytes| read(bytes).ok_or_else(tampered)).collect()
    }
}

/// SQLite's integers are signed.
fn column(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
