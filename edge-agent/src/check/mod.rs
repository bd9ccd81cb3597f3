//! `campanile-edge check`: opens what is configured for a few seconds, and says how the box is and what to change.
//!
//! Belongs here: looking at streams and at the box once, the verdict over what was seen, and how it is printed.
//! Does not belong here: mending anything, and what the agent does while it runs.
//! Invariant: it changes nothing on the box, ends in bounded time, and prints neither a password nor an address,
//! for cameras take passwords in addresses too.

mod disk;
mod look;
mod report;
mod standing;
mod verdict;

pub use report::{Finding, Report};

use self::look::look;
use crate::clock::Timekeeper;
use crate::config::{CameraConfig, Config};
use crate::media::stamp::{Belief, Stamper};
use crate::media::{Address, Opener, SourceError};
use campanile_proto::time::Clock;
use campanile_proto::types::v1::Stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A disk that does not answer within this hangs.
const DISK: Duration = Duration::from_secs(10);

/// What each stream showed, in the order of the configuration; main before sub.
type Looks = Vec<(usize, Stream, Result<look::Seen, SourceError>)>;

/// Looks at every stream at once and at the box meanwhile. `open` makes the way streams are opened.
pub async fn check(
    config: &Config,
    clock: Arc<dyn Clock>,
    open: impl FnOnce(Stamper) -> Result<Arc<dyn Opener>, SourceError> + Send + 'static,
) -> Report {
    let timekeeper = Arc::new(Timekeeper::open(&config.state_dir, clock.clone()));
    let believes = timekeeper.clone();
    let believe = move || Belief { trusted: believes.trusted(), uncertainty_us: believes.belief().1 };
    let stamper = Stamper::new(clock.clone(), Arc::new(believe));
    let opener = match tokio::task::spawn_blocking(move || open(stamper)).await {
        Ok(opener) => opener,
        Err(error) => Err(SourceError::Machine(error.to_string())),
    };
    let looks = look_at_all(&config.cameras, &opener).await;
    let (state_dir, media_dir) = (config.state_dir.clone(), config.media_dir.clone());
    let (at, state_of_disk) = (clock.utc(), state_dir.clone());
    let standing = tokio::task::spawn_blocking(move || standing::of(&state_dir, &timekeeper, at)).await;
    let standing = standing.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let disk =
        tokio::time::timeout(DISK, tokio::task::spawn_blocking(move || disk::of(&state_of_disk, &media_dir))).await;
    let disk = disk.ok().and_then(Result::ok).flatten();
    verdict::verdict(config, &standing, disk.as_ref(), &looks)
}

async fn look_at_all(cameras: &[CameraConfig], opener: &Result<Arc<dyn Opener>, SourceError>) -> Looks {
    let mut tasks = JoinSet::new();
    for (at, camera) in cameras.iter().enumerate() {
        let streams = [(Stream::Main, Some(&camera.main)), (Stream::Sub, camera.sub.as_ref())];
        for (stream, url) in streams.into_iter().filter_map(|(stream, url)| Some((stream, url?))) {
            let (opener, address) = (opener.clone(), Address::of(camera, url));
            tasks.spawn(async move {
                let seen = match opener {
                    Ok(opener) => look(opener, address).await,
                    Err(error) => Err(error),
                };
                (at, stream, seen)
            });
        }
    }
    let mut looks = tasks.join_all().await;
    looks.sort_by_key(|(at, stream, _)| (*at, *stream as i32));
    looks
}

#[cfg(test)]
mod tests;
