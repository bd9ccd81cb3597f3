//! Does what the hub says.

use super::UplinkError;
use super::deliveries::{Deliveries, Refused};
use super::outbox::Window;
use super::session::{Uplink, Wishes, gone, said_goodbye};
use crate::keys::KeySet;
use crate::record::pinned;
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::hub_message::Message as Down;
use campanile_proto::edge::v1::{
    Ack, Applied, Desired, EdgeMessage, FetchRefused, HubMessage, HubTime, SequenceRange, SignedKeys,
};
use campanile_proto::ids::{CameraId, Epoch};
use campanile_proto::kind::Chain;
use campanile_proto::time::{MonoTime, WallTime};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};
use tonic::Streaming;

/// The hub's time is written down as an anchor this often; it comes each minute.
const ANCHOR_INTERVAL_US: i64 = 600_000_000;
/// What a message may wait on a living link beyond the round trip: the pings of the connection end one that
/// answers later.
const LINK_DELAY_US: i64 = 13_000_000;

/// Since when the hub can have read its clock.
pub(super) struct Asking {
    /// When the hello went out, until a time came.
    hello: Option<MonoTime>,
    round_trip_us: i64,
}

impl Asking {
    pub fn hello(at: MonoTime) -> Self {
        Self { hello: Some(at), round_trip_us: LINK_DELAY_US }
    }

    /// The earliest instant at which a time that came `now` was read. The first is the answer to the hello if a
    /// living link can have taken so long: a hub that doubts its clock speaks of it much later, or never. One that
    /// comes by itself is as old as its way was long: no later than the round trip and what a living link may queue,
    /// or the link would have been given up.
    fn earliest(&mut self, now: MonoTime) -> MonoTime {
        match self.hello.take() {
            Some(hello) if (0..=LINK_DELAY_US).contains(&(now - hello)) => {
                self.round_trip_us = now - hello;
                hello
            }
            _ => MonoTime(now.0 - self.round_trip_us - LINK_DELAY_US),
        }
    }
}

/// One session's obedience.
pub(super) struct Obey<'a> {
    pub uplink: &'a Uplink,
    pub window: &'a Mutex<Window>,
    pub room: &'a Notify,
    pub up: mpsc::Sender<EdgeMessage>,
    pub asking: Asking,
    pub last_anchor: MonoTime,
    pub deliveries: Deliveries,
}

