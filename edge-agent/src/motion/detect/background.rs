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
    /// Of this picture.
    limit: Vec<i16>,
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
            limit: plane(),
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
        let pixels = now.len();
        // Of one length, so that the loop below runs side by side.
        let (lows, highs) = (&self.range.low[..pixels], &self.range.high[..pixels]);
        let (seconds, supports) = (&self.second[..pixels], &self.support[..pixels]);
        let (noises, recents) = (&self.noise[..pixels], &self.recent[..pixels]);
        let marks = &mut marks[..pixels];
        for at in 0..pixels {
            let (now, high) = (now[at], highs[at]);
            let limit = threshold(noises[at], high);
            let level = now.saturating_sub(since_usual);
            let away = lows[at].saturating_sub(level).max(level.saturating_sub(high));
            let from_second = size(now - seconds[at]) | if supports[at] > COUNTS { 0 } else { i16::MAX };
            let changed_by = size(now.saturating_sub(since_recent).saturating_sub(recents[at]));
            let differs = i16::from(away.min(from_second) > limit);
            let changes = i16::from(changed_by > (limit / 2).max(LEAST_CHANGE)) & i16::from(now < SATURATED);
            marks[at] = (differs | (differs & changes) << 1) as u8;
        }
    }

    /// Learns from a picture; `moving` marks what is of things that move, 0 elsewhere.
    pub fn learn(&mut self, now: &[i16], moving: &[u8], age_s: f32, step_s: f32) {
        let young = |constant_s: f32| Rate::of(step_s, constant_s.min(age_s.max(step_s)));
        let range = (&self.range.low[..], &self.range.high[..]);
        limits(&self.noise, range.1, &mut self.limit);
        learn_noise(now, moving, &self.usual, range, &self.limit, &mut self.noise, young(NOISE_S));
        let rates = Rates {
            usual: young(USUAL_S),
            second: Rate::of(step_s, SECOND_S),
            grows: Rate::of(step_s, GROWS_S),
            fades: Rate::of(step_s, FADES_S),
        };
        learn_values(now, &self.limit, range, &mut self.usual, &mut self.second, &mut self.support, &rates);
        approach(now, &mut self.recent, Rate::of(step_s, RECENT_S));
        let sum: i64 =
            self.noise.chunks(4096).map(|part| i64::from(part.iter().map(|&n| i32::from(n)).sum::<i32>())).sum();
        self.mean_noise = sum as f32 / (now.len().max(1) as f32 * f32::from(LEVEL));
        self.range.of(&self.usual, self.width);
    }

    /// Follows a picture that changed its light: everything at once, in a few steps.
    pub fn follow(&mut self, now: &[i16], step_s: f32, constant_s: f32) {
        let rate = Rate::of(step_s, constant_s);
        approach(now, &mut self.usual, rate);
        approach(now, &mut self.recent, rate);
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

/// How fast what is learnt is learnt.
struct Rates {
    usual: Rate,
    second: Rate,
    grows: Rate,
    fades: Rate,
}

// Planes come as parameters below, so that the compiler knows them apart and takes eight pixels at once.

fn limits(noise: &[i16], high: &[i16], limit: &mut [i16]) {
    for ((limit, &noise), &high) in limit.iter_mut().zip(noise).zip(high) {
        *limit = threshold(noise, high);
    }
}

#[inline(never)]
fn approach(now: &[i16], plane: &mut [i16], rate: Rate) {
    plane.iter_mut().zip(now).for_each(|(value, &now)| *value += rate.step(now - *value));
}

#[inline(never)]
fn learn_noise(
    now: &[i16],
    moving: &[u8],
    usual: &[i16],
    (low, high): (&[i16], &[i16]),
    limit: &[i16],
    noise: &mut [i16],
    rate: Rate,
) {
    let planes = now.iter().zip(moving).zip(usual).zip(low).zip(high).zip(limit);
    for (noise, (((((&now, &moving), &usual), &low), &high), &limit)) in noise.iter_mut().zip(planes) {
        let out = (low - now).max(now - high).max(0);
        // What the neighbours explain is no noise beyond half the threshold.
        let deviation = out.max(size(now - usual).min(limit >> 1));
        let learns = (moving == 0) & (deviation <= MOST_NOISE);
        *noise += if learns { rate.step(deviation - *noise) } else { 0 };
    }
}

#[inline(never)]
fn learn_values(
    now: &[i16],
    limit: &[i16],
    (low, high): (&[i16], &[i16]),
    usual: &mut [i16],
    second: &mut [i16],
    support: &mut [i16],
    rates: &Rates,
) {
    let Rates { usual: usual_rate, second: second_rate, grows, fades } = *rates;
    let planes = now.iter().zip(limit).zip(low).zip(high);
    let values = usual.iter_mut().zip(second).zip(support);
    for (((usual, second), support), (((&now, &limit), &low), &high)) in values.zip(planes) {
        let out = (low - now).max(now - high).max(0);
        let is_usual = out <= limit;
        let from_second = now - *second;
        let is_second = !is_usual & (size(from_second) <= limit);
        let replaced = !is_usual & !is_second & (*support < GIVEN_AWAY);
        let first = *usual + if is_usual { usual_rate.step(now - *usual) } else { 0 };
        let stepped = *second + if is_second { second_rate.step(from_second) } else { 0 };
        let other = if replaced { now } else { stepped };
        let grown = *support + grows.step(WHOLE - *support);
        let weight = if is_second { grown } else { *support - fades.step(*support) };
        let change_places = weight > USUAL;
        *usual = if change_places { other } else { first };
        *second = if change_places { first } else { other };
        *support = if change_places { WHOLE - USUAL } else { weight };
    }
}

/// Without its sign, in the one way that processors do for eight at once.
#[inline(always)]
fn size(value: i16) -> i16 {
    value.max(0i16.saturating_sub(value))
}

/// In the dark all differences are smaller, those of people as well.
#[inline(always)]
fn threshold(noise: i16, level: i16) -> i16 {
    (noise * NOISE_FACTOR).max((level >> 4).clamp(LEAST_IN_THE_DARK, LEAST))
}
