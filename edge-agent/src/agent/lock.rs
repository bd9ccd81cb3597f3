//! One agent a folder: two would cut each other's open segments for torn ones.

use super::AgentError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// A killed agent's locks are gone once the kernel has taken its threads down.
const PATIENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(50);

/// Held for as long as the process lives; on the folders themselves (flock(2)), so that nothing is left behind.
pub(super) struct Locks(#[expect(dead_code, reason = "held, never looked at")] Vec<Flock<File>>);

impl Locks {
    /// Blocks for a few seconds at most.
    pub fn take(folders: &[&Path]) -> Result<Self, AgentError> {
        let mut real: Vec<_> = folders
            .iter()
            .map(std::fs::canonicalize)
            .collect::<Result<_, _>>()
            .map_err(|source| AgentError::MakeFolder { path: folders[0].to_owned(), source })?;
        real.sort();
        real.dedup();
        real.iter().map(|folder| lock(folder)).collect::<Result<_, _>>().map(Self)
    }
}

fn lock(folder: &Path) -> Result<Flock<File>, AgentError> {
    let began = Instant::now();
    let failed = |source| AgentError::Lock { path: folder.to_owned(), source };
    let mut file = File::open(folder).map_err(failed)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) if began.elapsed() > PATIENCE => {
                return Err(AgentError::InUse { path: folder.to_owned() });
            }
            Err((again, Errno::EWOULDBLOCK)) => file = again,
            Err((_, error)) => return Err(failed(error.into())),
        }
        std::thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_on_the_same_folders_is_refused_and_the_next_one_is_not() {
        let (state, media) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Locks::take(&[state.path(), media.path()]).unwrap();
        let other = tempfile::tempdir().unwrap();
        let second = Locks::take(&[other.path(), media.path()]);
        assert!(matches!(second, Err(AgentError::InUse { path }) if path == media.path().canonicalize().unwrap()));
        drop(first);
        assert!(Locks::take(&[other.path(), media.path(), media.path()]).is_ok(), "one folder may be both");
    }
}
