//! What goes on without anybody asking: leases swept, partners told, mandates renewed, registers witnessed.

use super::directory::Partner;
use super::lease::Ended;
use super::mandate::{Terms, current};
use super::owner::Owner;
use super::{Federation, read, write};
use campanile_proto::federation::v1::SignedEnvelope;
use campanile_proto::ids::OrganisationId;
use campanile_proto::kind::Chain;
use campanile_proto::signed;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SWEEP: Duration = Duration::from_secs(1);
/// Partners that could not be told are tried again this often.
const TELL: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3_600);

impl Federation {
    /// Runs until `stop`, then closes what is open.
    pub async fn run(self, owner: Arc<dyn Owner>, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.check_witnessed(&owner).await;
        let outward = async {
            let mut tell = tokio::time::interval(TELL);
            let mut renew = tokio::time::interval(RENEW);
            loop {
                tokio::select! {
                    _ = tell.tick() => self.tell_untold().await,
                    _ = renew.tick() => self.renew_all(&owner).await,
                }
            }
        };
        tokio::pin!(outward);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = sweep.tick() => self.sweep().await,
                () = &mut outward => {}
            }
        }
        self.end_all().await;
    }

    async fn sweep(&self) {
        let ended = self.0.leases.sweep(self.0.clock.mono());
        futures::future::join_all(ended.into_iter().map(Ended::close)).await;
    }

    /// At shutdown every register entry is closed in order.
    async fn end_all(&self) {
        let ended = self.0.leases.end_all();
        futures::future::join_all(ended.into_iter().map(Ended::close)).await;
    }

    async fn renew_all(&self, owner: &Arc<dyn Owner>) {
        if let Err(error) = self.renew_mandate().await {
            tracing::error!(error = %Chain(&error), "own mandate not renewed");
        }
        let checkpoint = match owner.checkpoint().await {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "no checkpoint of our register");
                None
            }
        };
        // One that does not answer holds up none of the others.
        let each = self.partners().into_iter().map(|partner| self.renew_with(owner, partner, checkpoint.as_ref()));
        futures::future::join_all(each).await;
    }

    async fn renew_with(&self, owner: &Arc<dyn Owner>, partner: Partner, checkpoint: Option<&SignedEnvelope>) {
        if let Err(error) = self.refresh(&partner).await {
            tracing::warn!(partner = %partner.id, error = %Chain(&error), "mandate not refreshed");
        }
        if let (Some(checkpoint), Some(partner)) = (checkpoint, self.partner(partner.id))
            && let Err(error) = self.be_witnessed(owner, &partner, checkpoint.clone()).await
        {
            tracing::warn!(partner = %partner.id, error = %Chain(&error), "register not witnessed");
        }
    }

    async fn renew_mandate(&self) -> Result<(), super::store::StoreError> {
        let held = self.mandate();
        let terms =
            Terms { endpoints: &self.0.endpoints, contacts: &self.0.contacts, tls_authority: &self.0.tls_authority };
        let newest = current(&self.0.identity, Some(&held), &terms, self.0.clock.utc());
        if newest != held {
            self.0.store.set_own_mandate(newest.clone()).await?;
            *write(&self.0.mandate) = newest;
        }
        Ok(())
    }

    /// A message whose signature did not hold may come from a partner whose hub has a new key: its mandate is
    /// asked for again, seldom enough that nobody can make this hub a nuisance.
    pub(super) fn suspect(&self, envelope: &SignedEnvelope) {
        let Some(signature) = envelope.signatures.first() else { return };
        let Ok(id) = OrganisationId::try_from(&signature.organisation_id) else { return };
        let Some(partner) = read(&self.0.directory).partners.get(&id).cloned() else { return };
        let hub_key = partner.hub_key(self.0.clock.utc());
        let same_key = hub_key.is_some_and(|key| signature.key_id.as_ref() == signed::key_id(&key));
        if same_key || !self.0.connections.may_refresh(id, self.0.clock.mono()) {
            return;
        }
        let federation = self.clone();
        tokio::spawn(async move {
            if let Err(error) = federation.refresh(&partner).await {
                tracing::warn!(partner = %partner.id, error = %Chain(&error), "mandate not refreshed");
            }
        });
    }
}
