//! The names of the C library that are taken over. Signatures are those of its headers on 64-bit Linux, where the
//! functions with and without `64` are the same.

use crate::calls::{self, call};
use crate::rule::{Deed, Verdict};
use crate::trace::{CREATED, Kind, Record, TRUNCATED};
use crate::watch::{Watch, handle, now, release, watch};
use libc::{c_char, c_int, c_long, c_void, iovec, mode_t, off_t, size_t, ssize_t};
use std::ffi::CStr;

/// # Safety
/// `path` is a C string.
unsafe fn watched<'a>(path: *const c_char) -> Option<(&'static Watch, &'a CStr)> {
    let watch = watch()?;
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's caller promised the C library a string.
    let path = unsafe { CStr::from_ptr(path) };
    watch.has(path.to_bytes()).then_some((watch, path))
}

unsafe fn open_at(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as promised to open(2).
    let Some((watch, name)) = (unsafe { watched(path) }) else {
        return call!(SYS_openat, folder, path, flags | libc::O_LARGEFILE, mode) as c_int;
    };
    let mut state = watch.lock();
    let is_new = flags & libc::O_CREAT != 0 && !calls::exists(name);
    let deed = if is_new { Deed::Create } else { Deed::Open };
    let opened = state.act(
        watch,
        deed,
        name.to_bytes(),
        || (),
        |state| {
            let fd = calls::open(path, flags, mode);
            if fd >= 0 {
                let emptied = if flags & libc::O_TRUNC != 0 && !is_new { TRUNCATED } else { 0 };
                state.adopt(fd, name.to_bytes(), emptied | if is_new { CREATED } else { 0 });
            }
            fd
        },
    );
    opened as c_int
}

fn descriptor(fd: c_int) -> Option<(&'static Watch, u32)> {
    Some((watch()?, handle(fd)?))
}

fn reading(fd: c_int, real: impl Fn() -> c_long) -> ssize_t {
    let Some((watch, handle)) = descriptor(fd) else { return real() as ssize_t };
    let mut state = watch.lock();
    let path = state.path(handle);
    state.act(watch, Deed::Read, &path, || (), |_| real()) as ssize_t
}

/// `at`: none for the descriptor's own place.
fn writing(fd: c_int, bytes: &[u8], at: Option<off_t>) -> ssize_t {
    let put = |bytes: &[u8]| match at {
        Some(at) => call!(SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), at),
        None => call!(SYS_write, fd, bytes.as_ptr(), bytes.len()),
    };
    let Some((watch, handle)) = descriptor(fd) else { return put(bytes) as ssize_t };
    let mut state = watch.lock();
    let path = state.path(handle);
    let half = || {
        put(&bytes[..bytes.len() / 2]);
    };
    let written = state.act(watch, Deed::Write, &path, half, |state| {
        let written = put(bytes);
        if state.is_traced()
            && let Ok(count) = usize::try_from(written)
        {
            // Behind what was written, for a descriptor that appends too.
            let offset = at.unwrap_or_else(|| calls::place(fd, libc::SEEK_CUR) - count as off_t);
            state.note(&Record { bytes: &bytes[..count], ..now(Kind::Write, handle, offset as u64) });
        }
        written
    });
    written as ssize_t
}

fn syncing(fd: c_int, real: impl Fn() -> c_long) -> c_int {
    let Some((watch, handle)) = descriptor(fd) else { return real() as c_int };
    let mut state = watch.lock();
    let path = state.path(handle);
    let verdict = state.judge_sync(watch, &path);
    match verdict {
        Verdict::Fail(errno) => return calls::fail(errno) as c_int,
        Verdict::KillBefore | Verdict::KillHalf => calls::die(),
        Verdict::Pass | Verdict::KillAfter => {}
    }
    let number = state.next_sync();
    state.note(&now(Kind::SyncBegins, handle, number));
    drop(state);
    let done = real();
    if done == 0 {
        watch.lock().note(&now(Kind::SyncEnds, handle, number));
    }
    if verdict == Verdict::KillAfter {
        calls::die();
    }
    done as c_int
}

