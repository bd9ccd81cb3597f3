//! What `make deb` puts on a machine: the packages, their services, and how these speak with systemd.

use anyhow::{Context, Result, ensure};
use campanile_tests::edge_box::{EdgeBox, text};
use campanile_tests::packages::{Packages, run, succeed};
use campanile_tests::process::{Process, run_to_end};
use campanile_tests::rig::one_box;
use campanile_tests::roster::TownPlan;
use campanile_tests::town::Town;
use nix::sys::signal::Signal;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

const BOTH: [&str; 2] = ["campanile-hub", "campanile-edge"];
/// Of `systemd-analyze security`, in tenths: what a service that nobody shut in has is 96.
const MOST_EXPOSED: &str = "15";
/// A hub that opens its stores on a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

static PACKAGES: LazyLock<Packages> = LazyLock::new(|| Packages::pack(&[]).expect("the packages are made"));

/// Both packages unpacked as a machine's root, with systemd's own targets.
fn machine() -> Result<TempDir> {
    let machine = tempfile::tempdir().context("no temporary folder")?;
    PACKAGES.unpack(machine.path())?;
    let units = "lib/systemd/system";
    for entry in std::fs::read_dir(Path::new("/").join(units)).context("systemd is not installed")?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(".target") && entry.path().is_file() {
            std::fs::copy(entry.path(), machine.path().join(units).join(name)).context("cannot copy a target")?;
        }
    }
    Ok(machine)
}

/// What `systemd-analyze verify` finds wrong with a unit of this machine; empty when nothing.
fn wrong_with(machine: &Path, unit: &str) -> Result<String> {
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--generators=no", "--recursive-errors=one"]);
    let output = run(verify.arg(format!("--root={}", machine.display())).arg(unit))?;
    let said = text(&output.stderr);
    ensure!(output.status.success() == said.is_empty(), "{}: {said}", output.status);
    Ok(said)
}

/// Writes `unit` anew; it must change.
fn change(machine: &Path, unit: &str, from: &str, to: &str) -> Result<()> {
    let path = machine.join("lib/systemd/system").join(unit);
    let before = std::fs::read_to_string(&path).context("the unit is installed")?;
    ensure!(before.contains(from), "{unit} holds no {from}");
    std::fs::write(&path, before.replace(from, to)).context("cannot write the unit")
}

#[test]
fn the_services_are_well_formed_and_a_broken_one_is_refused() -> Result<()> {
    for package in BOTH {
        let unit = format!("{package}.service");
        let machine = machine()?;
        ensure!(wrong_with(machine.path(), &unit)?.is_empty(), "{}", wrong_with(machine.path(), &unit)?);
        change(machine.path(), &unit, "ProtectSystem=strict", "ProtectSytem=strict")?;
        ensure!(wrong_with(machine.path(), &unit)?.contains("ProtectSytem"));
        change(machine.path(), &unit, "ProtectSytem=strict", "ProtectSystem=strict")?;
        change(machine.path(), &unit, "/usr/bin/", "/usr/local/bin/")?;
        ensure!(wrong_with(machine.path(), &unit)?.contains("not executable"));
    }
    Ok(())
}

#[test]
fn the_services_are_shut_in_and_one_that_is_not_is_found() -> Result<()> {
    let exposed = |machine: &Path, unit: &str| -> Result<(bool, String)> {
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--no-pager", "--offline=true", &format!("--threshold={MOST_EXPOSED}")]);
        let output = run(security.arg(machine.join("lib/systemd/system").join(unit)))?;
        let level = text(&output.stdout).lines().last().unwrap_or_default().to_owned();
        ensure!(level.contains("exposure level"), "{}: {level} {}", output.status, text(&output.stderr));
        Ok((!output.status.success(), level))
    };
    for package in BOTH {
        let unit = format!("{package}.service");
        let machine = machine()?;
        let (too_much, level) = exposed(machine.path(), &unit)?;
        println!("{level}");
        ensure!(!too_much, "{level}");
        change(machine.path(), &unit, "CapabilityBoundingSet=", "#")?;
        let (too_much, level) = exposed(machine.path(), &unit)?;
        ensure!(too_much, "without its bound of capabilities it passes as well: {level}");
    }
    Ok(())
}

#[test]
fn the_same_commit_makes_the_same_packages_and_another_time_others() -> Result<()> {
    let (again, later) = (Packages::pack(&[])?, Packages::pack(&[("SOURCE_DATE_EPOCH", "2000000000")])?);
    for package in BOTH {
        let bytes = |packages: &Packages| Ok::<_, anyhow::Error>(std::fs::read(packages.file(package)?)?);
        let first = bytes(&PACKAGES)?;
        ensure!(first == bytes(&again)?, "{package} differs from itself");
        ensure!(first != bytes(&later)?, "the time is nowhere in {package}");
    }
    Ok(())
}

