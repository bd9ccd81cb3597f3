//! Who crosses the piazza, when and where.
//!
//! Belongs here: passages with quiet gaps between them, drawn from a seed.
//! Does not belong here: what people look like (`figure`).
//! Invariant: pure; everybody is out of sight at the beginning and end of their path and at the
//! seam of the loop, so gaps are truly empty.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::truth::Kind;
use super::view::View;
use super::{Activity, Light};

/// Somebody on a straight path.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Unique in the loop.
    pub id: u32,
    /// What it is.
    pub kind: Kind,
    /// Appears, seconds since the loop's start.
    pub from_s: f64,
    /// Is gone.
    pub to_s: f64,
    /// Ground positions (x, z) at both ends.
    pub path: [(f32, f32); 2],
    /// Seed of looks.
    pub style: u32,
}

impl Actor {
    /// Ground position and metres gone at a time; `None` outside its passage.
    pub fn at(&self, t: f64) -> Option<((f32, f32), f32)> {
        if !(self.from_s..self.to_s).contains(&t) {
            return None;
        }
        let share = ((t - self.from_s) / (self.to_s - self.from_s)) as f32;
        let [(x0, z0), (x1, z1)] = self.path;
        Some(((x0 + (x1 - x0) * share, z0 + (z1 - z0) * share), self.length() * share))
    }

    /// Length of the path in metres.
    pub fn length(&self) -> f32 {
        let [(x0, z0), (x1, z1)] = self.path;
        (x1 - x0).hypot(z1 - z0)
    }
}

/// Empty seconds at both ends of a loop; the seam doubles them.
const EDGE_S: f64 = 3.0;
/// Loops shorter than this hold a single hurried passage.
const SHORT_LOOP_S: f64 = 14.0;
/// Nearest distance at which a head is below the picture's lower edge.
const UNDER_THE_LENS_M: f32 = 7.4;

/// Draws a loop's actors.
pub fn plan(seed: u64, loop_s: f64, activity: Activity, light: Light, view: &View) -> Vec<Actor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5ced_01e5);
    if activity == Activity::Empty {
        return Vec::new();
    }
    if loop_s < SHORT_LOOP_S {
        return hurried(&mut rng, loop_s, view);
    }
    let mut actors: Vec<Actor> = Vec::new();
    let mut cursor = EDGE_S;
    // Each round moves the cursor by at least two seconds.
    for round in 0..(loop_s as u32) {
        let mut group = passage(&mut rng, round, activity, light, view);
        let length = group.iter().map(|actor| actor.to_s).fold(0.0, f64::max);
        if cursor + length > loop_s - EDGE_S {
            // A shorter passage may still fit.
            continue;
        }
        for actor in &mut group {
            actor.id = actors.len() as u32 + 1;
            actor.from_s += cursor;
            actor.to_s += cursor;
            actors.push(actor.clone());
        }
        cursor += length
            + match activity {
                Activity::Empty | Activity::Quiet => rng.random_range(14.0..24.0),
                Activity::Normal => rng.random_range(6.2..7.5),
                Activity::Busy => rng.random_range(2.0..3.0),
            };
    }
    actors
}

fn hurried(rng: &mut ChaCha8Rng, loop_s: f64, view: &View) -> Vec<Actor> {
    let mut actor = crossing(rng, Kind::Bicycle, view);
    actor.id = 1;
    actor.from_s = loop_s * 0.15;
    actor.to_s = loop_s * 0.8;
    vec![actor]
}

fn passage(rng: &mut ChaCha8Rng, round: u32, activity: Activity, light: Light, view: &View) -> Vec<Actor> {
    let count = match activity {
        Activity::Empty | Activity::Quiet => 1,
        Activity::Normal => rng.random_range(1..=2),
        Activity::Busy => rng.random_range(3..=5),
    };
    let mut group = Vec::new();
    // The first passages show one of each kind, so that a short demo has seen them all.
    let first = [Kind::Person, Kind::Bicycle, Kind::Car][(round as usize + rng.random_range(0..3)) % 3];
    for place in 0..count {
        let kind = match (place, light, rng.random_range(0..10)) {
            (0, _, _) => first,
            (_, Light::Night, 0..=4) | (_, Light::Day, 0..=2) => Kind::Car,
            (_, _, 3..=6) => Kind::Person,
            _ => Kind::Bicycle,
        };
        let mut actor = match kind {
            Kind::Person if rng.random_bool(0.65) => corner(rng, view),
            _ => crossing(rng, kind, view),
        };
        let delay = if place == 0 { 0.0 } else { rng.random_range(0.2..1.0) };
        actor.from_s += delay;
        actor.to_s += delay;
        if kind == Kind::Person && rng.random_bool(0.35) {
            group.push(companion(rng, &actor));
        }
        group.push(actor);
    }
    group
}

