//! The analysing child's walls, from inside.

#![allow(clippy::unwrap_used)]

use edge_agent::analyse::sandbox;
use std::os::unix::net::UnixStream;
use std::process::Command;

const INSIDE: &str = "CAMPANILE_TEST_INSIDE";
const HELD: i32 = 42;

/// Enters in a process of its own: nothing leads out again.
fn inside() -> ! {
    assert!(!sandbox::is_shut(), "control: outside, files and sockets can be had");
    let (kept, _other) = UnixStream::pair().unwrap();
    let said = sandbox::enter().unwrap();
    assert!(said.starts_with("seccomp, all threads"), "{said}");
    assert!(sandbox::is_shut());
    assert!(std::fs::File::open("/etc/hostname").is_err() && std::fs::File::create("/tmp/campanile-test").is_err());
    assert!(std::net::TcpStream::connect("127.0.0.1:9").is_err_and(|e| e.raw_os_error() == Some(1)), "EPERM");
    assert!(UnixStream::pair().is_err());
    assert!(Command::new("/bin/true").spawn().is_err());
    assert!(std::thread::spawn(sandbox::is_shut).join().unwrap(), "threads that come later too");
    drop(kept);
    std::process::exit(HELD)
}

#[test]
fn a_child_that_entered_opens_nothing_and_starts_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        inside();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_that_entered_opens_nothing_and_starts_nothing", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(HELD), "{said}");
}