fn shortening(fd: c_int, length: off_t) -> c_int {
    let real = || call!(SYS_ftruncate, fd, length);
    let Some((watch, handle)) = descriptor(fd) else { return real() as c_int };
    let mut state = watch.lock();
    let path = state.path(handle);
    let done = state.act(
        watch,
        Deed::Truncate,
        &path,
        || (),
        |state| {
            let done = real();
            if done == 0 {
                state.note(&now(Kind::Truncate, handle, length as u64));
            }
            done
        },
    );
    done as c_int
}

unsafe fn naming(path: *const c_char, deed: Deed, kind: Kind, real: impl Fn() -> c_long) -> c_int {
    // SAFETY: as promised to the caller's function.
    let Some((watch, name)) = (unsafe { watched(path) }) else { return real() as c_int };
    let done = watch.lock().act(
        watch,
        deed,
        name.to_bytes(),
        || (),
        |state| {
            let done = real();
            if done == 0 {
                state.note(&now(kind, 0, 0).named(name.to_bytes()));
            }
            done
        },
    );
    done as c_int
}

/// statvfs(3) of a small disk, of which what lies below the roots is taken.
unsafe fn disk_of(path: *const c_char, told: *mut libc::statvfs) -> c_int {
    // SAFETY: all zeros is a value of this structure of numbers.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    let done = call!(SYS_statfs, path, &raw mut found);
    if done != 0 {
        return done as c_int;
    }
    // SAFETY: as above; `told` is the caller's to be written to.
    let told = unsafe {
        *told = std::mem::zeroed();
        &mut *told
    };
    told.f_bsize = found.f_bsize as libc::c_ulong;
    told.f_frsize = found.f_frsize as libc::c_ulong;
    (told.f_blocks, told.f_bfree, told.f_bavail) = (found.f_blocks, found.f_bfree, found.f_bavail);
    (told.f_files, told.f_ffree, told.f_favail) = (found.f_files, found.f_ffree, found.f_ffree);
    told.f_namemax = found.f_namelen as libc::c_ulong;
    // SAFETY: the caller promised statvfs(3) a string.
    if let Some((watch, _)) = unsafe { watched(path) }
        && let Some(total) = watch.disk_bytes
    {
        const UNIT: u64 = 4096;
        let free = total.saturating_sub(watch.used_bytes()) / UNIT;
        (told.f_bsize, told.f_frsize) = (UNIT as libc::c_ulong, UNIT as libc::c_ulong);
        (told.f_blocks, told.f_bfree, told.f_bavail) = (total / UNIT, free, free);
    }
    0
}

