//! The door: decides, writes the register entry, and only then lets in.

use super::ask::{Action, Decision, Principal, Refusal, Request};
use super::policy::{LiveAgreement, Policy};
use super::{decide, stands};
use crate::register::{LeafDraft, Register};
use campanile_proto::ids::{CameraId, EdgeId, OrganisationId, RequestId};
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::{Clock, MICROS_PER_SECOND, MonoTime, WallTime};
use campanile_proto::types::v1::{Act, Phase};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tracing::error;

/// A box that is refused tries again for ever: one entry an hour for each thing it tries says as much.
const BOX_NOTED_EVERY_US: i64 = 3_600 * MICROS_PER_SECOND;

/// What decides: [`decide`].
pub(super) type Judge = Arc<dyn Fn(&Policy, &Request, WallTime) -> Decision + Send + Sync>;

/// Cheap to clone; every clone is the same door.
#[derive(Clone)]
pub struct Door {
    policy: Arc<watch::Sender<Arc<Policy>>>,
    register: Register,
    clock: Arc<dyn Clock>,
    open: OpenEntries,
    judge: Judge,
    refused_boxes: Arc<Mutex<HashMap<(EdgeId, Action), MonoTime>>>,
}

/// Entries that were opened and not closed, by request.
type OpenEntries = Arc<Mutex<HashMap<RequestId, usize>>>;

fn locked(open: &OpenEntries) -> MutexGuard<'_, HashMap<RequestId, usize>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An access whose entry is durable and open: what a keeper of keys demands. Only the door makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered(RequestId);

impl Registered {
    pub fn request_id(self) -> RequestId {
        self.0
    }
}

/// One open entry; it is not any more when this goes.
struct Open {
    request: RequestId,
    open: OpenEntries,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = locked(&self.open);
        if let Some(count) = open.get_mut(&self.request) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.request);
            }
        }
    }
}

/// Let in: what for, and the register entry that closes when this goes away.
pub struct Pass {
    request: Request,
    clause: String,
    cameras: Vec<CameraId>,
    /// None for what leaves no entry.
    closing: Option<(Register, LeafDraft)>,
    _open: Option<Open>,
    items: AtomicU64,
    bytes: AtomicU64,
}

impl Door {
    pub fn new(organisation: OrganisationId, retention_days: u32, register: Register, clock: Arc<dyn Clock>) -> Self {
        let policy = Policy { organisation, agreements: Vec::new(), retention_days };
        let policy = Arc::new(watch::Sender::new(Arc::new(policy)));
        Self {
            policy,
            register,
            clock,
            judge: Arc::new(decide),
            refused_boxes: Arc::default(),
            open: OpenEntries::default(),
        }
    }

    #[cfg(test)]
    pub fn judged_by(self, shutter: &Arc<super::Shutter>) -> Self {
        Self { judge: shutter.judge(), ..self }
    }

    /// Replaces what partners may do; decisions from now on rest on it.
    pub fn set_agreements(&self, agreements: Vec<LiveAgreement>) {
        self.policy.send_modify(|policy| {
            *policy = Arc::new(Policy { agreements, ..Policy::clone(policy) });
        });
    }

    /// Tells of every change of policy: what goes on for long asks again then.
    pub fn policy(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    /// Whether this principal may do such a thing at all: before a request is read as far as [`Door::enter`]
    /// needs. A refusal leaves its entry.
    pub async fn admits(&self, principal: &Principal, action: Action) -> Result<(), Refusal> {
        match stands(principal, action) {
            Ok(_) => Ok(()),
            Err(refusal) => {
                self.note_refused(&Request::new(principal.clone(), action), &refusal).await;
                Err(refusal)
            }
        }
    }

    /// Decides; for what shows footage or events, or changes something, an entry is on the disk before this
    /// returns, allowed or not.
    pub async fn enter(&self, request: Request) -> Result<Pass, Refusal> {
        let policy = self.policy.borrow().clone();
        match (self.judge)(&policy, &request, self.clock.utc()) {
            Decision::Allow { clause, cameras } => self.open(request, clause, cameras).await,
            Decision::Refuse(refusal) => {
                self.note_refused(&request, &refusal).await;
                Err(refusal)
            }
        }
    }

    async fn note_refused(&self, request: &Request, refusal: &Refusal) {
        if !self.is_worth_noting(request) {
            return;
        }
        let mut draft = draft(request.action.refused_act(), Phase::Refused, request);
        draft.clause.clone_from(&refusal.clause);
        draft.reason = refusal.code.to_owned();
        if let Err(e) = self.register.append(draft).await {
            error!(error = %Chain(&e), code = refusal.code, "refusal not registered");
        }
    }

    /// A stranger is not identified by anything, and could fill the disk.
    fn is_worth_noting(&self, request: &Request) -> bool {
        let edge = match request.principal {
            Principal::Nobody => return false,
            Principal::Edge { id, .. } => id,
            _ => return true,
        };
        let now = self.clock.mono();
        let mut noted = self.refused_boxes.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now - *at < BOX_NOTED_EVERY_US);
        let first = !noted.contains_key(&(edge, request.action));
        if first {
            noted.insert((edge, request.action), now);
        }
        first
    }

