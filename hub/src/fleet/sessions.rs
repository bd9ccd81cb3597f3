//! Live sessions, at most one a box.

use campanile_proto::edge::v1::HubMessage;
use campanile_proto::ids::{BootId, EdgeId, Epoch};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One live session, as others see it.
pub(super) struct Live {
    number: u64,
    pub edge: EdgeId,
    pub epoch: Epoch,
    pub boot: BootId,
    pub software: String,
    pub out: mpsc::Sender<HubMessage>,
    /// UTC of the last message, microseconds.
    pub last_heard_us: AtomicI64,
    /// Why it must end, once it must.
    reason: OnceLock<&'static str>,
    pub end: CancellationToken,
    /// Cancelled when it has ended.
    pub ended: CancellationToken,
}

impl Live {
    /// The first reason counts.
    pub fn end(&self, reason: &'static str) {
        let _ = self.reason.set(reason);
        self.end.cancel();
    }

    pub fn reason(&self) -> &'static str {
        self.reason.get().copied().unwrap_or("shutting down")
    }
}

#[derive(Default)]
pub(super) struct Sessions {
    live: Mutex<HashMap<EdgeId, Arc<Live>>>,
    last_number: AtomicU64,
}

/// What stands in a new session's way.
pub(super) enum Claim {
    Taken(Arc<Live>),
    /// A session of another epoch or boot: a box that restarted and whose old connection is not yet known
    /// to be dead, or a second box.
    Other(Arc<Live>),
}

impl Sessions {
    fn live(&self) -> MutexGuard<'_, HashMap<EdgeId, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the box's place; a session of the same epoch and boot is superseded, because a box opens one.
    pub fn claim(
        &self,
        edge: EdgeId,
        epoch: Epoch,
        boot: BootId,
        software: &str,
        out: &mpsc::Sender<HubMessage>,
        now_us: i64,
    ) -> Claim {
        let mut live = self.live();
        if let Some(before) = live.get(&edge).filter(|before| !before.ended.is_cancelled()) {
            if (before.epoch, before.boot) != (epoch, boot) {
                return Claim::Other(before.clone());
            }
            before.end("superseded");
        }
        let session = Arc::new(Live {
            number: self.last_number.fetch_add(1, Ordering::Relaxed),
            edge,
            epoch,
            boot,
            software: software.to_owned(),
            out: out.clone(),
            last_heard_us: AtomicI64::new(now_us),
            reason: OnceLock::new(),
            end: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        live.insert(edge, session.clone());
        Claim::Taken(session)
    }

    /// The session has ended; another one may have taken its place already.
    pub fn leave(&self, session: &Live) {
        session.ended.cancel();
        let mut live = self.live();
        if live.get(&session.edge).is_some_and(|now| now.number == session.number) {
            live.remove(&session.edge);
        }
    }

    pub fn of(&self, edge: EdgeId) -> Option<Arc<Live>> {
        self.live().get(&edge).filter(|live| !live.end.is_cancelled()).cloned()
    }

    pub fn end(&self, edge: EdgeId, reason: &'static str) {
        if let Some(session) = self.live().get(&edge) {
            session.end(reason);
        }
    }
}
