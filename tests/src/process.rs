//! A process we started: its log in a file, ended with us, killable at any moment.

use crate::until::until;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// How long an orderly end may take before the process is killed.
const END_WITHIN: Duration = Duration::from_secs(15);

/// The binary `name`, built beside the one that runs.
pub fn binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().context("cannot find the running binary")?;
    let found = me.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built beside {}; run `cargo build --workspace --bins`", me.display()))
}

/// Runs `name` to its end.
pub fn run_to_end(name: &str, arguments: &[&str]) -> Result<Output> {
    run_to_end_at(name, arguments, None)
}

/// The same by a wall clock that is off.
pub fn run_to_end_at(name: &str, arguments: &[&str], wall: Option<&str>) -> Result<Output> {
    let mut command = Command::new(binary(name)?);
    set_wall(&mut command, wall)?;
    command.args(arguments).stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))
}

/// Living children of process `parent` that have `argument` on their command line.
pub fn children(parent: u32, argument: &str) -> Result<Vec<Pid>> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).context("the parent is gone")?;
    let mut found = Vec::new();
    for task in tasks.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()) {
                found.push(Pid::from_raw(child.parse().context("a child has a number")?));
            }
        }
    }
    Ok(found)
}

fn set_wall(command: &mut Command, wall: Option<&str>) -> Result<()> {
    if let Some(wall) = wall {
        command.env("LD_PRELOAD", libfaketime()?).env("FAKETIME", wall).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // Without a shared memory of its own, and for clocks only.
        command.env("FAKETIME_DISABLE_SHM", "1").env("NO_FAKE_STAT", "1").env("FAKETIME_NO_CACHE", "1");
    }
    Ok(())
}

/// Debian's package `libfaketime`, in its folder for threads.
fn libfaketime() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").context("cannot read /usr/lib")?.flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.is_file()).context("libfaketime is not installed; run tests/setup.sh test")
}

pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `name`; both outputs are appended to `log`. It is in its own group, so that a terminal's Ctrl-C
    /// reaches only us, and is killed by the kernel should we die (setpriv, util-linux).
    pub fn start(name: &str, arguments: &[&str], log: &Path) -> Result<Self> {
        Self::start_at(name, arguments, log, None)
    }

    /// The same by a wall clock that is off: `-90d`, or `@1970-01-01 00:00:00` (libfaketime); the monotonic clock
    /// is true.
    pub fn start_at(name: &str, arguments: &[&str], log: &Path, wall: Option<&str>) -> Result<Self> {
        Self::start_with(name, arguments, log, |command| set_wall(command, wall))
    }

    /// The same with an environment of its own.
    pub fn start_with(
        name: &str,
        arguments: &[&str],
        log: &Path,
        set_up: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        Self::spawn(name, &binary(name)?, arguments, log, set_up)
    }

    /// Starts a program of this machine, found on PATH.
    pub fn start_other(name: &str, arguments: &[&str], log: &Path) -> Result<Self> {
        Self::spawn(name, Path::new(name), arguments, log, |_| Ok(()))
    }

    fn spawn(
        name: &str,
        program: &Path,
        arguments: &[&str],
        log: &Path,
        set_up: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = Command::new("setpriv");
        set_up(&mut command)?;
        let child = command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log")?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it said last.
    pub fn last_line(&self) -> String {
        self.log().lines().next_back().unwrap_or("nothing said yet").to_owned()
    }

    /// Fails, with the end of the log, if the process has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait().context("cannot ask for the process")? else { return Ok(()) };
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{} ended with {status}; the end of {}:\n{}", self.name, self.log.display(), tail.join("\n"))
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("cannot ask for the process")?.is_some())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id fits i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL, now.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().context("cannot wait for the killed process")?;
        Ok(())
    }

    /// SIGTERM and an orderly end; SIGKILL and an error when it takes too long.
    pub fn end(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait().context("cannot ask for the process")? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.await_end()
    }

    /// The end of a process that was told to; SIGKILL and an error when it takes too long.
    pub fn await_end(&mut self) -> Result<ExitStatus> {
        let ended = until(&format!("{} ends on SIGTERM", self.name), END_WITHIN, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still running".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        if ended.is_err() {
            self.kill()?;
        }
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