    async fn open(&self, request: Request, clause: String, cameras: Vec<CameraId>) -> Result<Pass, Refusal> {
        let (mut closing, mut stays_open) = (None, None);
        if let Some(act) = request.action.act() {
            let mut opened = draft(act, Phase::Opened, &request);
            opened.clause.clone_from(&clause);
            opened.cameras.clone_from(&cameras);
            self.register.append(opened.clone()).await.map_err(|e| {
                error!(error = %Chain(&e), "access not registered, so not allowed");
                Refusal::new(Kind::Unavailable, "UNAVAILABLE", "the register cannot be written, so nothing is shown")
            })?;
            let closed = LeafDraft { phase: Phase::Closed, cameras: Vec::new(), interval: None, ..opened };
            closing = Some((self.register.clone(), closed));
            *locked(&self.open).entry(request.id).or_default() += 1;
            stays_open = Some(Open { request: request.id, open: self.open.clone() });
        }
        let (items, bytes) = Default::default();
        Ok(Pass { request, clause, cameras, closing, _open: stays_open, items, bytes })
    }

    /// The access of this id, while its entry is open.
    pub fn registered(&self, request: RequestId) -> Option<Registered> {
        locked(&self.open).contains_key(&request).then_some(Registered(request))
    }

    /// An act complete in one entry, such as a sign-in that succeeded (`reason` empty) or failed.
    pub async fn note(&self, act: Act, operator: &str, reason: &str) {
        let phase = if reason.is_empty() { Phase::Done } else { Phase::Refused };
        let mut draft = LeafDraft::new(act, phase, RequestId::ordered());
        draft.operator = operator.chars().take(MAX_NOTED_CHARACTERS).collect();
        draft.reason = reason.to_owned();
        self.note_down(draft).await;
    }

    /// An act of the hub's own that is complete in one entry.
    pub async fn note_down(&self, draft: LeafDraft) {
        if let Err(e) = self.register.append(draft).await {
            error!(error = %Chain(&e), "act not registered");
        }
    }
}

/// A stranger's text must not grow the register.
const MAX_NOTED_CHARACTERS: usize = 64;

fn draft(act: Act, phase: Phase, request: &Request) -> LeafDraft {
    let mut draft = LeafDraft::new(act, phase, request.id);
    draft.operator = request.operator_pseudonym.clone().unwrap_or_else(|| request.principal.label());
    draft.purpose = request.purpose;
    // An invalid case number of any length is refused, and not worth keeping whole.
    draft.case_number = request.case_number.as_ref().map(|case| case.chars().take(MAX_NOTED_CHARACTERS).collect());
    draft.requester = match request.principal {
        Principal::Partner { organisation } => Some(organisation),
        _ => None,
    };
    // What a search asked for in vain is named up to this many.
    draft.cameras = request.cameras.iter().take(MAX_NOTED_CAMERAS).copied().collect();
    draft.interval = request.interval;
    draft.agreement = request.agreement;
    draft.hold = request.hold;
    draft
}

const MAX_NOTED_CAMERAS: usize = 100;

impl Pass {
    /// What of the request is within the clause; empty for our own people: every camera.
    pub fn cameras(&self) -> &[CameraId] {
        &self.cameras
    }

    pub fn clause(&self) -> &str {
        &self.clause
    }

    pub fn request_id(&self) -> RequestId {
        self.request.id
    }

    /// What was asked, as it was decided on.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Counts what was released; stands in the closing entry.
    pub fn count(&self, items: u64, bytes: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Closes, with what was released beyond what was counted before; returns when the entry is durable.
    pub async fn close(mut self, items: u64, bytes: u64) {
        self.count(items, bytes);
        let Some((register, draft)) = self.closing_entry() else { return };
        if let Err(e) = register.append(draft).await {
            error!(error = %Chain(&e), "access not closed in the register");
        }
    }

    fn closing_entry(&mut self) -> Option<(Register, LeafDraft)> {
        let (register, mut draft) = self.closing.take()?;
        draft.items = self.items.load(Ordering::Relaxed);
        draft.bytes_sent = self.bytes.load(Ordering::Relaxed);
        Some((register, draft))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((register, draft)) = self.closing_entry() {
            register.append_later(draft);
        }
    }
}
