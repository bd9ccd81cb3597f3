//! What processes take of the machine, from proc(5) and their processor clocks.

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::time::Duration;

/// Of one process or the sum of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time since the start.
    pub processor: Duration,
    /// Resident now, shared pages included.
    pub resident_bytes: u64,
    /// The same, each page divided among the processes that have it.
    pub proportional_bytes: u64,
    /// Handed to the disk since the start, what is rewritten counted again.
    pub written_bytes: u64,
}

impl Usage {
    pub fn of(pid: Pid) -> Result<Self> {
        let clock = clock_getcpuclockid(pid).with_context(|| format!("process {pid} is gone"))?;
        let processor = clock_gettime(clock).context("a process has a clock")?.into();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).context("the process is gone")?;
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the process is gone")?;
        Ok(Self {
            processor,
            proportional_bytes: number(&memory, "Pss:").context("no Pss in its memory")? * 1024,
            resident_bytes: number(&status, "VmRSS:").context("no VmRSS in its status")? * 1024,
            written_bytes: number(&io, "write_bytes:").context("no write_bytes in its io")?,
        })
    }

    /// Of a process and all its descendants.
    pub fn of_tree(pid: Pid) -> Result<Self> {
        let mut sum = Self::of(pid)?;
        for child in descendants(pid) {
            sum = sum.plus(Self::of(child)?);
        }
        Ok(sum)
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            processor: self.processor + other.processor,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            proportional_bytes: self.proportional_bytes + other.proportional_bytes,
            written_bytes: self.written_bytes + other.written_bytes,
        }
    }
}

/// Processor time by thread name, and of children together.
#[derive(Debug, Clone, Default)]
pub struct Threads {
    by_name: BTreeMap<String, Duration>,
    pub children: Duration,
}

impl Threads {
    /// Adds a process and all its descendants.
    pub fn add(&mut self, pid: Pid) {
        for (name, time) in threads(pid) {
            *self.by_name.entry(name).or_default() += time;
        }
        self.children += descendants(pid).into_iter().flat_map(threads).map(|(_, time)| time).sum::<Duration>();
    }

    pub fn of(&self, name: &str) -> Duration {
        self.by_name.get(name).copied().unwrap_or_default()
    }
}

/// Name and processor time of each thread (proc(5): comm, schedstat); one that ends meanwhile is left out.
fn threads(pid: Pid) -> Vec<(String, Duration)> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of = |task: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).ok();
        let ns = read("schedstat")?.split_whitespace().next()?.parse().ok()?;
        Some((read("comm")?.trim().to_owned(), Duration::from_nanos(ns)))
    };
    tasks.flatten().filter_map(of).collect()
}

/// The number behind `key` at the start of a line.
fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn descendants(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok()).map(Pid::from_raw);
            parents.extend(children.clone());
            found.extend(children);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_a_child_are_seen() {
        let me = Pid::this();
        let before = Usage::of(me).unwrap();
        let mut sum = 0u64;
        while Usage::of(me).unwrap().processor <= before.processor {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(before.resident_bytes > 100_000 && before.proportional_bytes > 100_000);
        let mut threads = Threads::default();
        threads.add(me);
        let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
        assert!(threads.of(name.trim()) > Duration::ZERO, "{threads:?}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = descendants(me);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&Pid::from_raw(child.id() as i32)));
        assert!(!descendants(me).contains(&Pid::from_raw(child.id() as i32)));
    }
}
