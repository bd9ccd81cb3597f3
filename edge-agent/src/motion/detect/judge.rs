//! Whether a blob is a thing, light, or nothing.
//!
//! A thing has edges of its own; light keeps those of the ground, or has none. Edges are energies of gradients, in
//! levels squared a pixel, less what noise adds; in the dark all are as much smaller as the ground is darker.

use super::blobs::Blob;

/// Pixels of a blob, and of them those that changed of late, of the 14,400 of a picture 160 wide.
const LEAST_PIXELS: f32 = 6.0;
const LEAST_CHANGED: f32 = 3.0;
/// Of a large blob this part must have changed: what was left standing, or uncovered, has a rim that flickers.
const CHANGED_PART: u32 = 20;
/// Doubtful is a blob smaller than this, whose gradients are more the ground's than its own, and of which this part
/// changed (one pixel in so many): what is uncovered looks the same, and does not change.
const MOVES_AS_A_WHOLE: u32 = 2;
const SMALL: f32 = 45.0;
/// The gradients of a blob larger than this are its own, and so far from the ground's, while light changes.
const LARGE: f32 = 200.0;
const ALIKE_IN_UNREST: f32 = 0.5;
/// Less than this has no edge worth the name; less than the second is little, beside a ground that has more.
const SOFT: f32 = 16.0;
const FAINT: f32 = 50.0;
const MORE_GROUND: f32 = 1.3;
/// On ground as steep as this a thing must add so much to its energy: a rest of shake is there as well.
const STEEP: f32 = 1_000.0;
const ADDS_TO_STEEP: f32 = 2.0;
/// Gradients that agree so well with the ground's (their correlation) are the ground's; and when they agree less and
/// add less to it than this part of its own.
const SAME: f32 = 0.8;
const ALIKE: f32 = 0.6;
const ADDS: f32 = 0.7;
/// While light changes about the picture, a thing must add so much more: this part of the ground's, and so much.
const ADDS_IN_UNREST: f32 = 0.55;
const NEW_IN_UNREST: f32 = 70.0;
/// Share of the picture that is unrest, and how long it lasts.
const UNREST: f32 = 0.04;
const UNREST_S: f32 = 1.5;
/// Level below which edges are taken for dimmed, and the most that they are taken for.
const BRIGHT: f32 = 90.0;
const DIMMEST: f32 = 0.35;
/// Light that is this much stronger saturates.
const MOST_GAIN: f32 = 2.0;
/// Standard deviation of normal noise, in mean absolute deviations.
const SIGMA: f32 = 1.25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Thing,
    /// Not to be believed by itself; the rest of a thing that is believed may look so.
    Doubtful,
    Light,
    Nothing,
}

#[derive(Debug)]
pub struct Judge {
    /// Root of the picture's pixels over 14,400, at least 1.
    scale: f32,
    /// Share of the picture in which light changed of late.
    unrest: f32,
    /// Energy that noise adds to a pixel's gradient.
    noise: f32,
}

impl Judge {
    pub fn new(pixels: usize) -> Self {
        Self { scale: (pixels as f32 / 14_400.0).max(1.0).sqrt(), unrest: 0.0, noise: 0.0 }
    }

    /// Before a picture, with the mean of its pixels' noise in levels.
    pub fn begin(&mut self, mean_noise: f32) {
        // Of a half difference of two pixels in each of two directions.
        self.noise = (SIGMA * mean_noise).powi(2);
    }

    /// After a picture, with the share of it that was light.
    pub fn end(&mut self, light: f32, step_s: f32) {
        self.unrest = (self.unrest * (-step_s / UNREST_S).exp()).max(light);
    }

    /// Whether light changes about the picture.
    pub fn unrest(&self) -> bool {
        self.unrest > UNREST
    }

    pub fn kind(&self, blob: &Blob) -> Kind {
        let changed = ((LEAST_CHANGED * self.scale) as u32).max(blob.pixels / CHANGED_PART);
        if blob.pixels < (LEAST_PIXELS * self.scale) as u32 || blob.changed < changed {
            return Kind::Nothing;
        }
        let pixels = blob.pixels as f32;
        let dim = (blob.level / pixels / BRIGHT).clamp(DIMMEST, 1.0).powi(2);
        let picture = (blob.picture - self.noise * blob.measured as f32).max(0.0) / pixels / dim;
        let unrest = self.unrest();
        let gain = (blob.level / (blob.level - blob.brighter.max(0.0)).max(1.0)).min(MOST_GAIN);
        let ground = blob.ground / pixels / dim * if unrest { gain * gain } else { 1.0 };
        let alike = blob.across / (blob.picture * blob.ground).sqrt().max(1e-3);
        let new = picture * (1.0 - alike * alike);
        let soft = picture < SOFT || picture < FAINT && picture < MORE_GROUND * ground;
        let large = pixels > LARGE * self.scale * self.scale;
        let alike_enough = unrest && large && alike > ALIKE_IN_UNREST || alike > ALIKE && new < ADDS * ground;
        let small = pixels < SMALL * self.scale * self.scale;
        let shaken = small && ground > STEEP && new < ADDS_TO_STEEP * ground;
        let adds = if alike > ALIKE { 1.0 } else { ADDS_IN_UNREST };
        let doubtful = unrest && (new < adds * ground || new * dim < NEW_IN_UNREST);
        if soft || alike > SAME {
            Kind::Light
        } else if alike_enough || doubtful || shaken {
            if small && blob.changed * MOVES_AS_A_WHOLE >= blob.pixels { Kind::Doubtful } else { Kind::Light }
        } else {
            Kind::Thing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(picture: f32, ground: f32, alike: f32) -> Blob {
        let pixels = 40;
        let sum = |energy: f32| energy * pixels as f32;
        Blob {
            pixels,
            changed: pixels,
            measured: pixels,
            picture: sum(picture),
            ground: sum(ground),
            across: alike * (sum(picture) * sum(ground)).sqrt(),
            level: 120.0 * pixels as f32,
            ..Blob::default()
        }
    }

    #[test]
    fn edges_of_its_own_make_a_thing_and_the_ground_s_make_light() {
        let judge = Judge::new(14_400);
        assert_eq!(judge.kind(&blob(400.0, 60.0, 0.2)), Kind::Thing);
        assert_eq!(judge.kind(&blob(400.0, 300.0, 0.95)), Kind::Light);
        assert_eq!(judge.kind(&blob(8.0, 3.0, 0.1)), Kind::Light);
        assert_eq!(judge.kind(&Blob { changed: 2, ..blob(400.0, 60.0, 0.2) }), Kind::Nothing);
    }

    #[test]
    fn while_light_changes_a_thing_must_show_more() {
        let mut judge = Judge::new(14_400);
        let doubtful = blob(65.0, 20.0, 0.1);
        assert_eq!(judge.kind(&doubtful), Kind::Thing);
        judge.end(0.2, 0.1);
        assert_eq!((judge.kind(&doubtful), judge.kind(&blob(400.0, 60.0, 0.2))), (Kind::Doubtful, Kind::Thing));
        (0..60).for_each(|_| judge.end(0.0, 0.1));
        assert_eq!(judge.kind(&doubtful), Kind::Thing);
    }

    #[test]
    fn noise_alone_has_no_edges() {
        let mut judge = Judge::new(14_400);
        judge.begin(4.0);
        assert_eq!(judge.kind(&blob(25.0, 1.0, 0.0)), Kind::Light);
    }
}
