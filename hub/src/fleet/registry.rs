//! Who belongs to the fleet, and whether they are listened to.

use super::{Fleet, FleetError};
use crate::catalog::{EdgeRow, EdgeStanding, Mask};
use campanile_proto::ids::{CameraId, EdgeId};
use std::sync::PoisonError;

impl Fleet {
    /// What the registry says of a box.
    pub fn registered(&self, edge: EdgeId) -> Option<EdgeRow> {
        self.0.registry.read().unwrap_or_else(PoisonError::into_inner).get(&edge).cloned()
    }

    pub fn is_revoked(&self, edge: EdgeId) -> bool {
        let standing = self.registered(edge).map(|row| row.standing);
        self.0.revocations.contains(edge) || matches!(standing, Some(EdgeStanding::Revoked { .. }))
    }

    pub(super) fn rows(&self) -> Vec<EdgeRow> {
        self.0.registry.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn mirror(&self, row: EdgeRow) {
        self.0.registry.write().unwrap_or_else(PoisonError::into_inner).insert(row.id, row);
    }

    async fn put(&self, row: EdgeRow) -> Result<(), FleetError> {
        self.mirror(row.clone());
        self.0.catalog.put_edge(row).await.map_err(FleetError::Catalog)
    }

    pub(super) async fn apply_revocations(&self) -> Result<(), FleetError> {
        for id in self.0.revocations.all() {
            self.0.keeper.revoked(id);
            let row = self.registered(id).unwrap_or_else(|| self.found_again(id));
            if !matches!(row.standing, EdgeStanding::Revoked { .. }) {
                let standing = EdgeStanding::Revoked { since: self.0.clock.utc() };
                self.put(EdgeRow { standing, ..row }).await?;
            }
        }
        Ok(())
    }

    /// A box whose certificate is ours and which the registry does not know: the catalogue is older than
    /// its enrolment.
    fn found_again(&self, id: EdgeId) -> EdgeRow {
        let name = format!("box {id}");
        EdgeRow { id, name, site_name: String::new(), enrolled: self.0.clock.utc(), standing: EdgeStanding::Good }
    }

    /// The registry's row, made when a restored catalogue has none.
    pub(super) async fn recognise(&self, edge: EdgeId) -> Result<EdgeRow, FleetError> {
        if let Some(row) = self.registered(edge) {
            return Ok(row);
        }
        tracing::warn!(%edge, "box with a certificate of ours is not registered: registered again");
        let row = self.found_again(edge);
        self.put(row.clone()).await?;
        Ok(row)
    }

    /// Ends the box's session and fetches, and hears it no more. For good: a box that comes back is
    /// enrolled again.
    pub async fn revoke(&self, id: EdgeId) -> Result<(), FleetError> {
        let row = self.registered(id).ok_or(FleetError::UnknownEdge(id))?;
        self.0.revocations.add(id).map_err(FleetError::Revocations)?;
        self.0.keeper.revoked(id);
        self.mirror(EdgeRow { standing: EdgeStanding::Revoked { since: self.0.clock.utc() }, ..row.clone() });
        self.0.sessions.end(id, "revoked");
        self.0.fetches.end(id);
        tracing::warn!(edge = %id, "box revoked");
        self.put(EdgeRow { standing: EdgeStanding::Revoked { since: self.0.clock.utc() }, ..row }).await
    }

    /// Hears no box of this identity until a person decides.
    pub(super) async fn quarantine(&self, id: EdgeId, reason: &str) -> Result<(), FleetError> {
        let row = self.recognise(id).await?;
        if matches!(row.standing, EdgeStanding::Revoked { .. }) {
            return Ok(());
        }
        tracing::error!(edge = %id, reason, "box quarantined");
        let since = self.0.clock.utc();
        let stored =
            self.put(EdgeRow { standing: EdgeStanding::Quarantined { since, reason: reason.to_owned() }, ..row });
        let stored = stored.await;
        self.0.sessions.end(id, "quarantined");
        self.0.fetches.end(id);
        stored
    }

    /// Gives a camera to a box that is listened to: its device moved to another cabinet.
    pub async fn move_camera(&self, camera: CameraId, to: EdgeId) -> Result<(), FleetError> {
        let row = self.registered(to).ok_or(FleetError::UnknownEdge(to))?;
        if self.is_revoked(to) || row.standing != EdgeStanding::Good {
            return Err(FleetError::NotGood(to));
        }
        let moved = self.0.catalog.move_camera(camera, to).await.map_err(FleetError::Catalog)?;
        if !moved {
            return Err(FleetError::UnknownCamera(camera));
        }
        // A masked one is masked there as well, and both boxes are told whose it is.
        self.0.wanted.send_modify(|_| {});
        Ok(())
    }

    /// Nothing is recorded of a camera until it is unmasked; its box is told, now or when it connects.
    pub async fn mask(&self, mask: Mask) -> Result<(), FleetError> {
        let camera = mask.camera;
        if !self.0.catalog.mask(mask).await.map_err(FleetError::Catalog)? {
            return Err(FleetError::UnknownCamera(camera));
        }
        self.0.wanted.send_if_modified(|wanted| wanted.masked.insert(camera));
        Ok(())
    }

    pub async fn unmask(&self, camera: CameraId) -> Result<(), FleetError> {
        if !self.0.catalog.unmask(camera).await.map_err(FleetError::Catalog)? {
            return Err(FleetError::NotMasked(camera));
        }
        self.0.wanted.send_if_modified(|wanted| wanted.masked.remove(&camera));
        Ok(())
    }

    /// Ends a quarantine, once a person took the other box away.
    pub async fn release(&self, id: EdgeId) -> Result<(), FleetError> {
        let row = self.registered(id).ok_or(FleetError::UnknownEdge(id))?;
        if !matches!(row.standing, EdgeStanding::Quarantined { .. }) {
            return Err(FleetError::NotQuarantined(id));
        }
        self.put(EdgeRow { standing: EdgeStanding::Good, ..row }).await
    }
}
