//! What a picture shows when nothing moves, pixel by pixel, learnt without pause.
//!
//! Two values a pixel: the one seen most, and a second one for what comes and goes in place (a leaf before the sky,
//! a blinking sign, whoever stands still). It is the mixture of Gaussians of Stauffer and Grimson (CVPR 1999) and
//! Zivkovic (ICPR 2004, MOG2) cut down to two, with the deviation shared. Its neighbours' values count as a pixel's own,
//! as in ViBe (Barnich and Van Droogenbroeck, IEEE TIP 2011): what sways or shakes by a pixel stays background.

use super::light::Light;
use super::plane::{LEVEL, Range, Rate};
use super::shift::moved;

/// Time constants in seconds: of the usual value, of the second one, and of its support as it grows and fades.
const USUAL_S: f32 = 8.0;
const SECOND_S: f32 = 4.0;
const GROWS_S: f32 = 6.0;
const FADES_S: f32 = 30.0;
/// Of the noise estimate.
const NOISE_S: f32 = 5.0;
/// Of the picture of the last moments.
const RECENT_S: f32 = 0.4;
/// Support in parts of 2^14: below the first the second value may be given away, above the second it is background,
/// above the third it is the usual one.
const WHOLE: i16 = 1 << 14;
const GIVEN_AWAY: i16 = WHOLE / 20;
const COUNTS: i16 = WHOLE / 4;
const USUAL: i16 = WHOLE / 10 * 6;
/// Least difference that counts: from the background, and from the last moments.
const LEAST: i16 = 7 * LEVEL;
/// The same where the ground is dark.
const LEAST_IN_THE_DARK: i16 = 4 * LEVEL;
const LEAST_CHANGE: i16 = 3 * LEVEL;
/// Thresholds in multiples of the mean absolute deviation; 3 sigma of normal noise are 3.8 of them.
const NOISE_FACTOR: i16 = 4;
const FIRST_NOISE: i16 = 2 * LEVEL;
/// What deviates by more is no noise.
const MOST_NOISE: i16 = 10 * LEVEL;

/// Beyond this a sensor shows light and nothing else.
const SATURATED: i16 = 250 * LEVEL;

/// A mark of a pixel is 0, or 1 where it differs, with this bit where it does not since long.
pub const CHANGES: u8 = 2;

/// Shapes: every plane is one working picture, in units of `plane::LEVEL`.
pub struct Background {
    width: usize,
    pub usual: Vec<i16>,
    second: Vec<i16>,
    support: Vec<i16>,
    noise: Vec<i16>,
    recent: Vec<i16>,
    range: Range,
    /// Over all pixels, in levels.
    pub mean_noise: f32,
}

impl Background {
    pub fn new(width: usize, pixels: usize) -> Self {
        let plane = || vec![0; pixels];
        Self {
            width,
            usual: plane(),
            second: plane(),
            support: plane(),
            noise: vec![FIRST_NOISE; pixels],
            recent: plane(),
            range: Range::new(pixels),
            mean_noise: 2.0,
        }
    }

    /// Takes a picture as all there is to know.
    pub fn restart(&mut self, now: &[i16]) {
        self.usual.copy_from_slice(now);
        self.recent.copy_from_slice(now);
        self.support.fill(0);
        self.noise.iter_mut().for_each(|noise| *noise = (*noise).max(FIRST_NOISE));
        self.range.of(&self.usual, self.width);
    }

    /// Marks what differs; `shared` is what the whole picture changed by, from the background and from the last moments.
    pub fn compare(&self, now: &[i16], (since_usual, since_recent): (i16, i16), marks: &mut [u8]) {
        let planes = self.range.low.iter().zip(&self.range.high).zip(&self.second).zip(&self.support);
        let planes = planes.zip(&self.noise).zip(&self.recent).zip(now);
        for (mark, ((((((&low, &high), &second), &support), &noise), &recent), &now)) in marks.iter_mut().zip(planes) {
            let limit = threshold(noise, high);
            let level = now.saturating_sub(since_usual);
            let away = low.saturating_sub(level).max(level.saturating_sub(high));
            let from_second = if support > COUNTS { (now - second).saturating_abs() } else { i16::MAX };
            let differs = away.min(from_second) > limit;
            let changes = now < SATURATED
                && now.saturating_sub(since_recent).saturating_sub(recent).saturating_abs()
                    > (limit / 2).max(LEAST_CHANGE);
            *mark = u8::from(differs) | (u8::from(differs && changes) << 1);
        }
    }