impl Obey<'_> {
    pub async fn listen(&mut self, inbound: &mut Streaming<HubMessage>) -> UplinkError {
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                refused = self.deliveries.next() => {
                    self.refuse(refused);
                    continue;
                }
            };
            let outcome = match message {
                Ok(Some(message)) => self.obey(message.message).await,
                Ok(None) => Err(gone()),
                Err(status) => Err(UplinkError::from_status(&status)),
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    async fn obey(&mut self, message: Option<Down>) -> Result<(), UplinkError> {
        match message {
            Some(Down::Ack(ack)) => self.acknowledged(ack).await,
            Some(Down::Fetch(fetch)) => {
                let refused = self.deliveries.ask(fetch, self.uplink);
                self.refuse(refused);
                Ok(())
            }
            Some(Down::Cancel(cancel)) => {
                self.deliveries.cancel(&cancel.fetch_id);
                Ok(())
            }
            Some(Down::Replay(replay)) => {
                tracing::info!(since_us = replay.since_us, "the hub asks for everything again");
                self.uplink.index.offer_again(WallTime(replay.since_us)).await?;
                self.uplink.rescan.notify_one();
                Ok(())
            }
            Some(Down::Keys(keys)) => {
                self.take_keys(keys).await;
                Ok(())
            }
            Some(Down::Desired(desired)) => {
                self.take_desired(desired);
                Ok(())
            }
            Some(Down::Time(time)) => self.take_time(&time).await,
            Some(Down::Goodbye(goodbye)) => Err(said_goodbye(&goodbye.reason)),
            Some(Down::Welcome(_)) | None => Ok(()),
        }
    }

    async fn acknowledged(&mut self, ack: Ack) -> Result<(), UplinkError> {
        let Ok(epoch) = Epoch::try_from(&ack.epoch) else { return Ok(()) };
        if epoch != self.uplink.index.epoch() {
            return Ok(());
        }
        if ack.expired > 0 || ack.refused > 0 {
            tracing::warn!(expired = ack.expired, refused = ack.refused, "the hub did not keep some reports");
        }
        // First the durable rows: a report that is in neither place would be sent twice.
        let ranges: Vec<SequenceRange> = ack.ranges;
        let sent = {
            let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            window.sequences().filter(|s| ranges.iter().any(|range| (range.first..=range.last).contains(s))).count()
        };
        self.uplink.index.acknowledge_sent(epoch, ranges.clone(), sent as u64).await?;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.iter().for_each(|range| window.acknowledged(range.first, range.last));
        drop(window);
        self.room.notify_one();
        Ok(())
    }

    /// Tells the hub, if there is place: a message that waited would hold up its goodbye. A hub that hears nothing
    /// gives a fetch up by itself.
    fn refuse(&self, refused: Option<Refused>) {
        let Some(Refused { ids, reason }) = refused else { return };
        for fetch_id in ids {
            let message = Some(Up::FetchRefused(FetchRefused { fetch_id, reason: reason.to_owned() }));
            if self.up.try_send(EdgeMessage { message }).is_err() {
                tracing::warn!(reason, "the hub could not be told of a refused fetch");
            }
        }
    }

    /// Keys of an older generation never replace newer ones.
    async fn take_keys(&self, signed: SignedKeys) {
        let identity = self.uplink.identity();
        let keys = match KeySet::verify(&signed, &identity.organisation_key, identity.edge) {
            Ok(keys) => keys,
            Err(error) => return tracing::error!(error = %Chain(&error), "sealing keys refused"),
        };
        let known = self.uplink.keys.borrow().as_ref().map_or(0, |keys| keys.generation);
        if keys.generation < known {
            return tracing::warn!(known, delivered = keys.generation, "older sealing keys ignored");
        }
        let folder = self.uplink.folder.clone();
        match tokio::task::spawn_blocking(move || folder.store_keys(&signed)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %Chain(&error), "sealing keys are used but not kept"),
            Err(error) => tracing::error!(%error, "sealing keys are used but not kept"),
        }
        self.uplink.keys.send_replace(Some(Arc::new(keys)));
    }

    fn take_desired(&self, desired: Desired) {
        let mut problems = Vec::new();
        let generation = desired.generation;
        if generation >= self.uplink.wishes.borrow().generation {
            let (pins, unread) = pinned::read(&desired.pins);
            if unread > 0 {
                problems.push(format!("{unread} pins cannot be read"));
            }
            let masked: BTreeSet<CameraId> =
                desired.masked_camera_ids.iter().filter_map(|id| CameraId::try_from(id).ok()).collect();
            if masked.len() < desired.masked_camera_ids.len() {
                problems.push("some of masked_camera_ids are none, or named twice".to_owned());
            }
            let mut wishes = Wishes { pins, masked, ..self.uplink.wishes.borrow().clone() };
            if (1..=7).contains(&desired.retention_days) {
                (wishes.generation, wishes.retention_days) = (generation, desired.retention_days);
            } else {
                problems.push(format!("retention_days is {}, not 1 to 7", desired.retention_days));
            }
            self.uplink.wishes.send_replace(wishes);
        }
        let applied = EdgeMessage { message: Some(Up::Applied(Applied { generation, problems })) };
        // Said again with the next wish; a full link must not hold up the hub's other words.
        if self.up.try_send(applied).is_err() {
            tracing::warn!(generation, "the hub could not be told that its wish was applied");
        }
    }

    async fn take_time(&mut self, time: &HubTime) -> Result<(), UplinkError> {
        let now = self.uplink.clock.mono();
        let asked = self.asking.earliest(now);
        let key = self.uplink.identity().organisation_key;
        let Some(anchor) = self.uplink.timekeeper.take_hub_time(time, asked, &key) else {
            tracing::error!("the hub's time is not signed by this box's organisation and is ignored");
            return Ok(());
        };
        if now.0.saturating_sub(self.last_anchor.0) < ANCHOR_INTERVAL_US {
            return Ok(());
        }
        self.last_anchor = now;
        let fact = crate::facts::Fact::Anchor(anchor);
        self.uplink.index.take(vec![fact], self.uplink.clock.utc(), now).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    #[test]
    fn a_first_time_that_comes_an_hour_after_the_hello_is_not_taken_for_its_answer() {
        let at = |seconds: i64| MonoTime(seconds * SECOND_US);
        let mut late = Asking::hello(at(0));
        assert_eq!(late.earliest(at(3_600)).0, at(3_600).0 - 2 * LINK_DELAY_US, "it is as old as a link can make it");
        assert_eq!(late.earliest(at(3_660)).0, at(3_660).0 - 2 * LINK_DELAY_US, "nor does it spoil the next");
        // Control: an answer in time says how long the way is.
        let mut prompt = Asking::hello(at(0));
        assert_eq!(prompt.earliest(at(1)), at(0));
        assert_eq!(prompt.earliest(at(60)).0, at(59).0 - LINK_DELAY_US);
    }
}
