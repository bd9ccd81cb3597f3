//! The round: copies what is missing, completes what is whole, ends what is over its end.

use super::account::open_from;
use super::take::LEAD_US;
use super::{Hold, Holds, HoldsError, Over, State, blocking};
use crate::register::LeafDraft;
use campanile_proto::edge::v1::Pin;
use campanile_proto::ids::{CameraId, HoldId, RequestId};
use campanile_proto::kind::Chain;
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Act, Phase};
use futures::StreamExt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// While something comes.
const ROUND: Duration = Duration::from_secs(2);
/// While nothing comes, such as from a box that is away.
const QUIET_ROUND: Duration = Duration::from_secs(15);
/// A hold whose interval is not longer past than this, or that was placed since, is looked at often.
const FRESH_US: i64 = 120 * MICROS_PER_SECOND;
/// Cameras that are copied at once: a dead box holds up none of the others.
const AT_ONCE: usize = 8;
/// How much of a copied stretch stays pinned: what its boxes' clocks may be off, and a segment's length.
const PINNED_BEFORE_US: i64 = 900 * MICROS_PER_SECOND;
/// Pins are told anew when they have moved this far.
const PINS_STEP_US: i64 = 600 * MICROS_PER_SECOND;

/// What somebody must look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldAlarm {
    #[error("hold {0} is incomplete: some of it was never copied, and its ordinary term is over; see holds show")]
    Incomplete(HoldId),
    #[error("the key of hold {0} is not in the key ring: what it kept cannot be opened")]
    KeyLost(HoldId),
}

impl HoldAlarm {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Incomplete(_) => "HOLD_INCOMPLETE",
            Self::KeyLost(_) => "HOLD_KEY_LOST",
        }
    }
}

