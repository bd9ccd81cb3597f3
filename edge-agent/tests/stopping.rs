//! The binary ends when it is told to, whoever started it and however.

#![allow(clippy::unwrap_used)]

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A box that is not enrolled and waits for that.
fn start(folder: &std::path::Path) -> Child {
    let config = folder.join("edge.toml");
    std::fs::write(&config, "config_version = 1\nname = \"n\"\nstate_dir = \"state\"\nmedia_dir = \"media\"\n")
        .unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_campanile-edge"))
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ended(mut child: Child, folder: &std::path::Path, signal: Signal) -> ExitStatus {
    until("waiting for enrolment", || {
        std::fs::read_to_string(folder.join("log")).unwrap().contains("not enrolled").then_some(())
    });
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    let began = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if began.elapsed() < Duration::from_secs(15) => std::thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill().unwrap();
                panic!("{signal} was not heard; the log: {}", std::fs::read_to_string(folder.join("log")).unwrap());
            }
        }
    }
}

#[test]
fn a_parent_that_blocks_the_signals_does_not_make_the_box_deaf() {
    let stopping: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    stopping.thread_block().unwrap();
    assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM), "what a child inherits");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().unwrap();
        let child = start(folder.path());
        assert!(ended(child, folder.path(), signal).success());
    }
}
