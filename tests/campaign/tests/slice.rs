//! A small slice of every campaign, through the same code.

use anyhow::{Result, ensure};
use campanile_campaign::campaign::{Wanted, one_disk, run};
use campanile_campaign::disk::Fault;
use campanile_campaign::kill::plan::Point;
use campanile_campaign::report::Report;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Below `target`, where the other whole-system tests work.
fn folder() -> Result<(TempDir, PathBuf)> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let tests = target.join("whole-system");
    std::fs::create_dir_all(&tests)?;
    let kept = std::env::var_os("CAMPANILE_KEEP").is_some();
    Ok((tempfile::Builder::new().disable_cleanup(kept).tempdir_in(tests)?, target.join("scenes")))
}

fn wanted(folder: &Path, scenes: PathBuf) -> Wanted {
    Wanted {
        seed: 3,
        kills: 0,
        images: 0,
        disks: 0,
        number: None,
        cameras: 2,
        scenes,
        folder: folder.to_owned(),
        real_disks: false,
        lives: 3,
    }
}

fn is_sound(report: &Report) -> Result<()> {
    ensure!(report.problems.is_empty(), "{:#?}", report.problems);
    Ok(())
}

#[test]
fn a_box_killed_ten_times_loses_no_older_second_and_records_again() -> Result<()> {
    let (folder, scenes) = folder()?;
    let report = run(&Wanted { kills: 10, ..wanted(folder.path(), scenes) })?;
    is_sound(&report)?;
    let kills = report.kills.as_ref().expect("there were kills");
    ensure!(kills.kills == 10 && kills.of_sealed_boxes == 5 && kills.units_compared > 100, "{kills:#?}");
    // Deletion waits for enough to delete.
    let certain = Point::NAMED.iter().filter(|point| **point != Point::Deletion);
    let hit = certain.filter(|point| kills.points.get(point).is_some_and(|struck| struck.hit > 0)).count();
    ensure!(hit >= 4, "the box was killed at {hit} named points only: {kills:#?}");
    Ok(())
}

#[test]
fn two_hundred_disks_as_a_power_cut_may_leave_them_lose_nothing_that_was_synced() -> Result<()> {
    let (folder, scenes) = folder()?;
    let report = run(&Wanted { images: 200, ..wanted(folder.path(), scenes) })?;
    is_sound(&report)?;
    let cuts = report.power_cuts.as_ref().expect("there were power cuts");
    ensure!(cuts.images == 200 && cuts.tails_cut_off > 0 && cuts.by_names_and_fate.len() >= 8, "{cuts:#?}");
    Ok(())
}

#[test]
fn a_disk_that_fails_costs_what_was_to_be_written_meanwhile_and_nothing_older() -> Result<()> {
    let (folder, scenes) = folder()?;
    for (number, fault) in (0..).zip([Fault::Full, Fault::ReadOnly, Fault::OneSyncError]) {
        let own = folder.path().join(number.to_string());
        let outcome = one_disk(&own, &scenes, number, fault, 1_500_000)?;
        ensure!(outcome.problems.is_empty() && outcome.older_lost_us == 0, "{outcome:#?}");
        ensure!(outcome.again_us >= 0, "{outcome:#?}");
    }
    Ok(())
}
