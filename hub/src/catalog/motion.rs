//! Seconds of the motion grid, packed: most of a street's seconds are one byte.
//!
//! ```text
//! second = BLIND | flags [moved 72] [looked 72]
//! ```

use campanile_proto::grid::CellSet;
use campanile_proto::types::v1::MotionSecond;

const MOVED: u8 = 1;
const LOOKED: u8 = 2;
const BLIND: u8 = 4;
const SET_BYTES: usize = 72;

/// One second: which cells moved, which were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Second {
    pub moved: CellSet,
    pub looked: CellSet,
}

impl Second {
    pub fn read(wire: &MotionSecond) -> Result<Self, String> {
        if wire.blind {
            return Ok(Self { moved: CellSet::EMPTY, looked: CellSet::EMPTY });
        }
        let set = |bytes: &[u8], empty| if bytes.is_empty() { Ok(empty) } else { CellSet::from_bytes(bytes) };
        Ok(Self {
            moved: set(&wire.moved, CellSet::EMPTY).map_err(|e| e.to_string())?,
            looked: set(&wire.looked, CellSet::FULL).map_err(|e| e.to_string())?,
        })
    }
}

pub(super) fn pack(seconds: &[Second]) -> Vec<u8> {
    let mut out = Vec::with_capacity(seconds.len());
    for Second { moved, looked } in seconds {
        if moved.is_empty() && looked.is_empty() {
            out.push(BLIND);
            continue;
        }
        let (has_moved, has_looked) = (!moved.is_empty(), *looked != CellSet::FULL);
        out.push((u8::from(has_moved) * MOVED) | (u8::from(has_looked) * LOOKED));
        if has_moved {
            out.extend_from_slice(&moved.to_bytes());
        }
        if has_looked {
            out.extend_from_slice(&looked.to_bytes());
        }
    }
    out
}

/// Reads what [`pack`] wrote; stops where it is damaged.
pub(super) fn unpack(mut packed: &[u8]) -> Vec<Second> {
    let mut seconds = Vec::new();
    while let Some((&flags, rest)) = packed.split_first() {
        packed = rest;
        let mut set = |flag, absent| {
            if flags & flag == 0 {
                return Some(absent);
            }
            let (bytes, rest) = packed.split_at_checked(SET_BYTES)?;
            packed = rest;
            CellSet::from_bytes(bytes).ok()
        };
        let whole = if flags & BLIND == 0 { CellSet::FULL } else { CellSet::EMPTY };
        let (Some(moved), Some(looked)) = (set(MOVED, CellSet::EMPTY), set(LOOKED, whole)) else { break };
        seconds.push(Second { moved, looked });
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_second_is_one_byte_and_nothing_is_lost() {
        let mut moved = CellSet::EMPTY;
        moved.insert(17);
        let mut looked = CellSet::FULL;
        looked = CellSet::from_bytes(&{
            let mut bytes = looked.to_bytes();
            bytes[0] = 0;
            bytes
        })
        .unwrap();
        let seconds = [
            Second { moved: CellSet::EMPTY, looked: CellSet::FULL },
            Second { moved: CellSet::EMPTY, looked: CellSet::EMPTY },
            Second { moved, looked: CellSet::FULL },
            Second { moved, looked },
            Second { moved: CellSet::EMPTY, looked },
        ];
        let packed = pack(&seconds);
        assert_eq!(packed.len(), 1 + 1 + 73 + 145 + 73);
        assert_eq!(unpack(&packed), seconds);
        assert_eq!(unpack(&packed[..packed.len() - 1]), &seconds[..4]);
    }
}
