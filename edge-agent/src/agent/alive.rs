//! When this box was last alive: what a start tells as the time it was off.

use crate::identity::replace_file;
use campanile_proto::ids::BootId;
use campanile_proto::types::v1::Instant;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "alive.json";

#[derive(Serialize, Deserialize)]
struct Alive {
    boot: BootId,
    mono_us: i64,
    utc_us: i64,
    uncertainty_us: u64,
}

/// None at the first start, or when the file is damaged.
pub(super) fn last(state_dir: &Path) -> Option<Instant> {
    let alive: Alive = serde_json::from_slice(&std::fs::read(state_dir.join(FILE)).ok()?).ok()?;
    let Alive { boot, mono_us, utc_us, uncertainty_us } = alive;
    Some(Instant { boot_id: boot.into(), mono_us, utc_us, uncertainty_us })
}

pub(super) fn write(state_dir: &Path, now: &Instant) -> std::io::Result<()> {
    let boot = BootId::try_from(&now.boot_id).map_err(std::io::Error::other)?;
    let alive = Alive { boot, mono_us: now.mono_us, utc_us: now.utc_us, uncertainty_us: now.uncertainty_us };
    replace_file(&state_dir.join(FILE), &serde_json::to_vec(&alive).map_err(std::io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_read_at_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(last(state.path()), None);
        let now = Instant { boot_id: BootId::random().into(), mono_us: 5, utc_us: -6, uncertainty_us: 7 };
        write(state.path(), &now).unwrap();
        assert_eq!(last(state.path()), Some(now));
        std::fs::write(state.path().join(FILE), "{").unwrap();
        assert_eq!(last(state.path()), None);
    }
}
