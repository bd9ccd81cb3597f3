//! Reading the register back, on connections of its own: a full check or a proof over millions of entries holds
//! up no access that wants to be entered.

use super::leaf::commitment;
use super::log::column;
use super::tree::{Growing, Root, consistency_ranges, inclusion_ranges};
use super::{RegisterError, Verified};
use campanile_proto::federation::v1::SignedEnvelope;
use campanile_proto::ids::OrganisationId;
use campanile_proto::signed::{open_strictly, verify_envelope};
use campanile_proto::types::v1::{Checkpoint, RegisterLeaf};
use ed25519_dalek::VerifyingKey;
use prost::Message;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

const MAX_PAGE: u32 = 1_000;
const LEAVES: &str = "SELECT leaf FROM leaf WHERE sequence >= ?1 AND sequence < ?2 ORDER BY sequence";

/// An entry as it is read: the leaf, and what stands beside the tree for it.
#[derive(Clone, PartialEq)]
pub struct Entry {
    pub leaf: RegisterLeaf,
    pub operator: Option<String>,
    pub purpose: Option<String>,
    pub case_number: Option<String>,
}

pub(super) struct Reader {
    pub path: PathBuf,
    pub organisation: OrganisationId,
    pub key: VerifyingKey,
}

fn failed(error: rusqlite::Error) -> RegisterError {
    RegisterError::Read(Arc::new(error))
}

impl Reader {
    fn connect(&self) -> Result<Connection, RegisterError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        // One moment of the file, however long it takes.
        connection.execute_batch("BEGIN").map_err(failed)?;
        Ok(connection)
    }

    pub fn page(&self, from: u64, limit: u32) -> Result<Vec<Entry>, RegisterError> {
        let connection = self.connect()?;
        let upto = from.saturating_add(limit.min(MAX_PAGE).into());
        let mut entries = Vec::new();
        for (sequence, bytes) in (from..).zip(leaves(&connection, from, upto)?) {
            let Ok(leaf) = RegisterLeaf::decode(bytes.as_slice()) else { break };
            let mut beside = personal(&connection, sequence)?;
            entries.push(Entry {
                leaf,
                operator: beside.remove("operator").map(|(value, _)| value),
                purpose: beside.remove("purpose").map(|(value, _)| value),
                case_number: beside.remove("case").map(|(value, _)| value),
            });
        }
        Ok(entries)
    }

    /// Leaves, order, kept checkpoints, commitments; and that what was `written` is there.
    pub fn verify(&self, written: Root) -> Result<Verified, RegisterError> {
        let connection = self.connect()?;
        let (tree, checkpoints) = check(&connection, self.organisation, &self.key, Some(written))?;
        let mut count = 0;
        let mut statement = connection.prepare("SELECT leaf FROM leaf ORDER BY sequence").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        for sequence in 0..tree.len() {
            let Some(row) = rows.next().map_err(failed)? else { break };
            let bytes: Vec<u8> = row.get(0).map_err(failed)?;
            let leaf = RegisterLeaf::decode(bytes.as_slice()).unwrap_or_default();
            for (field, (value, salt)) in personal(&connection, sequence)? {
                let stands = match field.as_str() {
                    "operator" => &leaf.operator_commitment,
                    "purpose" => &leaf.purpose_commitment,
                    _ => &leaf.case_commitment,
                };
                if commitment(&salt, &field, &value) != stands.as_ref() {
                    let what = format!("the {field} beside entry {sequence} is not the committed one");
                    return Err(RegisterError::Tampered(what));
                }
                count += 1;
            }
        }
        Ok(Verified { root: tree.root(), checkpoints, personal: count })
    }

    pub fn inclusion(&self, sequence: u64, size: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        if sequence >= size {
            return Err(RegisterError::OutOfRange(sequence));
        }
        self.roots(inclusion_ranges(sequence, size))
    }

    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        if old == 0 || old > new {
            return Err(RegisterError::OutOfRange(old));
        }
        self.roots(consistency_ranges(old, new))
    }

    /// Roots of subtrees, a leaf in memory at a time.
    fn roots(&self, ranges: Vec<Range<u64>>) -> Result<Vec<[u8; 32]>, RegisterError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare(LEAVES).map_err(failed)?;
        let mut root = |range: Range<u64>| {
            let mut rows = statement.query([column(range.start), column(range.end)]).map_err(failed)?;
            let mut tree = Growing::default();
            while let Some(row) = rows.next().map_err(failed)? {
                tree.push(row.get_ref(0).and_then(|leaf| Ok(leaf.as_blob()?)).map_err(failed)?);
            }
            if tree.len() < range.end - range.start {
                return Err(RegisterError::OutOfRange(range.end));
            }
            Ok(tree.root().hash)
        };
        ranges.into_iter().map(&mut root).collect()
    }
}