#[test]
fn a_package_names_what_it_loads_and_keeps_what_a_person_wrote() -> Result<()> {
    let depends = |package: &str| -> Result<Vec<String>> {
        let control = PACKAGES.own(package, "control")?;
        let line = control.lines().find_map(|line| line.strip_prefix("Depends: ")).context("it depends on nothing")?;
        Ok(line.split(", ").map(|one| one.split(' ').next().unwrap_or_default().to_owned()).collect())
    };
    let (hub, edge) = (depends("campanile-hub")?, depends("campanile-edge")?);
    // The first two are linked, the others are loaded at run time.
    for needed in ["libc6", "libgstreamer1.0-0", "gstreamer1.0-libav", "gstreamer1.0-plugins-good"] {
        ensure!(edge.iter().any(|name| name == needed), "{needed} is not in {edge:?}");
    }
    ensure!(hub.iter().any(|name| name == "libc6") && !hub.iter().any(|name| name.contains("gst")), "{hub:?}");
    for (package, file) in [("campanile-hub", "hub.toml"), ("campanile-edge", "edge.toml")] {
        ensure!(PACKAGES.own(package, "conffiles")? == format!("/etc/campanile/{file}\n"));
        ensure!(PACKAGES.own(package, "md5sums")?.contains(&format!("usr/bin/{package}\n")));
        for script in ["postinst", "prerm", "postrm"] {
            let content = PACKAGES.own(package, script)?;
            let file = tempfile::NamedTempFile::new().context("no temporary file")?;
            std::fs::write(file.path(), &content).context("cannot write a script")?;
            succeed(Command::new("sh").arg("-n").arg(file.path()))?;
            ensure!(!content.contains("systemctl start") && !content.contains("systemctl enable"), "{content}");
        }
        let listed = succeed(Command::new("dpkg-deb").arg("--contents").arg(PACKAGES.file(package)?))?;
        ensure!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    }
    Ok(())
}

#[test]
fn a_fresh_configuration_asks_for_the_name_alone() -> Result<()> {
    let machine = machine()?;
    for (package, file, key) in
        [("campanile-hub", "hub.toml", "organisation.name"), ("campanile-edge", "edge.toml", "name")]
    {
        let path = machine.path().join("etc/campanile").join(file);
        let path = path.to_str().context("a temporary folder's name is text")?;
        let asked = run_to_end(package, &["check-config", "--config", path])?;
        let said = text(&asked.stderr);
        let problems = said.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let keys: Vec<&str> = problems.filter_map(|line| line.trim().split(':').next()).collect();
        ensure!(asked.status.code() == Some(64) && keys == [key], "{}: {said}", asked.status);
        let written = std::fs::read_to_string(path).context("the configuration is there")?;
        std::fs::write(path, written.replace("#: name = \"C", "name = \"C").replacen("#: name = \"Piazza", "#: #", 1))?;
        let asked = run_to_end(package, &["check-config", "--config", path])?;
        ensure!(asked.status.success(), "{}: {}", asked.status, text(&asked.stderr));
    }
    Ok(())
}

/// What a service tells systemd from its start to its end, `signs` signs of life or one wait without any included.
fn told(name: &str, config: &str, folder: &Path, asked: &[(&str, &str)], signs: usize) -> Result<Vec<String>> {
    let socket = folder.join("notify");
    let _ = std::fs::remove_file(&socket);
    let systemd = UnixDatagram::bind(&socket).context("cannot listen as systemd does")?;
    systemd.set_read_timeout(Some(TOLD_WITHIN))?;
    let address = socket.to_str().context("a folder's name is text")?;
    let variables = [&[("NOTIFY_SOCKET", address)], asked].concat();
    let arguments = ["run", "--config", config];
    let mut process = Process::start_with(name, &arguments, &folder.join("told.log"), |command| {
        command.envs(variables.iter().copied());
        Ok(())
    })?;
    let mut said = Vec::new();
    let mut hear = |until: &str, count: usize| -> Result<()> {
        let mut heard = 0;
        while heard < count {
            let mut datagram = [0; 512];
            let length = systemd.recv(&mut datagram).with_context(|| format!("{until} is not said after {said:?}"))?;
            said.push(String::from_utf8_lossy(&datagram[..length]).into_owned());
            heard += usize::from(said.last().is_some_and(|last| last.starts_with(until)));
        }
        Ok(())
    };
    hear("READY=1", 1)?;
    hear("WATCHDOG=1", signs)?;
    process.signal(Signal::SIGTERM)?;
    hear("STOPPING=1", 1)?;
    ensure!(process.await_end()?.success(), "{}", process.last_line());
    Ok(said)
}

#[test]
fn systemd_hears_that_a_service_is_ready_lives_and_stops() -> Result<()> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let plan = TownPlan { key: "prato", name: "Comune di Prato", ipa_code: "", boxes: Vec::new() };
    let town = Town::prepare(plan, folder.path().join("prato"))?;
    let one = EdgeBox::prepare(one_box("cabinet", &[]).remove(0), folder.path().join("cabinet"), None)?;
    for (name, config, folder) in
        [("campanile-hub", town.config(), &town.folder), ("campanile-edge", one.config(), &one.folder)]
    {
        told(name, &config, folder, &[("WATCHDOG_USEC", "200000")], 3)?;
        let unasked = told(name, &config, folder, &[], 0)?;
        ensure!(!unasked.iter().any(|state| state.contains("WATCHDOG")), "{unasked:?}");
    }
    Ok(())
}
