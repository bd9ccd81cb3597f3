//! Towns for a test: small scenes, a folder of their own, answers as values.

use crate::demo::{flatten, hits, search};
use crate::edge_box::EdgeBox;
use crate::roster::{BoxPlan, Camera, Picture, SceneSize, TownPlan};
use crate::simcam::Simcam;
use crate::town::Town;
use crate::until::{until, until_each};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A search, and what it writes into the register, is not asked for twenty times a second.
const SEARCH_PAUSE: Duration = Duration::from_millis(400);
/// A busy machine, a scene with a quiet start.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Rig {
    pub folder: TempDir,
    pub simcam: Simcam,
}

impl Rig {
    /// Serves `cameras`; scenes are encoded once for all tests.
    pub fn serving(cameras: &[Camera]) -> Result<Self> {
        let build = crate::process::binary("campanile-simcam")?;
        let target = build.parent().and_then(Path::parent).context("binaries lie in target/debug")?;
        let tests = target.join("whole-system");
        std::fs::create_dir_all(&tests).context("cannot make the tests' folder")?;
        // To look at what a failed test left behind.
        let kept = std::env::var_os("CAMPANILE_KEEP").is_some();
        let folder =
            tempfile::Builder::new().disable_cleanup(kept).tempdir_in(&tests).context("cannot make a test's folder")?;
        let cameras_folder = folder.path().join("cameras");
        std::fs::create_dir_all(&cameras_folder).context("cannot make the cameras' folder")?;
        let simcam = Simcam::start(&cameras_folder, &target.join("scenes"), cameras)?;
        Ok(Self { folder, simcam })
    }

    /// A town with its hub running and no box yet.
    pub fn town(&self, key: &'static str, boxes: Vec<BoxPlan>) -> Result<Town> {
        let mut town = self.prepared_town(key, boxes)?;
        town.start_hub()?;
        Ok(town)
    }

    /// A town with its configuration written and nothing running.
    pub fn prepared_town(&self, key: &'static str, boxes: Vec<BoxPlan>) -> Result<Town> {
        let name = if key == "prato" { "Comune di Prato" } else { "Comune di Firenze" };
        let plan = TownPlan { key, name, ipa_code: "", boxes };
        Town::prepare(plan, self.folder.path().join(key))
    }

