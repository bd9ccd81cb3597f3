//! A disk of recordings that is away, and an index that is lost.

use anyhow::{Context, Result, ensure};
use campanile_tests::edge_box::text;
use campanile_tests::process::run_to_end;
use campanile_tests::rig::{
    Rig, SOON, camera_row, one_box, own_events, small_camera, wait_for_events, wait_for_more_events,
};
use campanile_tests::town::Town;
use campanile_tests::until::until;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::Path;

fn main_is(town: &Town, camera: &str, condition: &str) -> Result<serde_json::Value> {
    until(&format!("{camera} is {condition}"), SOON, || match camera_row(town, camera) {
        Ok(row) if row["streams"][0]["condition"] == condition => Ok(row),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn a_disk_that_is_not_mounted_is_named_fills_nothing_and_is_recorded_to_once_it_is_back() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    wait_for_events(&town, 1)?;
    town.boxes[0].end()?;
    let (media, disk) = (town.boxes[0].folder.join("media"), town.boxes[0].folder.join("disk"));
    // What a mount point is without its disk.
    std::fs::rename(&media, &disk)?;
    std::fs::create_dir(&media)?;
    town.boxes[0].start()?;
    let row = main_is(&town, &camera.name, "disk_error")?;
    ensure!(row.to_string().contains("not mounted"), "{row}");
    let config = town.boxes[0].config();
    let check = run_to_end("campanile-edge", &["check", "--config", &config])?;
    ensure!(text(&check.stdout).contains("CHANGE  mount: "), "{}", text(&check.stdout));
    ensure!(check.status.code() == Some(1), "{}", check.status);
    ensure!(std::fs::read_dir(&media)?.count() == 0, "something was made where the disk is not");
    std::fs::remove_dir(&media)?;
    std::fs::rename(&disk, &media)?;
    main_is(&town, &camera.name, "recording")?;
    Ok(())
}

/// Every row of a table as text, sequences and what depends on them left out.
fn rows(database: &Path, query: &str) -> Result<BTreeSet<String>> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = connection.prepare(query)?;
    let columns = statement.column_count();
    let found = statement.query_map([], |row| {
        (0..columns).map(|at| row.get::<_, Value>(at).map(|value| format!("{value:?}"))).collect::<Result<Vec<_>, _>>()
    })?;
    found.map(|row| Ok(row?.join(" | "))).collect()
}

#[test]
fn an_index_that_was_lost_is_made_again_row_by_row_and_the_hub_counts_nothing_twice() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    wait_for_events(&town, 1)?;
    let config = town.boxes[0].config();
    let reindex = || run_to_end("campanile-edge", &["reindex", "--config", &config]);
    let refused = reindex()?;
    ensure!(refused.status.code() == Some(75), "beside a running agent: {}", refused.status);
    // Two runs, one of them killed.
    town.boxes[0].kill()?;
    let known = own_events(&town)?.len();
    town.boxes[0].start()?;
    wait_for_more_events(&town, "events of the second run", |events| events.len() > known)?;
    town.boxes[0].end()?;
    let before = own_events(&town)?;

    let state = town.boxes[0].folder.join("state");
    let (index, lost) = (state.join("index.sqlite"), rig.path("lost.sqlite"));
    std::fs::copy(&index, &lost)?;
    for ending in ["", "-wal", "-shm"] {
        let path = state.join(format!("index.sqlite{ending}"));
        if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    let done = reindex()?;
    ensure!(done.status.success(), "{}: {}", done.status, text(&done.stderr));

    for table in ["segment", "index_record"] {
        let query = format!("SELECT * FROM {table}");
        let (was, is) = (rows(&lost, &query)?, rows(&index, &query)?);
        ensure!(table != "segment" || was.len() >= 6, "two runs of three streams: {}", was.len());
        let (gone, new): (Vec<_>, Vec<_>) = (was.difference(&is).collect(), is.difference(&was).collect());
        ensure!(was == is, "{table}: lost {gone:#?}, and made {new:#?}");
    }
    // Every segment and every sealed index record waits for the hub again; the lost outbox was empty of them.
    let offered = "SELECT object_id, revision FROM outbox WHERE source = 1";
    let natural = "SELECT id, offered FROM segment WHERE offered > 0";
    ensure!(rows(&index, offered)? == rows(&lost, natural)?, "not every segment is offered as it was");
    let records = rows(&index, "SELECT object_id FROM outbox WHERE source = 3")?;
    let events = u64::try_from(before.len())?;
    ensure!(records.len() as u64 >= events, "{} records for {events} events", records.len());
    ensure!(rows(&lost, "SELECT epoch FROM epoch")? != rows(&index, "SELECT epoch FROM epoch")?, "another database");

    // Once more over a database that is there: nothing changes but sequences.
    let whole = "SELECT * FROM segment";
    let once = rows(&index, whole)?;
    let again = reindex()?;
    ensure!(again.status.success() && rows(&index, whole)? == once, "{}", text(&again.stderr));

    town.boxes[0].start()?;
    let known = before.len();
    let after = wait_for_more_events(&town, "events of the third run", |events| events.len() > known)?;
    for (id, event) in &before {
        let now = after.get(id).with_context(|| format!("event {id} is gone"))?;
        ensure!(now["start"] == event["start"], "{event} became {now}");
    }
    Ok(())
}