fn leaves(connection: &Connection, from: u64, upto: u64) -> Result<Vec<Vec<u8>>, RegisterError> {
    let mut statement = connection.prepare(LEAVES).map_err(failed)?;
    let rows = statement.query_map([column(from), column(upto)], |row| row.get(0)).map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}

type Beside = BTreeMap<String, (String, Vec<u8>)>;

fn personal(connection: &Connection, sequence: u64) -> Result<Beside, RegisterError> {
    let read = |statement: &mut rusqlite::CachedStatement<'_>| {
        let rows = statement.query_map([column(sequence)], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        rows.collect()
    };
    let sql = "SELECT field, value, salt FROM personal WHERE sequence = ?1";
    connection.prepare_cached(sql).and_then(|mut statement| read(&mut statement)).map_err(failed)
}

/// Builds the tree anew from the file; every kept checkpoint must be signed by our key and state the root the
/// tree had at its size, and so must what was `written` by the thread that owns the file. Also counts the
/// checkpoints.
pub(super) fn check(
    connection: &Connection,
    organisation: OrganisationId,
    key: &VerifyingKey,
    written: Option<Root>,
) -> Result<(Growing, u64), RegisterError> {
    let mut roots = checkpoints(connection, organisation, key)?;
    let count = roots.len() as u64;
    let changed = || RegisterError::Tampered("the leaves on the disk are not those that were written".into());
    let mut tree = Growing::default();
    let mut statement = connection.prepare("SELECT sequence, leaf FROM leaf ORDER BY sequence").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (sequence, bytes): (i64, Vec<u8>) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        let said = RegisterLeaf::decode(bytes.as_slice()).map(|leaf| leaf.sequence).ok();
        if column(tree.len()) != sequence || said != Some(tree.len()) {
            return Err(RegisterError::Tampered(format!("entry {} is missing or out of order", tree.len())));
        }
        tree.push(&bytes);
        if roots.remove(&tree.len()).is_some_and(|root| root != tree.root().hash) {
            return Err(RegisterError::Tampered(format!("the tree is not that of checkpoint {}", tree.len())));
        }
        if written.is_some_and(|written| written.size == tree.len() && written != tree.root()) {
            return Err(changed());
        }
    }
    if written.is_some_and(|written| written.size > tree.len()) {
        return Err(changed());
    }
    match roots.keys().find(|&&size| size > 0) {
        Some(size) => Err(RegisterError::Tampered(format!("entries up to checkpoint {size} are missing"))),
        None => Ok((tree, count)),
    }
}

fn checkpoints(
    connection: &Connection,
    organisation: OrganisationId,
    key: &VerifyingKey,
) -> Result<BTreeMap<u64, [u8; 32]>, RegisterError> {
    let envelopes: Vec<Vec<u8>> = connection
        .prepare("SELECT envelope FROM checkpoint ORDER BY tree_size")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(failed)?;
    let read = |bytes: &Vec<u8>| -> Option<(u64, [u8; 32])> {
        let signed = SignedEnvelope::decode(bytes.as_slice()).ok()?;
        verify_envelope::<Checkpoint>(&signed, organisation, key).ok()?;
        let checkpoint = open_strictly::<Checkpoint>(&signed).ok()?;
        Some((checkpoint.tree_size, checkpoint.root_hash.as_ref().try_into().ok()?))
    };
    let tampered = || RegisterError::Tampered("a checkpoint is not signed by this register's key".into());
    envelopes.iter().map(|bytes| read(bytes).ok_or_else(tampered)).collect()
}
