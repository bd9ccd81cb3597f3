//! The session: dial, greet, report, obey, again and again.

use super::deliveries::Deliveries;
use super::obey::{Asking, Obey};
use super::outbox::Window;
use super::patience::Patience;
use super::reports::{BATCH, Reports};
use super::{PROTOCOL, UplinkError};
use crate::clock::Timekeeper;
use crate::identity::{self, Identity, IdentityFolder};
use crate::index::Index;
use crate::keys::KeySet;
use crate::record::pinned::Pin;
use campanile_proto::edge::v1::edge_client::EdgeClient;
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::hub_message::Message as Down;
use campanile_proto::edge::v1::{EdgeMessage, Hello, HubMessage, SequenceRange, Welcome};
use campanile_proto::ids::{CameraId, Epoch};
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::{Clock, MonoTime};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);

/// How the link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Connecting,
    Connected,
    /// With the cause, for the installer.
    Apart(String),
}

/// What the hub wants of this box.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Wishes {
    pub generation: u64,
    /// 0: none said yet.
    pub retention_days: u32,
    /// What holds cover and the hub has not copied yet.
    pub pins: Vec<Pin>,
    /// Cameras that record nothing for now.
    pub masked: BTreeSet<CameraId>,
}

/// The uplink's parts; `run` is its life.
#[derive(Clone)]
pub struct Uplink {
    pub folder: IdentityFolder,
    /// Changes with each renewed certificate.
    pub identity: watch::Sender<Identity>,
    pub index: Index,
    pub clock: Arc<dyn Clock>,
    pub timekeeper: Arc<Timekeeper>,
    pub keys: watch::Sender<Option<Arc<KeySet>>>,
    pub wishes: watch::Sender<Wishes>,
    pub standing: watch::Sender<Standing>,
    /// The media folder is walked again when this is told.
    pub rescan: Arc<Notify>,
}

