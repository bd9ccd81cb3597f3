//! The analysing child's walls, from inside.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use campanile_proto::grid::CellSet;
use campanile_proto::ids::CameraId;
use edge_agent::analyse::frame::{Frame, HEAD_BYTES};
use edge_agent::analyse::sandbox;
use edge_agent::media::Codec;
use edge_agent::media::parameters::ParameterSets;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

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

#[test]
fn a_child_that_finds_no_list_of_plugins_makes_one_and_is_not_killed_for_it() {
    let mut sets = ParameterSets::new(Codec::H264);
    for set in ["Z01AHtkAwDempsDAyAAAAwAIAAADAZB4sXJA", "aOvBssg="] {
        sets.offer(&base64::engine::general_purpose::STANDARD.decode(set).unwrap());
    }
    let format = sets.format().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let registry = folder.path().join("plugins.bin");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_campanile-edge"))
        .arg("analyse")
        .env("GST_REGISTRY", &registry)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // As the agent does it: a file may not grow.
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ours.write_all(&Frame::Begin { camera: CameraId::random(), ignore: CellSet::EMPTY, format }.encode()).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut head = [0; HEAD_BYTES];
    let heard = ours.read_exact(&mut head);
    // Its end of the conversation: all it said is taken, and nothing more comes.
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = ours.read_to_end(&mut Vec::new());
    let output = child.wait_with_output().unwrap();
    let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
    heard.unwrap_or_else(|error| panic!("it says nothing: {error}; {status}: {said}"));
    let ready = Frame::Ready { sandbox: String::new() }.encode()[0];
    assert_eq!((head[0], status.success(), registry.exists()), (ready, true, true), "{status}: {said}");
}
