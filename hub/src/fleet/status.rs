//! What a person sees of the fleet.

use super::{Fleet, FleetError};
use crate::catalog::{EdgeRow, EdgeStanding};
use campanile_proto::edge::v1::EdgeHealth;
use campanile_proto::ids::EdgeId;
use campanile_proto::time::WallTime;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// One box.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeStatus {
    pub id: EdgeId,
    pub name: String,
    pub site_name: String,
    pub enrolled: WallTime,
    /// "good", "quarantined" or "revoked".
    pub standing: &'static str,
    /// Why it is quarantined; empty otherwise.
    pub reason: String,
    pub connected: bool,
    pub software: String,
    /// Last message of this session, or the last health report.
    pub last_seen: Option<WallTime>,
    #[serde(skip)]
    pub health: Option<EdgeHealth>,
}

impl Fleet {
    /// Every box that was ever enrolled, by name.
    pub async fn edges(&self) -> Result<Vec<EdgeStatus>, FleetError> {
        let mut health: HashMap<_, _> =
            self.0.catalog.health().await.map_err(FleetError::Catalog)?.into_iter().collect();
        let mut edges: Vec<_> = self.rows().into_iter().map(|row| self.status(row, &mut health)).collect();
        edges.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(edges)
    }

    /// When a box last said anything; nothing when it never did.
    pub async fn last_seen(&self, edge: EdgeId) -> Result<Option<WallTime>, FleetError> {
        let edges = self.edges().await?;
        Ok(edges.into_iter().find(|status| status.id == edge).and_then(|status| status.last_seen))
    }

    fn status(&self, row: EdgeRow, health: &mut HashMap<EdgeId, EdgeHealth>) -> EdgeStatus {
        let live = self.0.sessions.of(row.id);
        let health = health.remove(&row.id);
        let (standing, reason) = match row.standing {
            EdgeStanding::Good => ("good", String::new()),
            EdgeStanding::Quarantined { reason, .. } => ("quarantined", reason),
            EdgeStanding::Revoked { .. } => ("revoked", String::new()),
        };
        let heard = live.as_ref().map(|live| WallTime(live.last_heard_us.load(Ordering::Relaxed)));
        let reported = health.as_ref().and_then(|h| h.at.as_ref()).map(|at| WallTime(at.utc_us));
        let software = live.as_ref().map(|live| live.software.clone());
        EdgeStatus {
            id: row.id,
            name: row.name,
            site_name: row.site_name,
            enrolled: row.enrolled,
            standing,
            reason,
            connected: live.is_some(),
            software: software.or_else(|| health.as_ref().map(|h| h.software.clone())).unwrap_or_default(),
            last_seen: heard.max(reported),
            health,
        }
    }

    /// Whether the box has a live session.
    pub fn is_connected(&self, edge: EdgeId) -> bool {
        self.0.sessions.of(edge).is_some()
    }
}
