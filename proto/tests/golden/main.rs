//! Golden encodings: what a released version wrote is read by every later one.
//!
//! `golden/<version>/` holds one file an example. Each is decoded, compared field by field with what the
//! example says, encoded again to the same bytes, and, where it is sealed or signed, opened and verified
//! with fixed keys. `CAMPANILE_WRITE_GOLDEN=1` writes the files that are missing, and never touches one
//! that is there: a released encoding does not change.

#![allow(clippy::unwrap_used)]

mod coverage;
mod edge;
mod federation;
mod files;
mod records;

use bytes::Bytes;
use prost::Message;
use std::fmt::Debug;
use std::path::PathBuf;

/// Every release adds its own folder and keeps the earlier ones.
const NEWEST: &str = "v0.1.0";

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(NEWEST);
    folder.join(format!("{name}.bin"))
}

/// The bytes of a golden file; `make` is asked for them when it is missing and may be written.
fn golden(name: &str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
    let path = path(name);
    if std::env::var_os("CAMPANILE_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, make()).unwrap();
    }
    written(name)
}

/// The bytes of a golden file that is there.
fn written(name: &str) -> Bytes {
    let path = path(name);
    let missing = |e| panic!("{}: {e}; CAMPANILE_WRITE_GOLDEN=1 writes what is missing", path.display());
    std::fs::read(&path).unwrap_or_else(missing).into()
}

/// A message whose encoding is wholly determined by its fields.
fn holds<M: Message + Default + PartialEq + Debug>(name: &str, expected: &M) {
    let bytes = golden(name, || expected.encode_to_vec());
    let decoded = M::decode(bytes.clone()).unwrap_or_else(|e| panic!("{name} does not decode: {e}"));
    assert_eq!(&decoded, expected, "{name} says something else");
    assert_eq!(decoded.encode_to_vec(), bytes, "{name} encodes otherwise");
}

/// An id of sixteen equal bytes.
fn id(byte: u8) -> Bytes {
    vec![byte; 16].into()
}

/// A key, hash or link of 32 equal bytes.
fn hash(byte: u8) -> Bytes {
    vec![byte; 32].into()
}

/// 2026-03-29T00:59:59.123456Z, the second before clocks in Italy jump.
const AT_US: i64 = 1_774_745_999_123_456;

#[test]
fn no_golden_file_is_left_unread() {
    let known: Vec<String> = [edge::NAMES, federation::NAMES, files::NAMES, records::NAMES]
        .concat()
        .iter()
        .map(|n| format!("{n}.bin"))
        .collect();
    let folder = path("x");
    for file in std::fs::read_dir(folder.parent().unwrap()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "{name} is read by no test");
    }
}
