//! How a session opens: who it is, whether it may, what it is told first.

use super::session::message;
use super::sessions::{Claim, Live, Sessions};
use super::{EnrolError, Fleet, FleetError};
use crate::catalog::{CatalogError, EdgeStanding, Held};
use campanile_proto::edge::v1::{
    Desired, EdgeMessage, Hello, HubMessage, Pin, Replay, Welcome, edge_message, hub_message,
};
use campanile_proto::ids::{BootId, CameraId, EdgeId, Epoch};
use campanile_proto::time::MICROS_PER_HOUR;
use futures::{Stream, StreamExt};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The protocol this version speaks.
const PROTOCOL: u32 = 1;
/// Versions of software and features are shown to people.
const MAX_TEXT: usize = 100;

/// Ranges a welcome names, the newest: what it leaves out the box sends again, and it counts once.
const MAX_HELD_RANGES: usize = 4_096;

/// What a session starts from.
pub(super) struct Opening {
    pub next_sequence: u64,
    pub acknowledged_through: u64,
    /// Reports that were acknowledged once and are not held.
    pub lost: u64,
    /// A replay was asked for.
    pub replay: bool,
}

/// Why a session does not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("the hub is stopping")]
    Stopping,
    #[error("no hello in time")]
    NoHello,
    #[error("the hello is malformed: {0}")]
    Malformed(&'static str),
    #[error("the box speaks protocols {oldest} to {newest}, this hub {PROTOCOL}: update the older one")]
    Protocol { oldest: u32, newest: u32 },
    #[error("the box is revoked")]
    Revoked,
    #[error("the box is quarantined: {0}")]
    Quarantined(String),
    #[error("the box is gone")]
    Gone,
    #[error("the fleet failed: {0}")]
    Fleet(#[source] FleetError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[source] CatalogError),
    #[error("the keys failed: {0}")]
    Keys(#[source] EnrolError),
}

impl Rejected {
    /// What the box is told; faults of ours are not its concern.
    pub fn goodbye(&self) -> String {
        match self {
            Self::Revoked => "revoked".to_owned(),
            Self::Quarantined(_) => "quarantined".to_owned(),
            Self::NoHello | Self::Malformed(_) | Self::Protocol { .. } => self.to_string(),
            _ => "shutting down".to_owned(),
        }
    }
}

/// Whether the box was acknowledged what the catalogue does not hold: it was restored from an older copy. A
/// box that does not count is taken at the highest sequence, which can ask for too much and never too little
/// once it has reported anything since.
fn lost_some(held: &Held, hello: &Hello) -> bool {
    match hello.acknowledged_count {
        0 => held.ranges.highest().unwrap_or(0) < hello.acknowledged_through,
        count => held.accepted < count,
    }
}

/// A place taken by a session that does not stand yet: left, whatever ends the opening.
struct Taken<'a> {
    sessions: &'a Sessions,
    live: Option<Arc<Live>>,
}

impl Taken<'_> {
    fn stands(mut self) -> Option<Arc<Live>> {
        self.live.take()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            self.sessions.leave(live);
        }
    }
}

impl Fleet {
    pub(super) async fn open_session<E, S>(
        &self,
        edge: EdgeId,
        inbound: &mut S,
        out: &mpsc::Sender<HubMessage>,
    ) -> Result<(Arc<Live>, Opening), Rejected>
    where
        S: Stream<Item = Result<EdgeMessage, E>> + Unpin,
    {
        self.check_standing(edge).await?;
        let first = tokio::time::timeout(self.0.terms.hello, inbound.next()).await.map_err(|_| Rejected::NoHello)?;
        let hello = match first {
            Some(Ok(EdgeMessage { message: Some(edge_message::Message::Hello(hello)) })) => hello,
            Some(Ok(_)) => return Err(Rejected::Malformed("the first message is another one")),
            Some(Err(_)) | None => return Err(Rejected::Gone),
        };
        let epoch = Epoch::try_from(&hello.epoch).map_err(|_| Rejected::Malformed("epoch"))?;
        let boot = BootId::try_from(&hello.boot_id).map_err(|_| Rejected::Malformed("boot id"))?;
        if !(hello.oldest_protocol..=hello.newest_protocol).contains(&PROTOCOL) {
            return Err(Rejected::Protocol { oldest: hello.oldest_protocol, newest: hello.newest_protocol });
        }
        let held = self.0.catalog.held(edge, epoch).await.map_err(Rejected::Catalog)?;
        if let Some(highest) = held.ranges.highest().filter(|highest| *highest >= hello.next_sequence) {
            let reason = format!(
                "its database went back in time: it would next report number {}, and {highest} is held already; \
                 a copy of the box, or a restored one",
                hello.next_sequence
            );
            return Err(self.set_apart(edge, reason).await);
        }
        let live = self.take_place(edge, epoch, boot, &hello, out).await?;
        let taken = Taken { sessions: &self.0.sessions, live: Some(live) };
        // Whoever was revoked or quarantined between the first look and taking the place is not heard.
        self.check_standing(edge).await?;
        let replay = lost_some(&held, &hello);
        if !replay && hello.acknowledged_through > 0 {
            // Holes are revisions that newer ones took the place of: they join what is around them.
            let through = hello.acknowledged_through.min(hello.next_sequence.saturating_sub(1));
            self.0.catalog.settle(edge, epoch, through, 0).await.map_err(Rejected::Catalog)?;
        }
        let opening = Opening {
            next_sequence: hello.next_sequence,
            acknowledged_through: hello.acknowledged_through,
            lost: hello.acknowledged_count.saturating_sub(held.accepted),
            replay,
        };
        let welcome = Welcome {
            protocol: PROTOCOL,
            features: Vec::new(),
            catalogue_incarnation: self.0.catalog.incarnation().into(),
            held: held.ranges.newest(MAX_HELD_RANGES),
        };
        self.tell_first(edge, &hello, welcome, replay, out).await?;
        Ok((taken.stands().ok_or(Rejected::Gone)?, opening))
    }