    /// Learns from a picture; `moving` marks what is of things that move, 0 elsewhere.
    pub fn learn(&mut self, now: &[i16], moving: &[u8], age_s: f32, step_s: f32) {
        let usual_rate = Rate::of(step_s, USUAL_S.min(age_s.max(step_s)));
        let second_rate = Rate::of(step_s, SECOND_S);
        let noise_rate = Rate::of(step_s, NOISE_S.min(age_s.max(step_s)));
        let recent_rate = Rate::of(step_s, RECENT_S);
        let (grows, fades) = (Rate::of(step_s, GROWS_S), Rate::of(step_s, FADES_S));
        let mut sum = 0i64;
        for at in 0..now.len() {
            let (now, usual, second, noise) = (now[at], self.usual[at], self.second[at], self.noise[at]);
            let limit = threshold(noise, self.range.high[at]);
            let away = now - usual;
            let out = (self.range.low[at] - now).max(now - self.range.high[at]).max(0);
            let is_usual = out <= limit;
            let from_second = now - second;
            let support = self.support[at];
            let is_second = !is_usual && from_second.saturating_abs() <= limit;
            self.usual[at] = usual + if is_usual { usual_rate.step(away) } else { 0 };
            let replaced = !is_usual && !is_second && support < GIVEN_AWAY;
            self.second[at] =
                if replaced { now } else { second + if is_second { second_rate.step(from_second) } else { 0 } };
            self.support[at] =
                if is_second { support + grows.step(WHOLE - support) } else { support - fades.step(support) };
            if self.support[at] > USUAL {
                (self.usual[at], self.second[at]) = (self.second[at], self.usual[at]);
                self.support[at] = WHOLE - USUAL;
            }
            // What the neighbours explain is no noise beyond half the threshold.
            let deviation = out.max(away.saturating_abs().min(limit / 2));
            if moving[at] == 0 && deviation <= MOST_NOISE {
                self.noise[at] = noise + noise_rate.step(deviation - noise);
            }
            sum += i64::from(self.noise[at]);
            self.recent[at] += recent_rate.step(now - self.recent[at]);
        }
        self.mean_noise = sum as f32 / (now.len().max(1) as f32 * f32::from(LEVEL));
        self.range.of(&self.usual, self.width);
    }

    /// Follows a picture that changed its light: everything at once, in a few steps.
    pub fn follow(&mut self, now: &[i16], step_s: f32, constant_s: f32) {
        let rate = Rate::of(step_s, constant_s);
        for ((usual, recent), &now) in self.usual.iter_mut().zip(&mut self.recent).zip(now) {
            *usual += rate.step(now - *usual);
            *recent += rate.step(now - *recent);
        }
        self.range.of(&self.usual, self.width);
    }

    /// Lets the usual values follow light; the share of the picture that it changed.
    pub fn relight(&mut self, now: &[i16], light: &mut Light) -> f32 {
        let lit = light.follow(now, &mut self.usual);
        if lit > 0.0 {
            self.range.of(&self.usual, self.width);
        }
        lit
    }

    /// Hangs as a camera does that was knocked: what was at `shift` is at (0, 0) of a straightened picture no more.
    pub fn hang(&mut self, (dx, dy): (isize, isize), room: &mut Vec<i16>) {
        for plane in [&mut self.usual, &mut self.second, &mut self.support, &mut self.noise, &mut self.recent] {
            moved(plane, room, self.width, (-dx, -dy));
            std::mem::swap(plane, room);
        }
        self.range.of(&self.usual, self.width);
    }

    pub fn recent(&self) -> &[i16] {
        &self.recent
    }
}

/// In the dark all differences are smaller, those of people as well.
#[inline(always)]
fn threshold(noise: i16, level: i16) -> i16 {
    (noise * NOISE_FACTOR).max((level >> 4).clamp(LEAST_IN_THE_DARK, LEAST))
}
