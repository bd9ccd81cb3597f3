//! The kernel, without the C library's names: they are this library's own.

use libc::{c_char, c_int, c_long, off_t};
use std::ffi::CStr;

/// -1 and errno, as the C library's callers expect it.
pub fn fail(errno: c_int) -> c_long {
    // SAFETY: the C library gives every thread its own.
    unsafe { *libc::__errno_location() = errno };
    -1
}

macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the arguments are the caller's, as the C library's function of that name takes them.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}
pub(crate) use call;

pub fn exists(path: &CStr) -> bool {
    let saved = errno();
    let found = call!(SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::F_OK) == 0;
    set_errno(saved);
    found
}

pub fn errno() -> c_int {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() }
}

pub fn set_errno(errno: c_int) {
    fail(errno);
}

pub fn open(path: *const c_char, flags: c_int, mode: u32) -> c_long {
    call!(SYS_openat, libc::AT_FDCWD, path, flags | libc::O_LARGEFILE, mode)
}

/// Opened for appending, kept out of programs that are started.
pub fn open_to_append(path: &CStr) -> c_int {
    open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC, 0o600) as c_int
}

/// All of it; an error ends the process, for a trace with a hole proves nothing.
pub fn write_all(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = call!(SYS_write, fd, bytes.as_ptr(), bytes.len());
        match usize::try_from(written) {
            Ok(written) if written > 0 => bytes = &bytes[written..],
            _ if errno() == libc::EINTR => {}
            _ => give_up("what was done cannot be written down"),
        }
    }
}

pub fn place(fd: c_int, whence: c_int) -> off_t {
    call!(SYS_lseek, fd, 0, whence)
}

/// Microseconds since 1970, UTC.
pub fn utc_us() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    call!(SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut now);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// SIGKILL to this process.
pub fn die() -> ! {
    let own = call!(SYS_getpid);
    loop {
        call!(SYS_kill, own, libc::SIGKILL);
        call!(SYS_sched_yield);
    }
}

/// EX_SOFTWARE of sysexits.h, with a reason.
pub fn give_up(reason: &str) -> ! {
    let text = format!("campanile-disk-shim: {reason}\n");
    call!(SYS_write, 2, text.as_ptr(), text.len());
    loop {
        call!(SYS_exit_group, 70);
    }
}
