//! Does what the hub says.

use super::UplinkError;
use super::deliveries::Deliveries;
use super::outbox::Window;
use super::session::{Uplink, Wishes, gone, said_goodbye};
use crate::keys::KeySet;
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::hub_message::Message as Down;
use campanile_proto::edge::v1::{
    Ack, Applied, Desired, EdgeMessage, Fetch, FetchRefused, HubMessage, HubTime, SequenceRange, SignedKeys,
};
use campanile_proto::ids::Epoch;
use campanile_proto::kind::Chain;
use campanile_proto::time::{MonoTime, WallTime};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};
use tonic::Streaming;

/// The hub's time is written down as an anchor this often; it comes each minute.
const ANCHOR_INTERVAL_US: i64 = 600_000_000;
/// On a living link a message is not later than this beyond the round trip.
const LINK_DELAY_US: i64 = 500_000;

/// One session's obedience.
pub(super) struct Obey<'a> {
    pub uplink: &'a Uplink,
    pub window: &'a Mutex<Window>,
    pub room: &'a Notify,
    pub up: mpsc::Sender<EdgeMessage>,
    /// When the hello went out, until the first time came back.
    pub asked: Option<MonoTime>,
    pub round_trip_us: i64,
    pub last_anchor: MonoTime,
    pub deliveries: Deliveries,
}

impl Obey<'_> {
    pub async fn listen(&mut self, inbound: &mut Streaming<HubMessage>) -> UplinkError {
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                () = self.deliveries.joined() => continue,
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
            Some(Down::Fetch(fetch)) => self.fetch(fetch).await,
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
                self.take_keys(&keys);
                Ok(())
            }
            Some(Down::Desired(desired)) => self.take_desired(desired).await,
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

    async fn fetch(&mut self, fetch: Fetch) -> Result<(), UplinkError> {
        if let Err(fetch_id) = self.deliveries.ask(fetch) {
            let reason = "too many fetches wait at this box".to_owned();
            let message = Some(Up::FetchRefused(FetchRefused { fetch_id, reason }));
            self.up.send(EdgeMessage { message }).await.map_err(|_| gone())?;
        }
        if let Err(error) = self.deliveries.begin(self.uplink).await {
            tracing::warn!(error = %Chain(&error), "no second connection for footage");
            for fetch_id in self.deliveries.give_up() {
                let reason = "the box cannot open a second connection".to_owned();
                let message = Some(Up::FetchRefused(FetchRefused { fetch_id, reason }));
                self.up.send(EdgeMessage { message }).await.map_err(|_| gone())?;
            }
        }
        Ok(())
    }

    /// Keys of an older generation never replace newer ones.
    fn take_keys(&self, signed: &SignedKeys) {
        let identity = self.uplink.identity();
        let keys = match KeySet::verify(signed, &identity.organisation_key, identity.edge) {
            Ok(keys) => keys,
            Err(error) => return tracing::error!(error = %Chain(&error), "sealing keys refused"),
        };
        let known = self.uplink.keys.borrow().as_ref().map_or(0, |keys| keys.generation);
        if keys.generation < known {
            return tracing::warn!(known, delivered = keys.generation, "older sealing keys ignored");
        }
        if let Err(error) = self.uplink.folder.store_keys(signed) {
            tracing::error!(error = %Chain(&error), "sealing keys are used but not kept");
        }
        self.uplink.keys.send_replace(Some(Arc::new(keys)));
    }

    async fn take_desired(&self, desired: Desired) -> Result<(), UplinkError> {
        let mut problems = Vec::new();
        let generation = desired.generation;
        if generation >= self.uplink.wishes.borrow().generation {
            if (1..=7).contains(&desired.retention_days) {
                let wishes = Wishes { generation, retention_days: desired.retention_days };
                self.uplink.wishes.send_replace(wishes);
            } else {
                problems.push(format!("retention_days is {}, not 1 to 7", desired.retention_days));
            }
        }
        let applied = Up::Applied(Applied { generation, problems });
        self.up.send(EdgeMessage { message: Some(applied) }).await.map_err(|_| gone())
    }

    async fn take_time(&mut self, time: &HubTime) -> Result<(), UplinkError> {
        let now = self.uplink.clock.mono();
        let asked = match self.asked.take() {
            Some(asked) => {
                self.round_trip_us = now - asked;
                asked
            }
            None => MonoTime(now.0 - self.round_trip_us - LINK_DELAY_US),
        };
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