macro_rules! take_over {
    ($($(#[$note:meta])* fn $name:ident($($argument:ident: $of:ty),*) -> $result:ty $body:block)*) => {
        $(
            /// # Safety
            /// As the C library's function of this name.
            // In this crate's own tests the C library keeps its names.
            #[cfg_attr(not(test), unsafe(no_mangle))]
            $(#[$note])*
            pub unsafe extern "C" fn $name($($argument: $of),*) -> $result $body
        )*
    };
}

// The third argument of open(2) is there only when a file is made; where it is not, the kernel does not look at it.
take_over! {
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: passed on.
        unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
    }
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: passed on.
        unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
    }
    fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: passed on.
        unsafe { open_at(folder, path, flags, mode) }
    }
    fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        // SAFETY: passed on.
        unsafe { open_at(folder, path, flags, mode) }
    }
    fn close(fd: c_int) -> c_int {
        if let (Some(handle), Some(watch)) = (release(fd), watch()) {
            watch.lock().note(&now(Kind::Close, handle, 0));
        }
        call!(SYS_close, fd) as c_int
    }
    fn read(fd: c_int, to: *mut c_void, count: size_t) -> ssize_t {
        reading(fd, || call!(SYS_read, fd, to, count))
    }
    fn pread(fd: c_int, to: *mut c_void, count: size_t, at: off_t) -> ssize_t {
        reading(fd, || call!(SYS_pread64, fd, to, count, at))
    }
    fn pread64(fd: c_int, to: *mut c_void, count: size_t, at: off_t) -> ssize_t {
        reading(fd, || call!(SYS_pread64, fd, to, count, at))
    }
    fn write(fd: c_int, from: *const c_void, count: size_t) -> ssize_t {
        if handle(fd).is_none() {
            return call!(SYS_write, fd, from, count) as ssize_t;
        }
        // SAFETY: the caller gives that many bytes.
        writing(fd, unsafe { std::slice::from_raw_parts(from.cast(), count) }, None)
    }
    fn pwrite(fd: c_int, from: *const c_void, count: size_t, at: off_t) -> ssize_t {
        if handle(fd).is_none() {
            return call!(SYS_pwrite64, fd, from, count, at) as ssize_t;
        }
        // SAFETY: the caller gives that many bytes.
        writing(fd, unsafe { std::slice::from_raw_parts(from.cast(), count) }, Some(at))
    }
    fn pwrite64(fd: c_int, from: *const c_void, count: size_t, at: off_t) -> ssize_t {
        // SAFETY: passed on.
        unsafe { pwrite(fd, from, count, at) }
    }
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        if handle(fd).is_none() {
            return call!(SYS_writev, fd, parts, count) as ssize_t;
        }
        // SAFETY: the caller gives that many parts, each as long as it says.
        let bytes: Vec<u8> = unsafe {
            let parts = std::slice::from_raw_parts(parts, usize::try_from(count).unwrap_or(0));
            let of = |part: &iovec| std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len);
            parts.iter().filter(|part| part.iov_len > 0).flat_map(|part| of(part).iter().copied()).collect()
        };
        writing(fd, &bytes, None)
    }
    fn fsync(fd: c_int) -> c_int {
        syncing(fd, || call!(SYS_fsync, fd))
    }
    fn fdatasync(fd: c_int) -> c_int {
        syncing(fd, || call!(SYS_fdatasync, fd))
    }
    fn ftruncate(fd: c_int, length: off_t) -> c_int {
        shortening(fd, length)
    }
    fn ftruncate64(fd: c_int, length: off_t) -> c_int {
        shortening(fd, length)
    }
    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        let real = || call!(SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0);
        // SAFETY: both are strings, as rename(2) wants them.
        let (Some((watch, old)), Some((_, new))) = (unsafe { (watched(from), watched(to)) }) else {
            return real() as c_int;
        };
        let done = watch.lock().act(watch, Deed::Rename, new.to_bytes(), || (), |state| {
            let done = real();
            if done == 0 {
                let record = now(Kind::Rename, 0, 0).named(old.to_bytes());
                state.note(&Record { other: new.to_bytes(), ..record });
            }
            done
        });
        done as c_int
    }
    fn unlink(path: *const c_char) -> c_int {
        let real = || call!(SYS_unlinkat, libc::AT_FDCWD, path, 0);
        // SAFETY: passed on.
        unsafe { naming(path, Deed::Unlink, Kind::Unlink, real) }
    }
    fn rmdir(path: *const c_char) -> c_int {
        let real = || call!(SYS_unlinkat, libc::AT_FDCWD, path, libc::AT_REMOVEDIR);
        // SAFETY: passed on.
        unsafe { naming(path, Deed::Rmdir, Kind::Rmdir, real) }
    }
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
        let real = || call!(SYS_mkdirat, libc::AT_FDCWD, path, mode);
        // SAFETY: passed on.
        unsafe { naming(path, Deed::Mkdir, Kind::Mkdir, real) }
    }
    fn statvfs(path: *const c_char, told: *mut libc::statvfs) -> c_int {
        // SAFETY: passed on.
        unsafe { disk_of(path, told) }
    }
    fn statvfs64(path: *const c_char, told: *mut libc::statvfs) -> c_int {
        // SAFETY: passed on.
        unsafe { disk_of(path, told) }
    }
}
