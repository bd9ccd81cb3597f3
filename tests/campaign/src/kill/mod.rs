//! Kills: two boxes of four cameras, one in the clear and one sealed, killed again and again.
//!
//! Belongs here: where a kill strikes (`plan`), carrying it out (`round`), what was on the disk and still is (`ledger`).
//! Does not belong here: how a process is killed inside a call (`tests/shim`).
//! Invariant: what a box in the clear holds is compared with what its cameras say they sent, picture by picture; of a
//! sealed one the chain and the numbers of its fragments are the proof.

pub mod journals;
pub mod ledger;
pub mod plan;
pub mod round;

use crate::subject::{Subject, real};
use anyhow::{Context, Result, ensure};
use campanile_tests::rig::{SOON, small_camera};
use campanile_tests::roster::{BoxPlan, Camera, TownPlan};
use campanile_tests::simcam::Simcam;
use campanile_tests::town::Town;
use campanile_tests::until::until;
use journals::Journals;
use plan::Point;
use round::{Outcome, Round};
use std::path::Path;

pub const KIND: &str = "kill";

/// Key and number of the cameras of each box; the last of each is the restless one.
const CAMERAS: [[(&str, u32); 4]; 2] =
    [[("uno", 1), ("tre", 3), ("quattro", 4), ("due", 2)], [("cinque", 5), ("sei", 6), ("sette", 7), ("otto", 8)]];

/// How much each box is burdened with.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Cameras a box, at least two.
    pub cameras: usize,
}

/// The simulators and the boxes of a campaign.
pub struct Arena {
    pub rounds: Vec<Round>,
    /// Of the cameras that are never restarted; ends with the arena.
    _steady: Simcam,
}

/// Boxes that record, one in the clear (even numbers) and one sealed (odd numbers).
pub fn arena(folder: &Path, scenes: &Path, size: Size, seed: u64) -> Result<Arena> {
    ensure!((2..=4).contains(&size.cameras), "a box has two to four cameras");
    let camera = |(key, number): (&str, u32)| small_camera(key, number, if number == 2 { "h265" } else { "h264" });
    let serve = |name: &str, cameras: &[Camera]| -> Result<Simcam> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Simcam::start(&folder, scenes, cameras)
    };
    let plans: Vec<(Vec<Camera>, Camera)> = CAMERAS
        .iter()
        .map(|four| {
            let (last, others) = four.split_last().unwrap_or((&four[0], &[]));
            (others[..size.cameras - 1].iter().copied().map(camera).collect(), camera(*last))
        })
        .collect();
    let all: Vec<Camera> = plans.iter().flat_map(|(steady, _)| steady.clone()).collect();
    let steady = serve("steady", &all)?;
    let mut rounds = Vec::new();
    for (at, (mut cameras, last)) in plans.into_iter().enumerate() {
        let restless = serve(&format!("restless-{at}"), std::slice::from_ref(&last))?;
        cameras.push(real(&last, &restless)?);
        let (name, home) = (format!("box-{at}"), folder.join(format!("box-{at}")));
        let sealed = at == 1;
        let subject = if sealed {
            enrolled(&name, &cameras, folder, &home, &steady)?
        } else {
            Subject::in_clear(&name, &cameras, home, &steady)?
        };
        let mut round = Round::new(subject, restless, last.name.clone(), None, seed);
        round.begin()?;
        if !sealed {
            round.journals = Some(journals(&round, &cameras, &steady)?);
        }
        rounds.push(round);
    }
    Ok(Arena { rounds, _steady: steady })
}

fn journals(round: &Round, cameras: &[Camera], steady: &Simcam) -> Result<Journals> {
    let (ids, mut journals) = (round.cameras()?, Journals::default());
    for camera in cameras {
        let id = ids.get(&camera.name).with_context(|| format!("{} has an id", camera.name))?;
        let simcam = if camera.name == round.restless_name { &round.restless } else { steady };
        for stream in ["main", "sub"] {
            journals.add(id.clone(), stream, simcam.log(&camera.key, stream));
        }
    }
    Ok(journals)
}

/// A box with a hub's keys; the hub then ends: the box records all the same.
fn enrolled(name: &str, cameras: &[Camera], folder: &Path, home: &Path, simcam: &Simcam) -> Result<Subject> {
    let boxes = vec![BoxPlan { name: name.to_owned(), cameras: cameras.to_vec() }];
    let plan = TownPlan { key: "prato", name: "Comune di Prato", ipa_code: "", boxes };
    let mut town = Town::prepare(plan, folder.join("town"))?;
    town.start_hub()?;
    let subject = Subject::prepare(name, cameras, home.to_owned(), simcam)?;
    subject.edge.enrol(&town.token(name)?)?;
    let keys = subject.state().join("identity");
    until("the box has sealing keys", SOON, || {
        let files: Vec<_> = std::fs::read_dir(&keys).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        if files.iter().any(|name| name == "keys.bin") { Ok(()) } else { Err(files) }
    })?;
    town.end()?;
    Ok(subject)
}

/// Carries out the kills `numbers`, each box its own share at the same time.
pub fn run(
    arena: &mut Arena,
    points: &[Point],
    is_done: &(impl Fn(u64) -> bool + Sync),
    tell: &(impl Fn(&Outcome) -> Result<()> + Sync),
) -> Result<Vec<String>> {
    let boxes = arena.rounds.len() as u64;
    let ended: Vec<Result<Vec<String>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = arena
            .rounds
            .iter_mut()
            .zip(0u64..)
            .map(|(round, own)| {
                let numbers: Vec<u64> = (0..points.len() as u64).filter(|n| n % boxes == own && !is_done(*n)).collect();
                scope.spawn(move || one_box(round, points, &numbers, tell))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a box's thread panicked"))))
            .collect()
    });
    let mut problems = Vec::new();
    for one in ended {
        problems.extend(one?);
    }
    Ok(problems)
}

fn one_box(
    round: &mut Round,
    points: &[Point],
    numbers: &[u64],
    tell: &(impl Fn(&Outcome) -> Result<()> + Sync),
) -> Result<Vec<String>> {
    let chosen = |round: &Round, number: &u64| round.fault(*number, points[*number as usize]);
    let mut numbers = numbers.iter().peekable();
    // The first one begins with a box that was told nothing of it: its kill comes from the start that follows.
    if let Some(first) = numbers.peek() {
        let first = chosen(round, first)?;
        round.rearm(&first)?;
    }
    while let Some(number) = numbers.next() {
        let fault = chosen(round, number)?;
        let next = numbers.peek().map(|number| chosen(round, number)).transpose()?;
        let outcome = round.carry_out(&fault, next.as_ref())?;
        tell(&outcome)?;
    }
    round.finish()
}
