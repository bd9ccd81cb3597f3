//! The file and its owner thread: group commit and checkpoints.

use super::leaf::place;
use super::reader::check;
use super::tree::Growing;
use super::{Answer, Command, LeafDraft, RegisterError};
use campanile_proto::federation::v1::SignedEnvelope;
use campanile_proto::ids::{HoldId, OrganisationId, RequestId};
use campanile_proto::kind::Chain;
use campanile_proto::signed::envelope;
use campanile_proto::time::{Clock, MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Checkpoint, Phase, RegisterLeaf};
use ed25519_dalek::SigningKey;
use prost::Message;
use rusqlite::{Connection, params};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::error;

/// Leaves that share one commit: what is queued while the disk is busy with the one before, so that none
/// waits longer than two writes.
const GROUP: usize = 256;
/// Somebody's backup may hold the file.
const BUSY_WITHIN: Duration = Duration::from_secs(5);
/// Entries that are in memory while their age is looked at.
const LOOKED_AT_ONCE: i64 = 500;
/// A checkpoint is signed at the latest this long after new leaves.
const CHECKPOINT_EVERY_US: i64 = 900 * MICROS_PER_SECOND;

pub(super) struct Log {
    connection: Connection,
    tree: Growing,
    organisation: OrganisationId,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    checkpointed: WallTime,
    /// Something was forgotten, and the write-ahead log may still hold it.
    unswept: bool,
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
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA secure_delete = ON;",
            )
            .map_err(failed)?;
        connection.execute_batch(include_str!("schema.sql")).map_err(failed)?;
        let mut log = Self {
            connection,
            tree: Growing::default(),
            organisation,
            key,
            clock,
            checkpointed: WallTime(0),
            unswept: true,
        };
        log.tree = check(&log.connection, organisation, &log.key.verifying_key(), None)?.0;
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
            let _ =
                self.sweep().inspect_err(|e| error!(error = %Chain(e), "what was forgotten may still be on the disk"));
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
            Command::ForgetPersonal { before, answer } => drop(answer.send(self.forget_personal(before))),
            Command::Root(answer) => drop(answer.send(Ok(self.tree.root()))),
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
        encoded.iter().for_each(|leaf| self.tree.push(leaf));
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
                draft.hold = HoldId::try_from(&leaf.hold_id).ok();
                draft.reason = "PROCESS_ENDED".into();
                Some(draft)
            })
            .collect();
        if drafts.is_empty() {
            return Ok(());
        }
        self.write(&drafts.iter().collect::<Vec<_>>()).map(drop)
    }

    /// Removes values beside entries older than `before`, from the oldest on; how many. An entry dated in the
    /// future, by a clock that was wrong then, is as old as the one that follows it.
    fn forget_personal(&mut self, before: WallTime) -> Result<u64, RegisterError> {
        let failed = |e| RegisterError::Write(Arc::new(e));
        let now = self.clock.utc();
        let (mut over, mut looked) = (None, -1);
        'all: loop {
            let sql = "SELECT sequence, leaf FROM leaf WHERE sequence IN
                       (SELECT DISTINCT sequence FROM personal WHERE sequence > ?1 ORDER BY sequence LIMIT ?2)
                       ORDER BY sequence";
            let oldest: Vec<(i64, Vec<u8>)> = self
                .connection
                .prepare_cached(sql)
                .and_then(|mut s| {
                    s.query_map([looked, LOOKED_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                })
                .map_err(failed)?;
            let Some((last, _)) = oldest.last() else { break };
            looked = *last;
            for (sequence, bytes) in &oldest {
                let utc_us = RegisterLeaf::decode(bytes.as_slice()).map_or(i64::MAX, |leaf| leaf.utc_us);
                if utc_us < before.0 {
                    over = Some(*sequence);
                } else if utc_us <= now.0 {
                    break 'all;
                }
            }
        }
        let mut forgotten = 0;
        if let Some(last) = over {
            let deleted = self.connection.execute("DELETE FROM personal WHERE sequence <= ?1", [last]);
            forgotten = deleted.map_err(failed)? as u64;
            self.unswept = true;
        }
        self.sweep()?;
        Ok(forgotten)
    }

    /// The write-ahead log still holds forgotten pages as they were; whoever reads keeps it, and it is tried again.
    fn sweep(&mut self) -> Result<(), RegisterError> {
        if !self.unswept {
            return Ok(());
        }
        let failed = |e| RegisterError::Write(Arc::new(e));
        // Accesses wait for this thread: it does not wait for readers.
        self.connection.busy_timeout(Duration::ZERO).map_err(failed)?;
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(BUSY_WITHIN).map_err(failed)?;
        self.unswept = busy.map_err(failed)?;
        Ok(())
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
}

/// SQLite's integers are signed.
pub(super) fn column(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
