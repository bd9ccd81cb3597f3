//! What this process is watched for, and its files that are.

use crate::calls::{self, call};
use crate::rule::{Deed, Rule, Verdict};
use crate::trace::{Kind, Record};
use libc::{c_int, c_long};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Descriptors from here on are not watched: a box has a few hundred.
const DESCRIPTORS: usize = 4096;

/// Handle of each watched descriptor; 0: none. Looked at without a lock, also in a child between fork and exec.
static HANDLES: [AtomicU32; DESCRIPTORS] = [const { AtomicU32::new(0) }; DESCRIPTORS];

static WATCH: OnceLock<Option<Watch>> = OnceLock::new();

pub struct Watch {
    roots: Vec<Vec<u8>>,
    gate: Option<CString>,
    /// Told by statvfs(3).
    pub disk_bytes: Option<u64>,
    state: Mutex<State>,
}

/// Under one lock, so that the trace has one order.
pub struct State {
    rules: Vec<Rule>,
    /// Descriptors of trace and mark, opened when first needed: a sandboxed child never needs them.
    trace: Output,
    mark: Output,
    /// Path of handle n + 1.
    paths: Vec<Vec<u8>>,
    syncs: u64,
}

enum Output {
    None,
    Closed(CString),
    Open(c_int),
}

impl Output {
    fn of(path: Option<CString>) -> Self {
        path.map_or(Self::None, Self::Closed)
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Self::Closed(path) = self {
            let fd = calls::open_to_append(path);
            if fd < 0 {
                calls::give_up("a file named by CAMPANILE_DISK_TRACE or CAMPANILE_DISK_MARK cannot be opened");
            }
            *self = Self::Open(fd);
        }
        if let Self::Open(fd) = self {
            calls::write_all(*fd, bytes);
        }
    }
}

/// None in a process that is not watched.
pub fn watch() -> Option<&'static Watch> {
    WATCH.get_or_init(Watch::from_environment).as_ref()
}

fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(OsString::into_vec).filter(|value| !value.is_empty())
}

impl Watch {
    fn from_environment() -> Option<Self> {
        let roots = variable("CAMPANILE_DISK_ROOTS")?;
        let text = |name| variable(name).map(|value| String::from_utf8_lossy(&value).into_owned());
        let file = |name| variable(name).and_then(|value| CString::new(value).ok());
        let rules = match Rule::parse_all(&text("CAMPANILE_DISK_RULES").unwrap_or_default()) {
            Ok(rules) => rules,
            Err(wrong) => calls::give_up(&format!("this is no rule: {wrong}")),
        };
        let state = State {
            rules,
            trace: Output::of(file("CAMPANILE_DISK_TRACE")),
            mark: Output::of(file("CAMPANILE_DISK_MARK")),
            paths: Vec::new(),
            syncs: 0,
        };
        Some(Self {
            roots: roots.split(|byte| *byte == b':').filter(|root| !root.is_empty()).map(<[u8]>::to_vec).collect(),
            gate: file("CAMPANILE_DISK_GATE"),
            disk_bytes: text("CAMPANILE_DISK_BYTES").and_then(|bytes| bytes.parse().ok()),
            state: Mutex::new(state),
        })
    }

    /// A path below a watched folder, or the folder itself.
    pub fn has(&self, path: &[u8]) -> bool {
        let below = |root: &Vec<u8>| path.strip_prefix(root.as_slice()).is_some_and(|r| r.is_empty() || r[0] == b'/');
        self.roots.iter().any(below)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        self.gate.as_ref().is_none_or(|gate| calls::exists(gate))
    }

    /// Bytes of the files below the roots.
    pub fn used_bytes(&self) -> u64 {
        let mut waiting: Vec<PathBuf> =
            self.roots.iter().map(|root| PathBuf::from(OsString::from_vec(root.clone()))).collect();
        let mut used = 0;
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                    Ok(metadata) => used += metadata.len(),
                    Err(_) => {}
                }
            }
        }
        used
    }
}

impl State {
    /// What becomes of an operation; it is written down when it is anything.
    fn judge(&mut self, watch: &Watch, deed: Deed, path: &[u8]) -> Verdict {
        if self.rules.is_empty() || !watch.is_open() {
            return Verdict::Pass;
        }
        let mut found = (Verdict::Pass, String::new());
        for rule in &mut self.rules {
            let verdict = rule.judge(deed, path);
            if found.0 == Verdict::Pass && verdict != Verdict::Pass {
                found = (verdict, rule.text.clone());
            }
        }
        if found.0 != Verdict::Pass {
            let line = format!("{} {} {}\n", calls::utc_us(), found.1.replace(' ', ","), String::from_utf8_lossy(path));
            self.mark.write(line.as_bytes());
        }
        found.0
    }

    /// Does an operation and notes what came of it, in one step.
    pub fn act(
        &mut self,
        watch: &Watch,
        deed: Deed,
        path: &[u8],
        half: impl FnOnce(),
        real: impl FnOnce(&mut Self) -> c_long,
    ) -> c_long {
        match self.judge(watch, deed, path) {
            Verdict::Pass => real(self),
            Verdict::Fail(errno) => calls::fail(errno),
            Verdict::KillBefore => calls::die(),
            Verdict::KillHalf => {
                half();
                calls::die()
            }
            Verdict::KillAfter => {
                real(self);
                calls::die()
            }
        }
    }

    pub fn note(&mut self, record: &Record<'_>) {
        if !self.is_traced() {
            return;
        }
        if matches!(self.trace, Output::Closed(_)) {
            let life = now(Kind::Life, 0, call!(SYS_getpid) as u64).encode();
            self.trace.write(&life);
        }
        let saved = calls::errno();
        self.trace.write(&record.encode());
        calls::set_errno(saved);
    }

    pub fn is_traced(&self) -> bool {
        !matches!(self.trace, Output::None)
    }

    /// A descriptor that was opened; its number may be one that another file had.
    pub fn adopt(&mut self, fd: c_long, path: &[u8], number: u64) {
        let Some(slot) = usize::try_from(fd).ok().and_then(|fd| HANDLES.get(fd)) else { return };
        self.paths.push(path.to_vec());
        let handle = self.paths.len() as u32;
        slot.store(handle, Ordering::Release);
        self.note(&now(Kind::Open, handle, number).named(path));
    }

    pub fn path(&self, handle: u32) -> Vec<u8> {
        self.paths.get(handle as usize - 1).cloned().unwrap_or_default()
    }

    /// Counts the syncs of this process.
    pub fn next_sync(&mut self) -> u64 {
        self.syncs += 1;
        self.syncs
    }
}

/// A record of this moment.
pub fn now<'a>(kind: Kind, handle: u32, number: u64) -> Record<'a> {
    Record::new(kind, handle, number, calls::utc_us())
}

/// The handle of a watched descriptor.
pub fn handle(fd: c_int) -> Option<u32> {
    let handle = HANDLES.get(usize::try_from(fd).ok()?)?.load(Ordering::Acquire);
    (handle != 0).then_some(handle)
}

/// Its descriptor is about to be closed.
pub fn release(fd: c_int) -> Option<u32> {
    let handle = HANDLES.get(usize::try_from(fd).ok()?)?.swap(0, Ordering::AcqRel);
    (handle != 0).then_some(handle)
}

impl State {
    /// The verdict on a sync, which is carried out without the lock.
    pub fn judge_sync(&mut self, watch: &Watch, path: &[u8]) -> Verdict {
        self.judge(watch, Deed::Sync, path)
    }
}
