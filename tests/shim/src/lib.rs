//! Stands between a process and its disk (LD_PRELOAD, ld.so(8)), so that the real `campanile-edge` can be watched and
//! hurt at named points without any such point in it.
//!
//! Belongs here: the C library's calls that change or read files, on files below the watched folders only.
//! Does not belong here: what a fault means (`tests/campaign`).
//! Invariant: without its variables, and on every other file, a call goes to the kernel as it came. Nothing here calls
//! a function of the C library that it takes the place of: its own work is done by system calls.
//!
//! | variable | |
//! |---|---|
//! | `CAMPANILE_DISK_ROOTS` | folders watched, absolute, between colons; without it nothing is done |
//! | `CAMPANILE_DISK_TRACE` | file to which every change is appended with its bytes, see [`trace`] |
//! | `CAMPANILE_DISK_RULES` | what is to happen, see [`rule`] |
//! | `CAMPANILE_DISK_GATE` | rules count and act only while this file exists |
//! | `CAMPANILE_DISK_MARK` | file to which a line is appended when a rule acts: microseconds UTC, rule, path |
//! | `CAMPANILE_DISK_BYTES` | size of the disk that statvfs(3) tells of; what lies below the roots is taken |

#![allow(unsafe_code, reason = "it stands in for functions of the C library")]
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(test, allow(dead_code, reason = "a test does not take over the names of the C library"))]

mod calls;
mod exports;
mod rule;
#[allow(dead_code, reason = "half of it is its reader's")]
mod trace;
mod watch;
