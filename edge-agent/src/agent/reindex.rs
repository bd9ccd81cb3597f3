//! `campanile-edge reindex`: the recording facts made anew from the segments, while the agent does not run.

use super::AgentError;
use super::lock::Locks;
use crate::config::Config;
use crate::index::Index;
use crate::index::rescan::{Summary, ThisRun, rescan};
use crate::record::home::Home;
use campanile_proto::time::Clock;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reindexed {
    pub walk: Summary,
    /// Reports that wait for the hub now.
    pub waiting: u64,
}

/// Walks every segment as if the index knew none. What no segment tells (gaps, anchors, cameras' states, the rules
/// that deleted) stays where there is a database to stay in. Refuses while an agent runs, and while the disk of the
/// recordings is away: its segments would be forgotten.
pub async fn reindex(config: &Config, clock: &dyn Clock) -> Result<Reindexed, AgentError> {
    let found = |path: &std::path::PathBuf| {
        std::fs::canonicalize(path).map_err(|source| AgentError::NoFolder { path: path.clone(), source })
    };
    let (state_dir, media_dir) = (found(&config.state_dir)?, found(&config.media_dir)?);
    let folders = (state_dir.clone(), media_dir.clone());
    let locks = tokio::task::spawn_blocking(move || Locks::take(&[&folders.0, &folders.1])).await;
    let _locks = locks.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let home = Home::new(&state_dir, &media_dir);
    let entered = tokio::task::spawn_blocking(move || home.enter()).await;
    entered.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let path = state_dir.join("index.sqlite");
    let is_there = path.exists();
    let opening = tokio::task::spawn_blocking(move || Index::open(&path)).await;
    let index = opening.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    // Segments that are still open belong to a run that is over.
    let run = ThisRun { boot: clock.boot(), started: clock.mono() };
    if is_there {
        // Files that are gone are reported as such before their rows go.
        rescan(&index, &media_dir, run).await?;
        index.drop_recorded().await?;
    }
    let walk = rescan(&index, &media_dir, run).await?;
    index.flush().await?;
    Ok(Reindexed { walk, waiting: index.progress().await?.waiting })
}
