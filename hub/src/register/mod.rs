//! The register of accesses: who saw what, for which purpose and case, and who was refused.
//!
//! Belongs here: leaves, their order, the Merkle tree over them (RFC 9162 section 2.1), checkpoints, proofs.
//! Does not belong here: deciding whether an access is allowed (`access`), witnesses' keys (`federation`).
//! Invariant: a leaf that was acknowledged is durable and stays; no statement here changes or removes one, and
//! the file itself refuses both. Personal fields stand beside the tree, never in it.

mod leaf;
mod log;
mod reader;
#[cfg(test)]
mod tests;
mod tree;

pub use leaf::{LeafDraft, Personal};
pub use reader::Entry;
pub use tree::{Root, verify_consistency, verify_inclusion};

use campanile_proto::federation::v1::SignedEnvelope;
use campanile_proto::ids::{OrganisationId, RequestId};
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::{Clock, MICROS_PER_HOUR, WallTime};
use campanile_proto::types::v1::{Act, Phase};
use ed25519_dalek::SigningKey;
use reader::Reader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Commands waiting for the owner thread; more wait in their callers.
const QUEUE: usize = 512;
/// Their term counts in days.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// Why the register could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegisterError {
    #[error("could not open the register at {path}")]
    Open { path: PathBuf, source: Arc<rusqlite::Error> },
    #[error("could not start the register's thread")]
    Spawn(#[source] Arc<std::io::Error>),
    #[error("could not write the register")]
    Write(#[source] Arc<rusqlite::Error>),
    #[error("could not read the register")]
    Read(#[source] Arc<rusqlite::Error>),
    #[error(
        "the register does not verify: {0}; restore its file from the newest backup and tell the data protection officer"
    )]
    Tampered(String),
    #[error("the register has no entry or size {0}")]
    OutOfRange(u64),
    #[error("the register is not running any more")]
    Stopped,
}

impl RegisterError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::OutOfRange(_) => Kind::NotFound,
            Self::Stopped => Kind::Unavailable,
            _ => Kind::Internal,
        }
    }
}

/// What a full check found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub root: Root,
    /// Signed checkpoints whose signature and root hold.
    pub checkpoints: u64,
    /// Values beside the tree whose commitments hold.
    pub personal: u64,
}

/// Handle to the register; its file has one owner, a thread of its own.
#[derive(Clone)]
pub struct Register {
    commands: mpsc::Sender<Command>,
    reader: Arc<Reader>,
}

type Answer<T> = oneshot::Sender<Result<T, RegisterError>>;

enum Command {
    Append(Box<LeafDraft>, Option<Answer<u64>>),
    Checkpoint(Answer<SignedEnvelope>),
    Root(Answer<Root>),
    ForgetPersonal { before: WallTime, answer: Answer<u64> },
}

impl Register {
    /// Opens or makes the file, checks it against its own head, and closes as `interrupted` what the last
    /// process left open. `key` signs checkpoints.
    pub fn open(
        path: &Path,
        organisation: OrganisationId,
        key: SigningKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RegisterError> {
        let reader = Arc::new(Reader { path: path.to_owned(), organisation, key: key.verifying_key() });
        let log = log::Log::open(path, organisation, key, clock)?;
        let (commands, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("register".into())
            .spawn(move || log.run(receiver))
            .map_err(|e| RegisterError::Spawn(Arc::new(e)))?;
        Ok(Self { commands, reader })
    }

    /// Appends a leaf; returns its sequence once it is on the disk.
    pub async fn append(&self, draft: LeafDraft) -> Result<u64, RegisterError> {
        self.ask(|answer| Command::Append(Box::new(draft), Some(answer))).await
    }

    /// Appends a leaf without waiting: for closing entries whose asker has gone.
    pub fn append_later(&self, draft: LeafDraft) {
        let command = Command::Append(Box::new(draft), None);
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let commands = self.commands.clone();
            // What is lost here when the process ends is written as `interrupted` at the next start.
            runtime.spawn(async move { commands.send(command).await });
        }
    }

    /// A signed statement of size and root; also kept in the file.
    pub async fn checkpoint(&self) -> Result<SignedEnvelope, RegisterError> {
        self.ask(Command::Checkpoint).await
    }

    /// Entries in order, from sequence `from`; at most 1,000.
    pub async fn page(&self, from: u64, limit: u32) -> Result<Vec<Entry>, RegisterError> {
        self.read(move |reader| reader.page(from, limit)).await
    }

    /// Reads the whole file again: leaves, order, root, kept checkpoints, commitments.
    pub async fn verify(&self) -> Result<Verified, RegisterError> {
        let written = self.root().await?;
        self.read(move |reader| reader.verify(written)).await
    }

    pub async fn root(&self) -> Result<Root, RegisterError> {
        self.ask(Command::Root).await
    }

    /// Proof that leaf `sequence` is in the tree of `size` leaves (RFC 9162 section 2.1.3).
    pub async fn inclusion(&self, sequence: u64, size: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        self.read(move |reader| reader.inclusion(sequence, size)).await
    }

    /// Whether the register, as it is now, begins with the tree of this root.
    pub async fn begins_with(&self, then: Option<Root>) -> Result<bool, RegisterError> {
        let (Some(then), now) = (then, self.root().await?) else { return Ok(false) };
        Ok(match then.size {
            0 => true,
            size if size == now.size => then.hash == now.hash,
            size if size > now.size => false,
            size => verify_consistency(&then, &now, &self.consistency(size, now.size).await?),
        })
    }

    /// Proof that the tree of `old` leaves is the beginning of that of `new` (RFC 9162 section 2.1.4).
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, RegisterError> {
        self.read(move |reader| reader.consistency(old, new)).await
    }

    /// Removes who, why and for which case of entries older than `before`; how many values. The tree stays whole.
    pub async fn forget_personal(&self, before: WallTime) -> Result<u64, RegisterError> {
        self.ask(|answer| Command::ForgetPersonal { before, answer }).await
    }

    /// Forgets what is older than `days`, day after day, while the clock is one to go by.
    pub async fn run(self, days: u32, clock: Arc<dyn Clock>, trusted: impl Fn() -> bool, stop: CancellationToken) {
        let mut tick = tokio::time::interval(FORGET_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if !trusted() {
                continue;
            }
            let before = clock.utc().plus_micros(-i64::from(days) * 24 * MICROS_PER_HOUR);
            match self.forget_personal(before).await {
                Ok(0) => {}
                Ok(values) => {
                    info!(values, "personal values of the register forgotten");
                    let mut entry = LeafDraft::new(Act::Administer, Phase::Done, RequestId::ordered());
                    (entry.clause, entry.items) = (format!("register.personal_days = {days}"), values);
                    if let Err(e) = self.append(entry).await {
                        error!(error = %Chain(&e), "that personal values were forgotten is not registered");
                    }
                }
                Err(e) => error!(error = %Chain(&e), "personal values of the register not forgotten"),
            }
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, RegisterError> + Send + 'static,
    ) -> Result<T, RegisterError> {
        let reader = self.reader.clone();
        tokio::task::spawn_blocking(move || work(&reader)).await.map_err(|_| RegisterError::Stopped)?
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, RegisterError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| RegisterError::Stopped)?;
        answered.await.map_err(|_| RegisterError::Stopped)?
    }
}