    /// A town with hub and boxes running.
    pub fn running_town(&self, key: &'static str, boxes: Vec<BoxPlan>) -> Result<Town> {
        let mut town = self.town(key, boxes)?;
        town.start_boxes(Some(&self.simcam))?;
        Ok(town)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A small, busy camera.
pub fn small_camera(key: &str, number: u32, codec: &'static str) -> Camera {
    Camera {
        key: key.to_owned(),
        number,
        name: format!("Piazza {key}"),
        site: "Centro".to_owned(),
        address: format!("Via {key} 1"),
        latitude: 43.88,
        longitude: 11.09,
        codec,
        transport: "tcp",
        picture: Picture::Scene { seed: u64::from(number), light: "day", activity: "busy", size: SceneSize::Small },
    }
}

/// One box with these cameras.
pub fn one_box(name: &str, cameras: &[Camera]) -> Vec<BoxPlan> {
    vec![BoxPlan { name: name.to_owned(), cameras: cameras.to_vec() }]
}

/// Events of the last ten minutes at the town's own hub: id to revision-independent facts.
pub fn own_events(town: &Town) -> Result<BTreeMap<String, Value>> {
    let answers = town.json(&search(&["--from", "-10m", "--own", "--limit", "500"]))?;
    let found = hits(&answers);
    let count = found.len();
    let named = |hit: &Value| Some((hit["event"].as_str()?.to_owned(), hit.clone()));
    let events: BTreeMap<String, Value> = found
        .into_iter()
        .map(|hit| named(hit).with_context(|| format!("an event has no id: {hit}")))
        .collect::<Result<_>>()?;
    anyhow::ensure!(events.len() == count, "an event is listed twice: {count} rows, {} events", events.len());
    Ok(events)
}

/// Waits until the hub has at least `count` events.
pub fn wait_for_events(town: &Town, count: usize) -> Result<BTreeMap<String, Value>> {
    wait_for_more_events(town, &format!("{count} events"), |events| events.len() >= count)
}

/// Waits until the hub's events satisfy `enough`.
pub fn wait_for_more_events(
    town: &Town,
    what: &str,
    enough: impl Fn(&BTreeMap<String, Value>) -> bool,
) -> Result<BTreeMap<String, Value>> {
    until_each(SEARCH_PAUSE, &format!("{what} at the hub of {}", town.plan.name), SOON, || match own_events(town) {
        Ok(events) if enough(&events) => Ok(events),
        Ok(events) => Err(format!("{} events", events.len())),
        Err(error) => Err(format!("{error:#}")),
    })
}

/// UTC microseconds of a field of an answer.
pub fn micros(value: &Value) -> Result<i64> {
    let text = value.as_str().with_context(|| format!("{value} is no time"))?;
    Ok(text.parse::<jiff::Timestamp>().with_context(|| format!("{text} is no time"))?.as_microsecond())
}

/// The row of a camera in `campanile-hub cameras --json`, by name.
pub fn camera_row(town: &Town, name: &str) -> Result<Value> {
    let rows = town.json(&["cameras"])?;
    let row = rows.iter().flat_map(flatten).find(|row| row["name"] == *name).cloned();
    row.with_context(|| format!("no camera {name} in {rows:?}"))
}

/// The id of a camera, once its box has reported it.
pub fn camera_id(town: &Town, name: &str) -> Result<String> {
    until(&format!("{name} is reported"), SOON, || {
        let row = camera_row(town, name).map_err(|error| format!("{error:#}"))?;
        row["id"].as_str().map(str::to_owned).ok_or_else(|| format!("{row}"))
    })
}

/// The row of a box in `campanile-hub edges list --json`, by name.
pub fn edge_row(town: &Town, name: &str) -> Result<Value> {
    let rows = town.json(&["edges", "list"])?;
    let row = rows.iter().flat_map(flatten).find(|row| row["name"] == *name).cloned();
    row.with_context(|| format!("no box {name} in {rows:?}"))
}

/// Waits until a box's row satisfies `is_so`.
pub fn wait_for_edge(town: &Town, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    until(&format!("{name} is {what}"), SOON, || match edge_row(town, name) {
        Ok(row) if is_so(&row) => Ok(row),
        other => Err(format!("{other:?}")),
    })
}

/// Plays [from, to) of an own or a partner's camera into a file, whole or not at all.
pub fn play(asker: &Town, owner: &Town, camera: &str, from_us: i64, to_us: i64, file: &Path) -> Result<String> {
    asker.play(owner, camera, from_us, to_us, "TEST/2026/1", file)
}

/// Plays the newest `seconds` that are whole; gives the interval played.
pub fn play_newest(asker: &Town, owner: &Town, camera: &str, seconds: i64, file: &Path) -> Result<(i64, i64)> {
    until_each(SEARCH_PAUSE, &format!("{seconds} s of {camera} played"), SOON, || {
        let to = crate::demo::micros_now().map_err(|error| error.to_string())? - 3_000_000;
        let from = to - seconds * 1_000_000;
        play(asker, owner, camera, from, to, file).map(|_| (from, to)).map_err(|error| format!("{error:#}"))
    })
}

/// Copies a folder, files and folders below it.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry.context("cannot read an entry")?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().context("an entry has no type")?;
        if kind.is_dir() {
            copy_folder(&source, &target)?;
        } else if kind.is_file() {
            match std::fs::copy(&source, &target) {
                Ok(_) => {}
                // What lives renames its files meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot copy {}", source.display())),
            }
        }
    }
    Ok(())
}

/// A second body with the same identity: the clone of a box.
pub fn clone_box(original: &EdgeBox, folder: PathBuf, simcam: &Simcam) -> Result<EdgeBox> {
    let clone = EdgeBox::prepare(original.plan.clone(), folder, Some(simcam))?;
    copy_folder(&original.folder.join("state"), &clone.folder.join("state"))?;
    Ok(clone)
}