impl Uplink {
    /// Keeps a session open until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut patience = Patience::default();
        let mut renew_first = false;
        while !stop.is_cancelled() {
            self.standing.send_replace(Standing::Connecting);
            let mut welcomed: Option<tokio::time::Instant> = None;
            let outcome = tokio::select! {
                outcome = self.once(renew_first, &mut welcomed) => outcome,
                () = stop.cancelled() => return,
            };
            let Err(error) = outcome;
            // A hub that does not know us may only find our certificate expired; our own clock cannot tell.
            renew_first = !renew_first && matches!(error.kind(), Kind::Unauthenticated | Kind::Expired);
            let text = Chain(&error).to_string();
            let wait = patience.wait(welcomed.map(|since| since.elapsed()), &error, random());
            tracing::warn!(error = %text, wait_ms = wait.as_millis() as u64, "no session with the hub");
            self.standing.send_replace(Standing::Apart(text));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One session, from dialling to its end; notes when the hub said welcome.
    async fn once(
        &self,
        renew_first: bool,
        welcomed: &mut Option<tokio::time::Instant>,
    ) -> Result<std::convert::Infallible, UplinkError> {
        let mut channel = self.dial().await?;
        let identity = self.identity();
        let mut validity = identity.validity()?;
        if renew_first || identity::is_due(validity, self.timekeeper.reckoned().at) {
            match identity::renew(&self.folder, &identity, channel.clone()).await {
                Ok(renewed) => {
                    validity = renewed.validity()?;
                    self.identity.send_replace(renewed);
                    tracing::info!("certificate renewed");
                    channel = self.dial().await?;
                }
                // A certificate at half-life still opens a session.
                Err(error) => tracing::warn!(error = %Chain(&error), "certificate not renewed"),
            }
        }
        let mut epochs = self.index.epochs();
        epochs.borrow_and_update();
        let (up, outbound) = mpsc::channel(BATCH);
        let asked = self.clock.mono();
        let (epoch, hello) = self.hello().await?;
        let _ = up.send(EdgeMessage { message: Some(Up::Hello(hello)) }).await;
        let mut client = EdgeClient::new(channel);
        let mut inbound = tokio::time::timeout(WELCOME_TIMEOUT, client.session(ReceiverStream::new(outbound)))
            .await
            .map_err(|_| UplinkError::NoWelcome(WELCOME_TIMEOUT.as_secs()))?
            .map_err(|status| UplinkError::from_status(&status))?
            .into_inner();
        let welcome = tokio::time::timeout(WELCOME_TIMEOUT, expect_welcome(&mut inbound))
            .await
            .map_err(|_| UplinkError::NoWelcome(WELCOME_TIMEOUT.as_secs()))??;
        if welcome.protocol != PROTOCOL {
            return Err(UplinkError::Protocol(welcome.protocol));
        }
        let held = held_count(&welcome.held);
        tracing::info!(hub = %identity.organisation_name, held, "session with the hub");
        self.index.acknowledge(epoch, welcome.held).await?;
        *welcomed = Some(tokio::time::Instant::now());
        self.standing.send_replace(Standing::Connected);
        let window = Mutex::new(Window::default());
        let room = Notify::new();
        let mut obey = Obey {
            uplink: self,
            window: &window,
            room: &room,
            up: up.clone(),
            asking: Asking::hello(asked),
            last_anchor: MonoTime(i64::MIN),
            deliveries: Deliveries::new(self.index.clone()),
        };
        let renewals = async {
            loop {
                tokio::time::sleep(RENEWAL_CHECK).await;
                if identity::is_due(validity, self.timekeeper.reckoned().at) {
                    // The next session begins with renewing.
                    return UplinkError::RenewalDue;
                }
            }
        };
        let reports = Reports { index: &self.index, epoch, window: &window, room: &room, up };
        Err(tokio::select! {
            error = reports.send() => error,
            error = obey.listen(&mut inbound) => error,
            error = renewals => error,
            // Its sequences mean nothing in the session that greeted with the one before.
            _ = epochs.changed() => UplinkError::IndexMadeAnew,
        })
    }

    pub(super) async fn dial(&self) -> Result<Channel, UplinkError> {
        let identity = self.identity();
        Ok(identity::connect(&identity.hub, identity.pin()?, Some(&identity), self.timekeeper.reckoned()).await?)
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.borrow().clone()
    }

    /// And the epoch it greets with.
    async fn hello(&self) -> Result<(Epoch, Hello), UplinkError> {
        let progress = self.index.progress().await?;
        let hello = Hello {
            oldest_protocol: PROTOCOL,
            newest_protocol: PROTOCOL,
            features: Vec::new(),
            epoch: progress.epoch.into(),
            next_sequence: progress.next_sequence,
            acknowledged_through: progress.acknowledged_through,
            acknowledged_count: progress.acknowledged_count,
            boot_id: self.clock.boot().into(),
            software: concat!("campanile-edge ", env!("CARGO_PKG_VERSION")).to_owned(),
            now: Some(self.clock.instant(self.timekeeper.belief().1)),
            desired_generation: self.wishes.borrow().generation,
            key_generation: self.keys.borrow().as_ref().map_or(0, |keys| keys.generation),
        };
        Ok((progress.epoch, hello))
    }
}

async fn expect_welcome(inbound: &mut Streaming<HubMessage>) -> Result<Welcome, UplinkError> {
    loop {
        let message = inbound.message().await.map_err(|status| UplinkError::from_status(&status))?;
        match message.ok_or_else(gone)?.message {
            Some(Down::Welcome(welcome)) => return Ok(welcome),
            Some(Down::Goodbye(goodbye)) => return Err(said_goodbye(&goodbye.reason)),
            _ => {}
        }
    }
}

/// The hub's ranges, counted; whatever they claim.
fn held_count(held: &[SequenceRange]) -> u64 {
    let length = |range: &SequenceRange| range.last.saturating_sub(range.first).saturating_add(1);
    held.iter().map(length).fold(0, u64::saturating_add)
}

pub(super) fn gone() -> UplinkError {
    UplinkError::Ended { kind: Kind::Unavailable, sentence: "the stream is over".into() }
}

pub(super) fn said_goodbye(reason: &str) -> UplinkError {
    match reason {
        "shutting down" => UplinkError::Ended { kind: Kind::Unavailable, sentence: reason.to_owned() },
        other => UplinkError::Goodbye(other.chars().filter(|c| !c.is_control()).take(200).collect()),
    }
}

fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_of_an_earlier_version_are_read_and_pins_and_masks_survive_a_restart() {
        let earlier: Wishes = serde_json::from_str(r#"{"generation":3,"retention_days":5}"#).unwrap();
        assert_eq!(earlier, Wishes { generation: 3, retention_days: 5, ..Wishes::default() });
        let pin = Pin {
            hold: campanile_proto::ids::HoldId::from_u128(1),
            camera: CameraId::from_u128(2),
            from: campanile_proto::time::WallTime(5),
            to: campanile_proto::time::WallTime(9),
            until: campanile_proto::time::WallTime(100),
        };
        let masked = [CameraId::from_u128(3)].into();
        let pinned = Wishes { pins: vec![pin], masked, ..earlier };
        let read: Wishes = serde_json::from_slice(&serde_json::to_vec(&pinned).unwrap()).unwrap();
        assert_eq!(read, pinned);
    }

    #[test]
    fn a_hub_that_claims_to_hold_everything_does_not_end_the_box() {
        let range = |first, last| SequenceRange { first, last };
        assert_eq!(held_count(&[range(1, 9), range(12, 12), range(5, 4)]), 11);
        assert_eq!(held_count(&[range(0, u64::MAX), range(0, u64::MAX)]), u64::MAX);
    }
}
