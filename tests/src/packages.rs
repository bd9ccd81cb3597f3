//! The Debian packages as `make deb` makes them, from the binaries beside the running test.

use crate::edge_box::text;
use crate::process::binary;
use crate::tidy::root;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The packages, and what each puts on a machine.
pub struct Packages {
    pub folder: TempDir,
}

impl Packages {
    /// Packs uncompressed; `variables` are those of `hardware/debian/package.sh`.
    pub fn pack(variables: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let build = binary("campanile-hub")?;
        let mut script = Command::new(root().join("hardware/debian/package.sh"));
        script.arg(build.parent().context("a binary lies in a folder")?).arg(folder.path());
        succeed(script.env("COMPRESSION", "none").envs(variables.iter().copied()))?;
        Ok(Self { folder })
    }

    /// The file of `campanile-hub` or `campanile-edge`.
    pub fn file(&self, package: &str) -> Result<PathBuf> {
        let mut files = std::fs::read_dir(self.folder.path()).context("the folder is there")?.flatten();
        let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(package));
        let found = files.find_map(|file| Some(file.path()).filter(named));
        found.with_context(|| format!("no package {package} was made"))
    }

    /// Unpacks both below `target`, as a machine's root.
    pub fn unpack(&self, target: &Path) -> Result<()> {
        for package in ["campanile-hub", "campanile-edge"] {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(self.file(package)?).arg(target))?;
        }
        Ok(())
    }

    /// A file of the package's own, such as `conffiles`.
    pub fn own(&self, package: &str, file: &str) -> Result<String> {
        succeed(Command::new("dpkg-deb").arg("--info").arg(self.file(package)?).arg(file))
    }
}

/// Standard output of what must not fail.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, text(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn run(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot run {command:?}; tests/setup.sh test installs what is missing"))
}
