//! What the analysing child may still do once its decoder's plugins are loaded and before it sees a camera's bytes:
//! compute, use memory, and talk over the socket it has. No file is opened, no socket made, no program started; other
//! calls fail with EPERM. Without seccomp nothing is analysed; Landlock is a second wall where the kernel has one.

use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetStatus};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;

/// Writable memory: a decoder of 4K pictures with its reference frames stays below.
const MEMORY_BYTES: u64 = 768 << 20;
/// Open files: the socket, and what GStreamer holds for itself.
const FILES: u64 = 128;

/// A day of computing: a child that lived that long is started afresh.
const CPU_SECONDS: u64 = 86_400;

/// Why the process is not shut in.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("no seccomp: {0}")]
    Seccomp(String),
    #[error("seccomp was entered, yet a socket or a file can be opened")]
    Open,
}

/// Calls that stay, on every architecture.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_tid_address,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrusage,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getpriority,
    libc::SYS_prctl,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] =
    &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_time, libc::SYS_pipe];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Limits that hold from the start, before anything of a camera is read.
pub fn limit() -> Vec<String> {
    let limits = [
        (Resource::RLIMIT_DATA, MEMORY_BYTES, "memory"),
        (Resource::RLIMIT_NOFILE, FILES, "files"),
        (Resource::RLIMIT_FSIZE, 0, "file size"),
        (Resource::RLIMIT_CORE, 0, "core"),
        (Resource::RLIMIT_CPU, CPU_SECONDS, "computing time"),
    ];
    let failed = limits.into_iter().filter(|(which, value, _)| setrlimit(*which, *value, *value).is_err());
    failed.map(|(_, _, name)| format!("no limit of {name}")).collect()
}

/// Shuts the process in, all its threads. Says in one line what holds.
pub fn enter() -> Result<String, SandboxError> {
    let landlock = if landlock() { ", Landlock" } else { "" };
    seccomp().map_err(SandboxError::Seccomp)?;
    if is_shut() { Ok(format!("seccomp, all threads{landlock}")) } else { Err(SandboxError::Open) }
}

/// No file by any path, for this thread and those it starts; false where the kernel cannot.
fn landlock() -> bool {
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1));
    let restricted = ruleset.and_then(|ruleset| ruleset.create()).and_then(|created| created.restrict_self());
    restricted.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
}

fn seccomp() -> Result<(), String> {
    let rules: BTreeMap<i64, Vec<_>> = ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().map_err(|_| "unknown architecture".to_owned())?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture).map_err(|e| e.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|e| e.to_string())
}

/// Whether neither a socket nor a file can be had any more.
pub fn is_shut() -> bool {
    std::net::UdpSocket::bind("127.0.0.1:0").is_err() && std::fs::File::open("/proc/self/status").is_err()
}
