//! Where a point of the piazza falls in the picture.
//!
//! Belongs here: the pinhole camera and flat pieces of the world.
//! Does not belong here: colour (`backdrop`, `figure`), pixels (`raster`).
//! Invariant: metres in (x right, y up, z away from the lens), pixels out (y down).

use super::raster::Point;

/// A point in metres.
pub type Spot = [f32; 3];

/// A camera on a facade, five metres up, level, looking along +z.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Picture width, pixels.
    pub width: f32,
    /// Picture height, pixels.
    pub height: f32,
    focal: f32,
    horizon: f32,
}

/// Height of the lens above the ground.
const LENS_M: f32 = 5.0;
/// Focal length in picture widths: 67 degrees across, a usual fixed lens.
const FOCAL_WIDTHS: f32 = 0.75;
/// Below the middle, so that towers fit; real cameras tilt instead, which would bend verticals.
const HORIZON: f32 = 0.46;
/// Nearest distance that is projected.
const NEAR_M: f32 = 0.5;

impl View {
    /// A view filling a picture.
    pub fn new(width: u32, height: u32) -> View {
        View {
            width: width as f32,
            height: height as f32,
            focal: FOCAL_WIDTHS * width as f32,
            horizon: HORIZON * height as f32,
        }
    }

    /// Picture position of a point.
    pub fn project(&self, [x, y, z]: Spot) -> Point {
        let z = z.max(NEAR_M);
        [self.width / 2.0 + self.focal * x / z, self.horizon + self.focal * (LENS_M - y) / z]
    }

    /// Ground point (x, z) seen at a pixel; `None` above the horizon.
    pub fn ground(&self, px: f32, py: f32) -> Option<(f32, f32)> {
        let drop = py - self.horizon;
        if drop < 0.5 {
            return None;
        }
        let z = self.focal * LENS_M / drop;
        Some(((px - self.width / 2.0) * z / self.focal, z))
    }

    /// Pixels of a metre at a distance.
    pub fn scale(&self, z: f32) -> f32 {
        self.focal / z
    }

    /// Half the width of the visible ground at a distance.
    pub fn half_width(&self, z: f32) -> f32 {
        self.width / 2.0 * z / self.focal
    }

    /// Distance of the wall `x = wall_x` at a picture column.
    pub fn wall_depth(&self, wall_x: f32, px: f32) -> f32 {
        let offset = px - self.width / 2.0;
        if offset * wall_x <= 0.0 { f32::INFINITY } else { self.focal * wall_x / offset }
    }

    /// Row of the horizon.
    pub fn horizon(&self) -> f32 {
        self.horizon
    }
}

/// A vertical wall with its own coordinates: u along it, v up.
#[derive(Debug, Clone, Copy)]
pub enum Wall {
    /// Faces the camera at distance z; u is x.
    Facing {
        /// Distance.
        z: f32,
    },
    /// Runs away from the camera at lateral position x; u is z.
    Receding {
        /// Lateral position.
        x: f32,
    },
}

impl Wall {
    /// The point at (u, v).
    pub fn at(self, u: f32, v: f32) -> Spot {
        match self {
            Wall::Facing { z } => [u, v, z],
            Wall::Receding { x } => [x, v, u],
        }
    }

    /// A point set back into the wall, away from the piazza's middle.
    pub fn behind(self, u: f32, v: f32, depth: f32) -> Spot {
        match self {
            Wall::Facing { z } => [u, v, z + depth],
            Wall::Receding { x } => [x + depth * x.signum(), v, u],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ground_inverts_project() {
        let view = View::new(1280, 720);
        for spot in [[3.0, 0.0, 15.0], [-12.0, 0.0, 40.0]] {
            let [px, py] = view.project(spot);
            let (x, z) = view.ground(px, py).unwrap();
            assert!((x - spot[0]).abs() < 0.01 && (z - spot[2]).abs() < 0.01);
        }
        assert!(view.ground(100.0, 10.0).is_none());
    }
}
