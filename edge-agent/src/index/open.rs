//! The database file: made, upgraded in place, or set aside.

use super::IndexError;
use campanile_proto::ids::Epoch;
use rusqlite::{Connection, OptionalExtension};
use std::path::{Path, PathBuf};

const SCHEMA: &str = include_str!("schema.sql");
/// Version of `schema.sql`.
const VERSION: i64 = 3;
/// Statements that lead from version n + 1 to n + 2.
const UPGRADES: [&str; VERSION as usize - 1] = [
    "ALTER TABLE segment ADD COLUMN last_link BLOB; ALTER TABLE segment ADD COLUMN signature BLOB;",
    "ALTER TABLE segment ADD COLUMN suspect TEXT;
     CREATE INDEX segment_suspect ON segment (captured_us) WHERE suspect IS NOT NULL;",
];
/// WAL: the uplink reads while facts are written. FULL: a sequence must be on disk before the hub sees it, or a
/// power cut would use it twice and the hub take this box for a copy of itself. Facts come in batches, so this is
/// a few flushes a second.
pub(super) fn open_connection(path: &Path) -> Result<(Connection, Epoch), IndexError> {
    let open = |source| IndexError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(open)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(open)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(open)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(open)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
    if found > VERSION {
        return Err(IndexError::TooNew { path: path.to_owned(), found, known: VERSION });
    }
    let transaction = connection.transaction().map_err(open)?;
    if found == 0 {
        transaction.execute_batch(SCHEMA).map_err(open)?;
    }
    for step in UPGRADES.iter().skip(usize::try_from(found - 1).unwrap_or(UPGRADES.len())) {
        transaction.execute_batch(step).map_err(open)?;
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(open)?;
    let known: Option<[u8; 16]> =
        transaction.query_row("SELECT epoch FROM epoch", [], |row| row.get(0)).optional().map_err(open)?;
    let epoch = match known {
        Some(bytes) => Epoch::from_u128(u128::from_be_bytes(bytes)),
        None => {
            let epoch = Epoch::random();
            let insert = "INSERT INTO epoch (one, epoch) VALUES (1, ?1)";
            transaction.execute(insert, [epoch.as_bytes()]).map_err(open)?;
            epoch
        }
    };
    transaction.commit().map_err(open)?;
    Ok((connection, epoch))
}

pub(super) fn is_damage(error: &IndexError) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error, IndexError::Open { source, .. } | IndexError::Statement { source, .. }
        if matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)))
}

/// Moves a damaged database out of the way, with what belongs to it.
pub(super) fn set_aside(path: &Path) -> Result<(), IndexError> {
    let aside = path.with_extension("damaged");
    tracing::error!(path = %path.display(), aside = %aside.display(), "the index is damaged and is made anew");
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        let _ = std::fs::remove_file(PathBuf::from(beside));
    }
    std::fs::rename(path, &aside).map_err(|source| IndexError::SetAside { path: aside, source })
}
