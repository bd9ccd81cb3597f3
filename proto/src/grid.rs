//! The motion grid: 32 x 18 cells in fractions of the full main picture, row-major; cell `i` is bit
//! `i mod 8` of byte `i / 8`, 72 bytes.

pub const COLUMNS: usize = 32;
pub const ROWS: usize = 18;
pub const CELLS: usize = COLUMNS * ROWS;
const BYTES: usize = CELLS / 8;
const WORDS: usize = CELLS / 64;

/// A set of cells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CellSet([u64; WORDS]);

/// A set of cells of the wrong length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cell set has {BYTES} bytes, this one {0}")]
pub struct InvalidCellSet(usize);

impl CellSet {
    pub const EMPTY: Self = Self([0; WORDS]);
    pub const FULL: Self = Self([u64::MAX; WORDS]);

    /// `cell` is `row * COLUMNS + column`; outside the grid nothing happens.
    pub fn insert(&mut self, cell: usize) {
        if let Some(word) = self.0.get_mut(cell / 64) {
            *word |= 1 << (cell % 64);
        }
    }

    pub fn contains(&self, cell: usize) -> bool {
        self.0.get(cell / 64).is_some_and(|word| word >> (cell % 64) & 1 == 1)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub fn union(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    /// Cells in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..CELLS).filter(|&cell| self.contains(cell))
    }

    /// The 72 bytes on the wire.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(&self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads the wire form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidCellSet> {
        if bytes.len() != BYTES {
            return Err(InvalidCellSet(bytes.len()));
        }
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().expect("chunks of 8, because chunks_exact"));
        }
        Ok(Self(words))
    }

    /// Cells that a polygon touches. Points are fractions of the picture (0 to 1), joined in order and
    /// closed; a point or a line touches the cells it lies in.
    pub fn touched_by(polygon: &[(f64, f64)]) -> Self {
        let mut cells = Self::EMPTY;
        let scaled: Vec<(f64, f64)> = polygon.iter().map(|&(x, y)| (x * COLUMNS as f64, y * ROWS as f64)).collect();
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                if touches(&scaled, column as f64, row as f64) {
                    cells.insert(row * COLUMNS + column);
                }
            }
        }
        cells
    }
}

impl std::fmt::Debug for CellSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Whether the polygon meets the unit square at (left, top): one of its edges crosses the square, or the
/// square's centre lies within (even-odd rule).
fn touches(polygon: &[(f64, f64)], left: f64, top: f64) -> bool {
    let edges = || polygon.iter().zip(polygon.iter().cycle().skip(1));
    if edges().any(|(&a, &b)| segment_meets_square(a, b, left, top)) {
        return true;
    }
    let (x, y) = (left + 0.5, top + 0.5);
    edges().filter(|&(a, b)| (a.1 > y) != (b.1 > y) && x < (b.0 - a.0) * (y - a.1) / (b.1 - a.1) + a.0).count() % 2 == 1
}

/// Liang and Barsky, "A New Concept and Method for Line Clipping" (1984), on a half-open unit square.
fn segment_meets_square(a: (f64, f64), b: (f64, f64), left: f64, top: f64) -> bool {
    let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
    for (start, delta, low) in [(a.0, b.0 - a.0, left), (a.1, b.1 - a.1, top)] {
        let high = low + 1.0 - f64::EPSILON * 64.0;
        if delta == 0.0 {
            if start < low || start > high {
                return false;
            }
            continue;
        }
        let (first, last) = ((low - start) / delta, (high - start) / delta);
        enter = enter.max(first.min(last));
        leave = leave.min(first.max(last));
    }
    enter <= leave
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_drawn_doorway_is_its_cells() {
        let door = [(0.0, 0.0), (1.0 / 16.0, 0.0), (1.0 / 16.0, 1.0 / 9.0), (0.0, 1.0 / 9.0)];
        let inner: Vec<_> = door.iter().map(|&(x, y)| (x * 0.9 + 0.001, y * 0.9 + 0.001)).collect();
        let cells: Vec<_> = CellSet::touched_by(&inner).iter().collect();
        assert_eq!(cells, [0, 1, COLUMNS, COLUMNS + 1]);
    }

    #[test]
    fn a_whole_picture_is_every_cell() {
        let all = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
        assert_eq!(CellSet::touched_by(&all), CellSet::FULL);
        assert!(CellSet::touched_by(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn survives_the_wire(cells in proptest::collection::vec(0usize..CELLS, 0..64)) {
            let mut set = CellSet::EMPTY;
            cells.iter().for_each(|&cell| set.insert(cell));
            prop_assert_eq!(CellSet::from_bytes(&set.to_bytes()), Ok(set));
            prop_assert_eq!(set.iter().collect::<Vec<_>>().len(), set.len());
            prop_assert!(cells.iter().all(|&cell| set.contains(cell)));
        }

        #[test]
        fn a_point_inside_a_polygon_is_in_its_cells(x in 0.0f64..1.0, y in 0.0f64..1.0, r in 0.01f64..0.3) {
            let clamp = |v: f64| v.clamp(0.0, 1.0);
            let square = [(clamp(x - r), clamp(y - r)), (clamp(x + r), clamp(y - r)),
                          (clamp(x + r), clamp(y + r)), (clamp(x - r), clamp(y + r))];
            let cell = (y * ROWS as f64) as usize * COLUMNS + (x * COLUMNS as f64) as usize;
            prop_assert!(CellSet::touched_by(&square).contains(cell));
        }
    }
}
