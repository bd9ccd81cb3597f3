//! What fuzzing found worth keeping, and mutations of it, through the same entry functions (`make fuzz` goes on).

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use anyhow::{Context, Result, ensure};
use campanile_tests::tidy::root;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Of each target, over its corpus: half a second's worth. `MUTATIONS=1000000 cargo test --test corpora` is a fuzzer that
/// nothing guides, where `make fuzz` cannot be built.
const MUTATIONS: u64 = 2_000;
const LONGEST: usize = 4_096;

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A few changes as a fuzzer makes them: flips, bytes, cuts, doubled and moved parts, parts of another file.
fn mutated(numbers: &mut Numbers, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + numbers.below(4) {
        let at = numbers.below(bytes.len());
        let end = (at + 1 + numbers.below(24)).min(bytes.len());
        match numbers.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            1 if !bytes.is_empty() => bytes[at] = numbers.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at.min(end)..end)),
            4 => bytes.extend_from_within(at.min(end)..end),
            5 => {
                let from = numbers.below(other.len());
                let part = &other[from..(from + 1 + numbers.below(64)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
            _ if !bytes.is_empty() => bytes[at] = [0, 0xff, 0x7f, 0x80, 1][numbers.below(5)],
            _ => bytes.push(numbers.next() as u8),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// The name of each kept file, and its bytes.
fn corpus(target: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = root().join("tests/fuzz/corpus").join(target);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{} is there", folder.display()))?.flatten() {
        let bytes = std::fs::read(entry.path()).context("a kept file can be read")?;
        files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    files.sort();
    ensure!(!files.is_empty(), "{} holds nothing", folder.display());
    Ok(files)
}

/// Runs what is kept, and mutations of it; the error names what to look at. What is kept must reach what it is for.
fn survives(target: &str, entry: fn(&[u8]) -> u64) -> Result<()> {
    let files = corpus(target)?;
    let tried = |bytes: &[u8], what: &dyn Fn() -> String| -> Result<u64> {
        let ended = catch_unwind(AssertUnwindSafe(|| entry(bytes)));
        ended.ok().with_context(|| format!("{target} panics on {}: {}", what(), hex::encode(bytes)))
    };
    let reached: u64 = files.iter().map(|(name, bytes)| tried(bytes, &|| name.clone())).sum::<Result<u64>>()?;
    ensure!(reached > 0, "nothing that is kept for {target} is read as what it is");
    let asked = std::env::var("MUTATIONS").ok().and_then(|text| text.parse().ok());
    for seed in 0..asked.unwrap_or(MUTATIONS) {
        let mut numbers = Numbers(seed);
        let (name, bytes) = &files[numbers.below(files.len())];
        let other = &files[numbers.below(files.len())].1;
        tried(&mutated(&mut numbers, bytes, other), &|| format!("mutation {seed}, of {name}"))?;
    }
    Ok(())
}

#[test]
fn a_segment_file_of_any_bytes_is_read_as_far_as_it_is_whole() -> Result<()> {
    survives("segment", fuzz::segment)
}

#[test]
fn a_camera_that_sends_what_it_likes_is_recorded_or_left_out() -> Result<()> {
    survives("camera", fuzz::camera)
}

#[test]
fn parameter_sets_of_any_bytes_describe_a_picture_or_none() -> Result<()> {
    survives("parameters", fuzz::parameters)
}

#[test]
fn a_decoder_that_was_taken_over_is_read_frame_by_frame() -> Result<()> {
    survives("analysed", fuzz::analysed)
}

#[test]
fn a_description_and_reports_of_any_bytes_are_read_as_far_as_they_go() -> Result<()> {
    survives("described", fuzz::described)
}

#[test]
fn an_init_section_and_a_fragment_of_any_bytes_are_played_or_refused() -> Result<()> {
    survives("served", fuzz::served)
}

#[test]
fn an_entry_that_panics_is_named_with_its_mutation() {
    fn planted(bytes: &[u8]) -> u64 {
        assert!(bytes.first() != Some(&0xff), "planted");
        1
    }
    let said = survives("analysed", planted).expect_err("a first byte of 0xff is among the mutations").to_string();
    assert!(said.contains("panics on mutation"), "{said}");
    assert!(survives("analysed", |_| 0).is_err(), "an entry that reads nothing passes");
}