impl Holds {
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let Some(busy) = stop.run_until_cancelled(self.round()).await else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(if busy { ROUND } else { QUIET_ROUND }) => {}
            }
        }
    }

    pub fn alarms(&self) -> Vec<HoldAlarm> {
        let standing: Vec<Hold> = self.standing().values().cloned().collect();
        let mut alarms = Vec::new();
        for hold in &standing {
            if self.state(hold) == State::Incomplete {
                alarms.push(HoldAlarm::Incomplete(hold.id));
            }
            if !self.0.parts.keeper.holds(hold.id) {
                alarms.push(HoldAlarm::KeyLost(hold.id));
            }
        }
        alarms
    }

    /// Each hold is tended whatever became of the others. Whether another round is worth it soon.
    pub async fn round(&self) -> bool {
        let standing: Vec<Hold> = self.standing().values().cloned().collect();
        let mut busy = false;
        for hold in standing {
            match self.tend(&hold).await {
                Ok(copied) => busy |= copied,
                Err(failure) => error!(hold = %hold.id, error = %Chain(&failure), "hold not tended"),
            }
            let fresh = self.now() - hold.placed.max(hold.terms.to) < FRESH_US;
            busy |= fresh && self.state(&hold) == State::Copying;
        }
        busy
    }

    /// Whether something was copied.
    async fn tend(&self, hold: &Hold) -> Result<bool, HoldsError> {
        // A clock that jumped must not end a hold: that nothing of it is shown any more is enough.
        if hold.terms.until <= self.now() {
            if crate::media::Keeper::may_destroy(&*self.0.parts.keeper) {
                let over = Over { at: self.now(), released_by: None, why: "its end has come".to_owned() };
                self.finish(hold.id, over).await?;
                self.note_down(Act::HoldEnded, hold).await;
            }
            return Ok(false);
        }
        if !self.0.parts.keeper.holds(hold.id) {
            // The alarm says so.
            return Ok(false);
        }
        match self.state(hold) {
            State::Copying => {}
            // A box may still report something of a stretch that was taken for a seam.
            State::Complete if !self.is_past_its_term(hold) => {}
            State::Incomplete => {
                for camera in &hold.terms.cameras {
                    self.narrow_rest(hold, *camera, |_| true).await?;
                }
                self.pin();
                return Ok(false);
            }
            _ => return Ok(false),
        }
        let copied = self.copy(hold).await;
        if !self.standing().contains_key(&hold.id) {
            // It was released while records were on their way.
            self.sweep(hold.id).await?;
        } else if copied || hold.complete.is_none() {
            self.reckon(hold).await?;
        }
        Ok(copied)
    }

    async fn copy(&self, hold: &Hold) -> bool {
        let cameras = futures::stream::iter(hold.terms.cameras.clone());
        let copies = cameras.map(|camera| self.copy_one(hold, camera)).buffer_unordered(AT_ONCE);
        copies.fold(false, |any, copied| std::future::ready(any | copied)).await
    }

    async fn copy_one(&self, hold: &Hold, camera: CameraId) -> bool {
        let key = (hold.id, camera);
        match self.copy_camera(hold, camera).await {
            Ok(copied) => {
                self.troubles().remove(&key);
                copied
            }
            Err(failure) => {
                let said = Chain(&failure).to_string();
                let before = self.troubles().insert(key, said.clone());
                if before.as_ref() != Some(&said) {
                    warn!(hold = %hold.id, %camera, error = said, "held footage not copied yet");
                }
                false
            }
        }
    }

    /// Looks what is missing, tells boxes, and says so once nothing is.
    async fn reckon(&self, hold: &Hold) -> Result<(), HoldsError> {
        let accounts = self.reckoned(hold).await?;
        let complete = accounts.iter().all(|account| open_from(&account.parts).is_none());
        let before = self.last_reckoned().insert(hold.id, accounts.clone());
        if before.as_ref() != Some(&accounts) {
            self.0.store.put_account(hold.id, accounts).await?;
        }
        if complete && hold.complete.is_none() {
            let now = self.now();
            self.0.store.complete(hold.id, now).await?;
            if let Some(standing) = self.standing().get_mut(&hold.id) {
                standing.complete = Some(now);
            }
            info!(hold = %hold.id, "hold complete");
            self.note_down(Act::HoldComplete, hold).await;
        }
        self.pin();
        Ok(())
    }

    /// Its key first, then what it kept; boxes hear of it.
    pub(super) async fn finish(&self, id: HoldId, over: Over) -> Result<(), HoldsError> {
        let keeper = self.0.parts.keeper.clone();
        blocking(move || keeper.destroy_hold(id)).await?.map_err(HoldsError::Keeper)?;
        info!(hold = %id, released_by = over.released_by, "hold over, its key destroyed");
        self.0.store.end(id, over).await?;
        self.standing().remove(&id);
        self.troubles().retain(|(hold, _), _| *hold != id);
        self.last_reckoned().remove(&id);
        self.pin();
        self.sweep(id).await
    }

    /// What a hold that is over left behind.
    async fn sweep(&self, id: HoldId) -> Result<(), HoldsError> {
        self.0.store.forget(id).await?;
        let vault = self.0.vault.clone();
        Ok(blocking(move || vault.remove(id)).await??)
    }

    async fn note_down(&self, act: Act, hold: &Hold) {
        let mut draft = LeafDraft::new(act, Phase::Done, RequestId::ordered());
        draft.hold = Some(hold.id);
        draft.cameras.clone_from(&hold.terms.cameras);
        draft.interval = Some((hold.terms.from, hold.terms.to));
        self.0.parts.door.note_down(draft).await;
    }

    /// Tells boxes what to keep: of each camera, from where on something may still have to be copied.
    pub(super) fn pin(&self) {
        let standing: Vec<Hold> = self.standing().values().cloned().collect();
        let reckoned = self.last_reckoned();
        let mut pins = Vec::new();
        for hold in standing.iter().filter(|hold| self.state(hold) == State::Copying) {
            let from = |camera: CameraId| match reckoned.get(&hold.id) {
                // Before it was looked at once, all of it.
                None => Some(hold.terms.from),
                Some(accounts) => {
                    let of_camera = accounts.iter().filter(|account| account.camera == camera);
                    of_camera.filter_map(|account| open_from(&account.parts)).min()
                }
            };
            pins.extend(hold.terms.cameras.iter().filter_map(|camera| Some(pin(hold, *camera, from(*camera)?))));
        }
        drop(reckoned);
        pins.sort_by(|a, b| (&a.hold_id, &a.camera_id).cmp(&(&b.hold_id, &b.camera_id)));
        self.0.parts.fleet.pin(pins);
    }
}

fn pin(hold: &Hold, camera: CameraId, open: WallTime) -> Pin {
    let step = WallTime(open.0.div_euclid(PINS_STEP_US) * PINS_STEP_US).plus_micros(-PINNED_BEFORE_US);
    let from = step.max(hold.terms.from.plus_micros(-LEAD_US));
    let (hold_id, camera_id) = (hold.id.into(), camera.into());
    Pin { hold_id, camera_id, from_us: from.0, to_us: hold.terms.to.0, until_us: hold.terms.until.0 }
}
