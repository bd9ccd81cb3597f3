//! What a seed decides about a piazza: its light, its colours, its plan.
//!
//! Belongs here: drawing those choices, so that two cameras never look alike.
//! Does not belong here: painting with them.
//! Invariant: a function of seed and light alone.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Light;
use super::raster::{Rgb, lit};
use super::view::Wall;

/// Crown of the campanile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crown {
    /// A pyramid, as in Venice.
    Spire,
    /// A cone of bricks, as in Cremona or Modena.
    Drum,
    /// Swallow-tailed battlements, as in Verona.
    Battlements,
}

/// What stands in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Centrepiece {
    /// A basin with a shell.
    Fountain,
    /// A figure on a plinth.
    Statue,
    /// A needle.
    Obelisk,
}

/// The choices.
#[derive(Debug, Clone)]
pub struct Mood {
    /// By infrared light.
    pub night: bool,
    /// Sky above and at the horizon.
    pub sky: [Rgb; 2],
    /// Share of clouds, 0 to 1.
    pub clouds: f32,
    /// Light on what the sun reaches.
    pub sun: Rgb,
    /// Light in the shade.
    pub ambient: Rgb,
    /// Factor of ground in the shade.
    pub shadow: Rgb,
    /// Ground metres (x, z) a shadow runs per metre of height.
    pub cast: (f32, f32),
    /// Side of the near building and of the sun: 1 right, -1 left.
    pub side: f32,
    /// Lateral place of the campanile.
    pub tower_x: f32,
    /// Its height.
    pub tower_height: f32,
    /// Its bands.
    pub tower_colours: [Rgb; 2],
    /// Its crown.
    pub crown: Crown,
    /// In the middle.
    pub centrepiece: Centrepiece,
    /// Lateral place of it.
    pub centre_x: f32,
    /// Plaster of the palazzi in order of use.
    pub plaster: Vec<Rgb>,
    /// Shutters.
    pub shutters: Rgb,
    /// Paving.
    pub paving: Rgb,
    /// Seed of textures.
    pub grain: u32,
    /// Place in the row of palazzi where the church stands.
    pub church: usize,
}

const PLASTERS: [Rgb; 9] = [
    [222.0, 174.0, 104.0],
    [205.0, 131.0, 95.0],
    [232.0, 205.0, 156.0],
    [196.0, 108.0, 82.0],
    [226.0, 190.0, 168.0],
    [214.0, 160.0, 122.0],
    [201.0, 189.0, 160.0],
    [233.0, 216.0, 184.0],
    [184.0, 143.0, 98.0],
];

impl Mood {
    /// Draws the choices.
    pub fn new(seed: u64, light: Light) -> Mood {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let side = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        let mut plaster = PLASTERS.to_vec();
        for last in (1..plaster.len()).rev() {
            plaster.swap(last, rng.random_range(0..=last));
        }
        let tower_colours = [
            [[186.0, 112.0, 82.0], [232.0, 222.0, 204.0]],
            [[172.0, 98.0, 74.0], [214.0, 190.0, 158.0]],
            [[226.0, 216.0, 198.0], [122.0, 138.0, 124.0]],
        ][rng.random_range(0..3)];
        let mut mood = Mood {
            night: light == Light::Night,
            sky: [[0.0; 3]; 2],
            clouds: rng.random_range(0.25..0.75),
            sun: [1.0; 3],
            ambient: [0.6; 3],
            shadow: [0.5; 3],
            cast: (-side * rng.random_range(0.5..0.9), rng.random_range(0.3..0.6)),
            side,
            tower_x: side * rng.random_range(-16.0..9.0),
            tower_height: rng.random_range(22.8..25.0),
            tower_colours,
            crown: [Crown::Spire, Crown::Drum, Crown::Battlements][rng.random_range(0..3)],
            centrepiece: [Centrepiece::Fountain, Centrepiece::Statue, Centrepiece::Obelisk][rng.random_range(0..3)],
            centre_x: side * rng.random_range(-8.0..4.0),
            plaster,
            shutters: [[62.0, 92.0, 70.0], [96.0, 72.0, 52.0], [70.0, 88.0, 104.0]][rng.random_range(0..3)],
            paving: [[168.0, 160.0, 150.0], [150.0, 146.0, 144.0], [178.0, 162.0, 144.0]][rng.random_range(0..3)],
            grain: rng.random(),
            church: rng.random_range(1..4),
        };
        let hour = rng.random_range(0..4);
        if mood.night {
            mood.infrared()
        } else {
            mood.daylight(hour)
        }
        mood
    }

    fn daylight(&mut self, hour: u32) {
        let (top, bottom, sun, ambient, shadow): (Rgb, Rgb, Rgb, Rgb, Rgb) = match hour {
            0 => ([98.0, 150.0, 212.0], [238.0, 226.0, 204.0], [1.06, 1.0, 0.9], [0.62, 0.66, 0.76], [0.56, 0.6, 0.7]),
            1 => (
                [62.0, 126.0, 206.0],
                [196.0, 220.0, 238.0],
                [1.05, 1.03, 0.98],
                [0.64, 0.67, 0.74],
                [0.54, 0.57, 0.65],
            ),
            2 => (
                [104.0, 134.0, 188.0],
                [252.0, 208.0, 156.0],
                [1.12, 0.94, 0.74],
                [0.58, 0.58, 0.68],
                [0.52, 0.53, 0.64],
            ),
            _ => {
                ([142.0, 160.0, 184.0], [218.0, 220.0, 220.0], [0.94, 0.94, 0.95], [0.74, 0.76, 0.8], [0.78, 0.8, 0.84])
            }
        };
        (self.sky, self.sun, self.ambient, self.shadow) = ([top, bottom], sun, ambient, shadow);
        if hour == 3 {
            self.clouds = 1.0;
        }
    }

    /// Surfaces are painted evenly; the lamp's fall-off is laid over them afterwards.
    fn infrared(&mut self) {
        self.sky = [[10.0; 3], [22.0; 3]];
        self.clouds = 0.0;
        self.sun = [1.0; 3];
        self.ambient = [0.88; 3];
        self.shadow = [1.0; 3];
        self.cast = (0.0, 0.0);
    }

    /// Light on a wall: facing walls get slanting sun, the receding wall on the sun's side none.
    pub fn wall_light(&self, wall: Wall) -> Rgb {
        match wall {
            Wall::Facing { .. } => self.sun,
            Wall::Receding { x } if x * self.side > 0.0 => self.ambient,
            Wall::Receding { .. } => lit(self.sun, [0.92; 3]),
        }
    }

    /// Whether things throw shadows.
    pub fn casts(&self) -> bool {
        !self.night
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_repeat() {
        let places: Vec<f32> = (0..8).map(|seed| Mood::new(seed, Light::Day).tower_x).collect();
        let again: Vec<f32> = (0..8).map(|seed| Mood::new(seed, Light::Day).tower_x).collect();
        assert_eq!(places, again);
        let mut distinct = places.clone();
        distinct.sort_by(f32::total_cmp);
        distinct.dedup();
        assert_eq!(distinct.len(), places.len());
    }
}