/// Somebody walking beside an actor.
fn companion(rng: &mut ChaCha8Rng, actor: &Actor) -> Actor {
    let mut other = actor.clone();
    other.style = rng.random();
    for end in &mut other.path {
        end.0 += 0.25;
        end.1 += 0.7;
    }
    other
}

/// From one edge of the picture to the other.
fn crossing(rng: &mut ChaCha8Rng, kind: Kind, view: &View) -> Actor {
    let (z, margin, speed): (f32, f32, f32) = match kind {
        Kind::Car => ([27.4, 30.6][rng.random_range(0..2)], 3.2, rng.random_range(7.5..9.5)),
        Kind::Bicycle => (rng.random_range(16.5..23.0), 1.6, rng.random_range(4.6..5.6)),
        Kind::Person => (rng.random_range(13.6..15.5), 0.9, rng.random_range(2.7..3.3)),
    };
    let reach = view.half_width(z) + margin;
    // Right-hand traffic: the nearer lane runs to the right.
    let rightwards = if kind == Kind::Car { z < 29.0 } else { rng.random_bool(0.5) };
    let side = if rightwards { 1.0 } else { -1.0 };
    let drift = if kind == Kind::Car { 0.0 } else { rng.random_range(-0.8..0.8) };
    let start_reach = view.half_width(z) + margin;
    let end_reach = view.half_width(z + drift) + margin;
    Actor {
        id: 0,
        kind,
        from_s: 0.0,
        to_s: f64::from(2.0 * reach / speed),
        path: [(-side * start_reach, z), (side * end_reach, z + drift)],
        style: rng.random(),
    }
}

/// From a side of the picture to under the lens, or the other way.
fn corner(rng: &mut ChaCha8Rng, view: &View) -> Actor {
    let side = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let z = rng.random_range(14.5..17.0);
    let far = (side * (view.half_width(z) + 1.0), z);
    let near = (side * rng.random_range(1.0..4.0), UNDER_THE_LENS_M - 0.2);
    let mut path = [far, near];
    if rng.random_bool(0.5) {
        path.reverse();
    }
    let speed = rng.random_range(1.55..1.9);
    let length = (path[0].0 - path[1].0).hypot(path[0].1 - path[1].1);
    Actor { id: 0, kind: Kind::Person, from_s: 0.0, to_s: f64::from(length / speed), path, style: rng.random() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gaps_are_quiet_and_the_seam_is_empty(seed in any::<u64>(), loop_s in 30.0f64..90.0) {
            let view = View::new(1280, 720);
            let actors = plan(seed, loop_s, Activity::Normal, Light::Day, &view);
            prop_assert!(!actors.is_empty());
            let mut spans: Vec<(f64, f64)> = actors.iter().map(|a| (a.from_s, a.to_s)).collect();
            spans.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut end = 0.0f64;
            for (from, to) in spans {
                prop_assert!(from >= EDGE_S && to <= loop_s - EDGE_S);
                let gap = from - end;
                prop_assert!(end == 0.0 || !(1.0..6.0).contains(&gap), "gap of {} s", gap);
                end = end.max(to);
            }
        }

        #[test]
        fn short_loops_have_a_passage(seed in any::<u64>(), loop_s in 2.0f64..14.0) {
            let view = View::new(320, 180);
            let actors = plan(seed, loop_s, Activity::Quiet, Light::Night, &view);
            prop_assert_eq!(actors.len(), 1);
            prop_assert!(actors[0].from_s > 0.0 && actors[0].to_s < loop_s);
        }
    }
}
