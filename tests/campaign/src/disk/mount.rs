//! A small tmpfs. Only root may mount one.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Takes what is left of the disk.
const FILLER: &str = "filler";

pub struct Tmpfs {
    folder: PathBuf,
}

pub fn is_allowed() -> bool {
    nix::unistd::geteuid().is_root()
}

impl Tmpfs {
    pub fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs", &text(folder)])?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// `ro` or `rw`.
    pub fn remount(&self, how: &str) -> Result<()> {
        run("mount", &["-o", &format!("remount,{how}"), &text(&self.folder)])
    }

    /// Until not a byte is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.folder.join(FILLER)).context("cannot begin to fill the disk")?;
        for block in [1 << 20, 4096, 1] {
            let zeros = vec![0; block];
            while file.write_all(&zeros).is_ok() {}
        }
        Ok(())
    }

    pub fn unfill(&self) -> Result<()> {
        std::fs::remove_file(self.folder.join(FILLER)).context("cannot empty the disk")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have a file open.
        if let Err(error) = run("umount", &["-l", &text(&self.folder)]) {
            eprintln!("campanile-campaign: {error:#}");
        }
    }
}

fn text(folder: &Path) -> String {
    folder.to_string_lossy().into_owned()
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
