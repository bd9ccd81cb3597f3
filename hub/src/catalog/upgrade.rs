//! Databases of earlier versions, brought to today's schema in place, one step a version.

use rusqlite::Transaction;

/// From version `n + 1` to the next: what stands in schema.sql now, as a change.
const STEPS: &[&str] = &[
    "ALTER TABLE token ADD COLUMN key_hash BLOB;
    CREATE TABLE camera_former_owner (
        organisation BLOB NOT NULL,
        camera       BLOB NOT NULL,
        edge         BLOB NOT NULL,
        PRIMARY KEY (organisation, camera, edge)
    ) WITHOUT ROWID;
    CREATE INDEX object_by_end ON object (organisation, kind, end_us) WHERE end_us IS NOT NULL;",
    "CREATE TABLE mask (
        organisation BLOB NOT NULL,
        camera       BLOB NOT NULL,
        since_us     INTEGER NOT NULL,
        act          TEXT NOT NULL,
        author       TEXT NOT NULL,
        PRIMARY KEY (organisation, camera)
    ) WITHOUT ROWID;",
];

/// Takes the catalogue from `found` on; whoever calls commits.
pub(super) fn catalogue(db: &Transaction<'_>, found: i64) -> rusqlite::Result<()> {
    let first = usize::try_from(found - 1).unwrap_or(usize::MAX);
    STEPS.iter().skip(first).try_for_each(|step| db.execute_batch(step))
}

#[cfg(test)]
mod tests {
    use super::super::sqlite::{SCHEMA, open_database};
    use rusqlite::Connection;
    use std::collections::BTreeMap;

    /// Schema 1, as the first release made it.
    const FIRST: &str = include_str!("upgrade/schema_1.sql");

    /// Columns of every table and index, by its name; the texts differ in their comments.
    fn shape(db: &Connection) -> BTreeMap<String, Vec<String>> {
        let names = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'";
        let names: Vec<String> =
            db.prepare(names).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let columns = |name: &String| {
            let list = "SELECT name || ' ' || type || ' ' || pk FROM pragma_table_xinfo(?1) \
                        UNION ALL SELECT name FROM pragma_index_info(?1)";
            let mut columns = db.prepare(list).unwrap();
            columns.query_map([name], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        names.into_iter().map(|name| (name.clone(), columns(&name))).collect()
    }

    #[test]
    fn the_first_releases_catalogue_becomes_todays_and_keeps_what_it_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(FIRST).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch("INSERT INTO token VALUES (x'01', x'02', 'Piazza', 3, 4, NULL, NULL)").unwrap();
        drop(old);
        let open = |path| open_database(path, include_str!("schema.sql"), SCHEMA, super::catalogue).unwrap();
        let upgraded = open(&path);
        let fresh = open(&dir.path().join("fresh.sqlite"));
        assert_eq!(shape(&upgraded), shape(&fresh));
        let site: String = upgraded.query_row("SELECT site_name FROM token", [], |row| row.get(0)).unwrap();
        assert_eq!(site, "Piazza");
        let version: i64 = upgraded.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, SCHEMA);
    }
}