    async fn tell_first(
        &self,
        edge: EdgeId,
        hello: &Hello,
        welcome: Welcome,
        replay: bool,
        out: &mpsc::Sender<HubMessage>,
    ) -> Result<(), Rejected> {
        let mut first = vec![message(hub_message::Message::Welcome(welcome))];
        first.extend(self.hub_time());
        let (keeper, held) = (self.0.keeper.clone(), hello.key_generation);
        let lifted = tokio::task::spawn_blocking(move || keeper.box_holds(edge, held)).await;
        if lifted.map_err(|_| Rejected::Stopping)?.map_err(|error| Rejected::Keys(EnrolError::Keys(error)))? {
            self.keys_changed();
        }
        if hello.key_generation < self.0.keeper.generation() {
            first.push(message(hub_message::Message::Keys(self.signed_keys(edge).await.map_err(Rejected::Keys)?)));
        }
        first.push(self.desired(edge));
        if replay {
            let retention_us = i64::from(self.0.retention_days) * 24 * MICROS_PER_HOUR;
            let since_us = self.0.clock.utc().plus_micros(-retention_us).0;
            first.push(message(hub_message::Message::Replay(Replay { since_us })));
        }
        for message in first {
            out.send(message).await.map_err(|_| Rejected::Gone)?;
        }
        Ok(())
    }

    /// What the hub wants of a box; the generation grows with every change of keys or retention.
    pub(super) fn desired(&self, edge: EdgeId) -> HubMessage {
        let generation = u64::from(self.0.keeper.generation());
        let wanted = self.0.wanted.borrow().clone();
        let pins = wanted.pins.iter().filter(|pin| self.has_footage_of(edge, pin)).cloned().collect();
        let its = |camera: &CameraId| self.0.catalog.owner(*camera) == Some(edge);
        let masked_camera_ids = wanted.masked.into_iter().filter(its).map(Into::into).collect();
        let retention_days = self.0.retention_days;
        message(hub_message::Message::Desired(Desired { generation, retention_days, pins, masked_camera_ids }))
    }

    /// Whether the pinned camera is the box's, or was.
    fn has_footage_of(&self, edge: EdgeId, pin: &Pin) -> bool {
        let Ok(camera) = CameraId::try_from(&pin.camera_id) else { return false };
        let catalog = &self.0.catalog;
        catalog.owner(camera) == Some(edge) || catalog.former_owners(camera).contains(&edge)
    }

    async fn check_standing(&self, edge: EdgeId) -> Result<(), Rejected> {
        if self.is_revoked(edge) {
            return Err(Rejected::Revoked);
        }
        match self.recognise(edge).await.map_err(Rejected::Fleet)?.standing {
            EdgeStanding::Good => Ok(()),
            EdgeStanding::Quarantined { reason, .. } => Err(Rejected::Quarantined(reason)),
            EdgeStanding::Revoked { .. } => Err(Rejected::Revoked),
        }
    }

    async fn set_apart(&self, edge: EdgeId, reason: String) -> Rejected {
        match self.quarantine(edge, &reason).await {
            Ok(()) => Rejected::Quarantined(reason),
            Err(error) => Rejected::Fleet(error),
        }
    }

    /// A box that restarted takes its place once the connection from before is known to be dead; one that
    /// stays alive beside it is another box.
    async fn take_place(
        &self,
        edge: EdgeId,
        epoch: Epoch,
        boot: BootId,
        hello: &Hello,
        out: &mpsc::Sender<HubMessage>,
    ) -> Result<Arc<Live>, Rejected> {
        let until = tokio::time::Instant::now() + self.0.terms.dead_known;
        let software: String = hello.software.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        loop {
            let before = match self.0.sessions.claim(edge, epoch, boot, &software, out, self.0.clock.utc().0) {
                Claim::Taken(live) => return Ok(live),
                Claim::Other(before) => before,
            };
            let waited = tokio::select! {
                () = before.ended.cancelled() => Ok(()),
                () = out.closed() => return Err(Rejected::Gone),
                () = tokio::time::sleep_until(until) => Err(()),
            };
            if waited.is_err() {
                let what = if before.epoch == epoch { "boots" } else { "databases" };
                let reason = format!("two boxes with one identity are connected, with different {what}: a copy");
                return Err(self.set_apart(edge, reason).await);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_that_fails_after_it_took_the_place_leaves_it() {
        let sessions = Sessions::default();
        let (edge, out) = (EdgeId::from_u128(1), mpsc::channel(1).0);
        let take = |boot| match sessions.claim(edge, Epoch::from_u128(2), BootId::from_u128(boot), "", &out, 0) {
            Claim::Taken(live) => Some(live),
            Claim::Other(_) => None,
        };
        drop(Taken { sessions: &sessions, live: take(1) });
        assert!(sessions.of(edge).is_none());
        let stands = Taken { sessions: &sessions, live: take(2) }.stands();
        assert!(stands.is_some() && sessions.of(edge).is_some());
        assert!(take(3).is_none(), "a restarted box waits for the one before");
    }
}
