//! What is really there to be seen, frame by frame.
//!
//! Belongs here: the shape of the ground truth that lies beside a generated video.
//! Does not belong here: computing it (`render`).
//! Invariant: fractions of the full picture, cells row-major on the 32x18 motion grid; noise and
//! the strip move nothing.

use serde::{Deserialize, Serialize};

/// Columns of the motion grid.
pub const COLUMNS: usize = 32;
/// Rows of the motion grid.
pub const ROWS: usize = 18;

/// Kind of a moving thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// On foot.
    Person,
    /// With its rider.
    Bicycle,
    /// Four wheels.
    Car,
}

/// A moving thing in one frame, clipped to the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TruthBox {
    /// Same number over all frames of one passage.
    pub id: u32,
    /// What it is.
    pub kind: Kind,
    /// Left edge, fraction of the width.
    pub x: f32,
    /// Top edge, fraction of the height.
    pub y: f32,
    /// Fraction of the width.
    pub w: f32,
    /// Fraction of the height.
    pub h: f32,
}

/// One frame of the main stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TruthFrame {
    /// Index in the loop, as in the strip.
    pub frame: u32,
    /// Seconds since the loop's start.
    pub t: f64,
    /// Visible moving things.
    pub boxes: Vec<TruthBox>,
    /// Cells in which a thing's own pixels are now or were in the previous frame.
    pub cells: Vec<u16>,
    /// Further cells that only grazed pixels, a cast shadow or a beam of light touch: a detector
    /// is neither right nor wrong there.
    pub either: Vec<u16>,
}

/// The whole loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Version of the scene generator.
    pub version: u32,
    /// Camera number in the strip.
    pub number: u16,
    /// Main stream frames per second.
    pub fps: u32,
    /// A sub-stream frame is every `sub_every`-th main frame.
    pub sub_every: u32,
    /// Picture of the main stream.
    pub width: u32,
    /// Picture of the main stream.
    pub height: u32,
    /// Cells under the strip, which changes on every frame; mask them.
    pub strip_cells: Vec<u16>,
    /// In order.
    pub frames: Vec<TruthFrame>,
}
