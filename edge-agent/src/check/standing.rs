//! The box's clock, enrolment and keys, as they stand on disk.

use crate::clock::Timekeeper;
use crate::identity::{IdentityError, IdentityFolder};
use campanile_proto::kind::Chain;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::TimeSource;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub clock: TimeSource,
    pub uncertainty_us: u64,
    pub enrolment: Enrolment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    Missing,
    /// Why it cannot be used.
    Unusable(String),
    At {
        organisation: String,
        /// Negative: it expired.
        certificate_days: i64,
        /// Whole days that hour keys reach from now, or why there are no keys.
        key_days: Result<i64, String>,
    },
}

/// Reads the state folder; makes nothing in it.
pub(super) fn of(state_dir: &Path, timekeeper: &Timekeeper, now: WallTime) -> Standing {
    let (clock, uncertainty_us) = timekeeper.belief();
    let enrolment = match read(state_dir, now) {
        Ok(Some(enrolment)) => enrolment,
        Ok(None) => Enrolment::Missing,
        Err(error) => Enrolment::Unusable(Chain(&error).to_string()),
    };
    Standing { clock, uncertainty_us, enrolment }
}

fn read(state_dir: &Path, now: WallTime) -> Result<Option<Enrolment>, IdentityError> {
    // Opening makes the folder: made by an installer's account it would be closed to the agent's.
    if !state_dir.join("identity").exists() {
        return Ok(None);
    }
    let folder = IdentityFolder::open(state_dir)?;
    let Some(identity) = folder.load()? else { return Ok(None) };
    let (_, until) = identity.validity()?;
    let key_days = match folder.load_keys(&identity) {
        Ok(keys) => Ok((keys.end_hour() - now.hour()).div_euclid(24)),
        Err(error) => Err(Chain(&error).to_string()),
    };
    let certificate_days = (until - now.0.div_euclid(1_000_000)).div_euclid(86_400);
    Ok(Some(Enrolment::At { organisation: identity.organisation_name.clone(), certificate_days, key_days }))
}
