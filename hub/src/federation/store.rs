//! federation.sqlite: partners, agreements, what was seen and what must still be told. One thread owns
//! the connection; what returns is durable.

use super::marker::{Marker, MarkerError};
use super::store_schema::SCHEMA;
use bytes::Bytes;
use campanile_proto::federation::v1::{CameraCard, SignedEnvelope};
use campanile_proto::ids::{AgreementId, CameraId, OrganisationId, RequestId};
use campanile_proto::time::WallTime;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} cannot be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{what} failed")]
    Query {
        what: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the thread of the federation's store has ended")]
    Gone,
    #[error("a stored {0} is damaged")]
    Damaged(&'static str),
    #[error("what must survive a restore cannot be kept")]
    Marker(#[from] MarkerError),
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Sends work to the owning thread.
#[derive(Clone)]
pub struct Store {
    jobs: std::sync::mpsc::Sender<Job>,
    marker: Arc<Marker>,
}

pub struct PartnerRow {
    pub card: Bytes,
    pub mandate: SignedEnvelope,
    pub address: String,
}

pub struct AgreementRecord {
    pub envelope: SignedEnvelope,
    pub revoked_at: Option<WallTime>,
    pub suspended: bool,
}

#[derive(Default)]
pub struct Everything {
    pub partners: Vec<PartnerRow>,
    pub agreements: Vec<AgreementRecord>,
    pub cards: Vec<(OrganisationId, CameraCard)>,
}

/// What a partner must be told of an agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    Propose,
    Conclude,
    Revoke,
}

impl Tell {
    fn name(self) -> &'static str {
        match self {
            Self::Propose => "propose",
            Self::Conclude => "conclude",
            Self::Revoke => "revoke",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Propose, Self::Conclude, Self::Revoke].into_iter().find(|tell| tell.name() == name)
    }
}

/// One thing a partner must still be told, with the revocation if it is one.
pub struct Untold {
    pub partner: OrganisationId,
    pub agreement: AgreementId,
    pub tell: Tell,
    pub revocation: Option<SignedEnvelope>,
}

impl Store {
    pub async fn open(path: PathBuf, marker: PathBuf) -> Result<Self, StoreError> {
        let marker = tokio::task::spawn_blocking(|| Marker::open(marker)).await.map_err(|_| StoreError::Gone)??;
        let (jobs, work) = std::sync::mpsc::channel::<Job>();
        let (opened, open) = oneshot::channel();
        let named = std::thread::Builder::new().name("federation-store".into());
        let own = move || match connect(&path) {
            Err(source) => drop(opened.send(Err(StoreError::Open { path, source }))),
            Ok(mut connection) => {
                if opened.send(Ok(())).is_ok() {
                    work.into_iter().for_each(|job| job(&mut connection));
                }
            }
        };
        named.spawn(own).map_err(|_| StoreError::Gone)?;
        open.await.map_err(|_| StoreError::Gone)??;
        Ok(Self { jobs, marker: Arc::new(marker) })
    }

    /// Suspends every agreement if the database has seen fewer changes than the file beside the keys knows of, or
    /// has seen some and there is no such file; whether it did. What was revoked once stays so.
    pub async fn distrust_if_restored(&self) -> Result<bool, StoreError> {
        let noted = self.marker.noted();
        let read = |c: &mut Connection| {
            let mut revoked = c.prepare("SELECT agreement FROM agreements WHERE revoked_us IS NOT NULL")?;
            let revoked =
                revoked.query_map([], |row| row.get::<_, Vec<u8>>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((changes(c)?, revoked))
        };
        let (seen, revoked) = self.with("reading what was changed", read).await?;
        // Databases that count no change are of before the file.
        let restored = seen < noted.changes || (self.marker.missing && seen > 0);
        if restored {
            self.suspend_all(noted.changes.max(seen)).await?;
        }
        let revoked: Vec<AgreementId> =
            revoked.iter().filter_map(|id| AgreementId::try_from(id.as_slice()).ok()).collect();
        self.note(move |marker| marker.changed(seen).and_then(|()| marker.revoked(revoked))).await?;
        Ok(restored)
    }

    /// Suspends every agreement that was not revoked, and counts on from at least `known` changes.
    pub async fn suspend_all(&self, known: u64) -> Result<(), StoreError> {
        let write = move |c: &mut Connection| {
            let change = c.transaction()?;
            change.execute("UPDATE agreements SET suspended = 1", [])?;
            let count = count_change(&change, known)?;
            change.commit()?;
            Ok(count)
        };
        let count = self.with("suspending agreements", write).await?;
        self.note(move |marker| marker.changed(count)).await
    }

    pub async fn confirm(&self, id: AgreementId) -> Result<(), StoreError> {
        let write = move |c: &mut Connection| {
            let change = c.transaction()?;
            change.execute("UPDATE agreements SET suspended = 0 WHERE agreement = ?", [id.as_bytes()])?;
            let count = count_change(&change, 0)?;
            change.commit()?;
            Ok(count)
        };
        let count = self.with("confirming an agreement", write).await?;
        self.note(move |marker| marker.changed(count)).await
    }

    /// Agreements that were revoked once, whatever the database says.
    pub fn revoked_once(&self) -> std::collections::BTreeSet<AgreementId> {
        self.marker.noted().revoked
    }

    async fn note(
        &self,
        note: impl FnOnce(&Marker) -> Result<(), MarkerError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let marker = self.marker.clone();
        Ok(tokio::task::spawn_blocking(move || note(&marker)).await.map_err(|_| StoreError::Gone)??)
    }

    async fn with<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| drop(answer.send(work(connection))));
        self.jobs.send(job).map_err(|_| StoreError::Gone)?;
        answered.await.map_err(|_| StoreError::Gone)?.map_err(|source| StoreError::Query { what, source })
    }

    pub async fn own_mandate(&self) -> Result<Option<SignedEnvelope>, StoreError> {
        let query = |c: &mut Connection| {
            c.query_row("SELECT envelope FROM own_mandate", [], |row| row.get::<_, Vec<u8>>(0)).optional()
        };
        let bytes = self.with("reading our mandate", query).await?;
        bytes.map(|bytes| envelope(bytes, "mandate")).transpose()
    }

    pub async fn set_own_mandate(&self, envelope: SignedEnvelope) -> Result<(), StoreError> {
        let bytes = envelope.encode_to_vec();
        let insert = move |c: &mut Connection| {
            c.execute("INSERT OR REPLACE INTO own_mandate (one, envelope) VALUES (1, ?)", [bytes]).map(drop)
        };
        self.with("writing our mandate", insert).await
    }

    pub async fn everything(&self) -> Result<Everything, StoreError> {
        type Raw = (Vec<(Vec<u8>, Vec<u8>, String)>, Vec<(Vec<u8>, Option<i64>, bool)>, Vec<(Vec<u8>, Vec<u8>)>);
        let read = |c: &mut Connection| -> rusqlite::Result<Raw> {
            let mut partners = c.prepare("SELECT card, mandate, address FROM partners")?;
            let partners = partners.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
            let partners = partners.collect::<rusqlite::Result<_>>()?;
            let mut agreements = c.prepare("SELECT envelope, revoked_us, suspended FROM agreements")?;
            let agreements = agreements.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
            let agreements = agreements.collect::<rusqlite::Result<_>>()?;
            let mut cards = c.prepare("SELECT partner, card FROM camera_cards")?;
            let cards = cards.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
            Ok((partners, agreements, cards))
        };
        let (partners, agreements, cards) = self.with("reading partners and agreements", read).await?;
        let mut everything = Everything::default();
        for (card, mandate, address) in partners {
            let mandate = envelope(mandate, "mandate")?;
            everything.partners.push(PartnerRow { card: card.into(), mandate, address });
        }
        for (bytes, revoked_us, suspended) in agreements {
            let envelope = envelope(bytes, "agreement")?;
            let revoked_at = revoked_us.map(WallTime);
            everything.agreements.push(AgreementRecord { envelope, revoked_at, suspended });
        }
        for (partner, card) in cards {
            let partner = OrganisationId::try_from(partner.as_slice()).map_err(|_| StoreError::Damaged("id"))?;
            let card = CameraCard::decode(card.as_slice()).map_err(|_| StoreError::Damaged("camera card"))?;
            everything.cards.push((partner, card));
        }
        Ok(everything)
    }

    pub async fn put_partner(
        &self,
        id: OrganisationId,
        card: Vec<u8>,
        mandate: &SignedEnvelope,
        address: String,
    ) -> Result<(), StoreError> {
        let mandate = mandate.encode_to_vec();
        let insert = move |c: &mut Connection| {
            let sql = "INSERT OR REPLACE INTO partners (organisation, card, mandate, address) VALUES (?, ?, ?, ?)";
            c.execute(sql, params![id.as_bytes(), card, mandate, address]).map(drop)
        };
        self.with("writing a partner", insert).await
    }

    /// Writes an agreement and whom to tell what of it, at once.
    pub async fn put_agreement(
        &self,
        id: AgreementId,
        envelope: &SignedEnvelope,
        tell: Vec<(OrganisationId, Tell)>,
    ) -> Result<(), StoreError> {
        let bytes = envelope.encode_to_vec();
        let write = move |c: &mut Connection| {
            let change = c.transaction()?;
            let sql = "INSERT INTO agreements (agreement, envelope) VALUES (?, ?)
                       ON CONFLICT (agreement) DO UPDATE SET envelope = excluded.envelope";
            change.execute(sql, params![id.as_bytes(), bytes])?;
            tell_all(&change, id, &tell)?;
            let count = count_change(&change, 0)?;
            change.commit()?;
            Ok(count)
        };
        let count = self.with("writing an agreement", write).await?;
        self.note(move |marker| marker.changed(count)).await
    }

    /// Writes a revocation and whom to tell of it, at once; an earlier one stands.
    pub async fn revoke(
        &self,
        id: AgreementId,
        revocation: &SignedEnvelope,
        at: WallTime,
        tell: Vec<OrganisationId>,
    ) -> Result<(), StoreError> {
        // First: a revocation that is in the file alone still holds.
        self.note(move |marker| marker.revoked([id])).await?;
        let bytes = revocation.encode_to_vec();
        let write = move |c: &mut Connection| {
            let change = c.transaction()?;
            let sql = "UPDATE agreements SET revocation = ?, revoked_us = ? WHERE agreement = ? AND revoked_us IS NULL";
            change.execute(sql, params![bytes, at.0, id.as_bytes()])?;
            change.execute("DELETE FROM untold WHERE agreement = ?", [id.as_bytes()])?;
            let tell: Vec<_> = tell.into_iter().map(|partner| (partner, Tell::Revoke)).collect();
            tell_all(&change, id, &tell)?;
            let count = count_change(&change, 0)?;
            change.commit()?;
            Ok(count)
        };
        let count = self.with("writing a revocation", write).await?;
        self.note(move |marker| marker.changed(count)).await
    }

    /// Removes a proposal that was never ours.
    pub async fn forget(&self, id: AgreementId) -> Result<(), StoreError> {
        let write = move |c: &mut Connection| {
            let change = c.transaction()?;
            change.execute("DELETE FROM agreements WHERE agreement = ?", [id.as_bytes()])?;
            change.execute("DELETE FROM untold WHERE agreement = ?", [id.as_bytes()])?;
            change.commit()
        };
        self.with("forgetting a proposal", write).await
    }

    pub async fn untold(&self) -> Result<Vec<Untold>, StoreError> {
        type Raw = Vec<(Vec<u8>, Vec<u8>, String, Option<Vec<u8>>)>;
        let read = |c: &mut Connection| -> rusqlite::Result<Raw> {
            let sql = "SELECT partner, agreement, what, revocation FROM untold JOIN agreements USING (agreement)";
            let mut rows = c.prepare(sql)?;
            rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect()
        };
        let rows = self.with("reading what partners must be told", read).await?;
        let row = |(partner, agreement, what, revocation): (Vec<u8>, Vec<u8>, String, Option<Vec<u8>>)| {
            Ok(Untold {
                partner: OrganisationId::try_from(partner.as_slice()).map_err(|_| StoreError::Damaged("id"))?,
                agreement: AgreementId::try_from(agreement.as_slice()).map_err(|_| StoreError::Damaged("id"))?,
                tell: Tell::of(&what).ok_or(StoreError::Damaged("message to a partner"))?,
                revocation: revocation.map(|bytes| envelope(bytes, "revocation")).transpose()?,
            })
        };
        rows.into_iter().map(row).collect()
    }

    pub async fn told(&self, partner: OrganisationId, agreement: AgreementId, tell: Tell) -> Result<(), StoreError> {
        let delete = move |c: &mut Connection| {
            let sql = "DELETE FROM untold WHERE partner = ? AND agreement = ? AND what = ?";
            c.execute(sql, params![partner.as_bytes(), agreement.as_bytes(), tell.name()]).map(drop)
        };
        self.with("writing what a partner was told", delete).await
    }

    /// Notes a request; false when it was there already. Forgets those that have expired.
    pub async fn first_seen(
        &self,
        partner: OrganisationId,
        request: RequestId,
        expires: WallTime,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let insert = move |c: &mut Connection| {
            c.execute("DELETE FROM seen WHERE expires_us < ?", [now.0])?;
            let sql = "INSERT OR IGNORE INTO seen (partner, request, expires_us) VALUES (?, ?, ?)";
            Ok(c.execute(sql, params![partner.as_bytes(), request.as_bytes(), expires.0])? == 1)
        };
        self.with("noting a request", insert).await
    }

    pub async fn put_cards(
        &self,
        partner: OrganisationId,
        cards: Vec<(CameraId, CameraCard)>,
    ) -> Result<(), StoreError> {
        let write = move |c: &mut Connection| {
            let change = c.transaction()?;
            for (camera, card) in cards {
                let sql = "INSERT OR REPLACE INTO camera_cards (partner, camera, card) VALUES (?, ?, ?)";
                change.execute(sql, params![partner.as_bytes(), camera.as_bytes(), card.encode_to_vec()])?;
            }
            change.commit()
        };
        self.with("writing camera cards", write).await
    }

    /// Newest checkpoint between us and a partner.
    pub async fn checkpoint(&self, partner: OrganisationId, ours: bool) -> Result<Option<SignedEnvelope>, StoreError> {
        let read = move |c: &mut Connection| {
            let sql = "SELECT envelope FROM checkpoints WHERE partner = ? AND ours = ?";
            c.query_row(sql, params![partner.as_bytes(), ours], |row| row.get::<_, Vec<u8>>(0)).optional()
        };
        self.with("reading a checkpoint", read).await?.map(|bytes| envelope(bytes, "checkpoint")).transpose()
    }

    /// Keeps a checkpoint unless a larger one is held.
    pub async fn put_checkpoint(
        &self,
        partner: OrganisationId,
        ours: bool,
        tree_size: u64,
        envelope: &SignedEnvelope,
    ) -> Result<(), StoreError> {
        let bytes = envelope.encode_to_vec();
        let size = i64::try_from(tree_size).unwrap_or(i64::MAX);
        let write = move |c: &mut Connection| {
            let sql = "INSERT INTO checkpoints (partner, ours, tree_size, envelope) VALUES (?, ?, ?, ?)
                       ON CONFLICT (partner, ours) DO UPDATE SET tree_size = excluded.tree_size,
                       envelope = excluded.envelope WHERE excluded.tree_size >= tree_size";
            c.execute(sql, params![partner.as_bytes(), ours, size, bytes]).map(drop)
        };
        self.with("writing a checkpoint", write).await
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

fn changes(c: &Connection) -> rusqlite::Result<u64> {
    let count = c.query_row("SELECT count FROM changes", [], |row| row.get::<_, i64>(0)).optional()?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

/// Counts one more change, from at least `known` on.
fn count_change(c: &Connection, known: u64) -> rusqlite::Result<u64> {
    let count = changes(c)?.max(known) + 1;
    let column = i64::try_from(count).unwrap_or(i64::MAX);
    c.execute("INSERT OR REPLACE INTO changes (one, count) VALUES (1, ?)", [column])?;
    Ok(count)
}

fn tell_all(c: &Connection, agreement: AgreementId, tell: &[(OrganisationId, Tell)]) -> rusqlite::Result<()> {
    for (partner, what) in tell {
        let sql = "INSERT OR IGNORE INTO untold (partner, agreement, what) VALUES (?, ?, ?)";
        c.execute(sql, params![partner.as_bytes(), agreement.as_bytes(), what.name()])?;
    }
    Ok(())
}

fn envelope(bytes: Vec<u8>, what: &'static str) -> Result<SignedEnvelope, StoreError> {
    SignedEnvelope::decode(bytes.as_slice()).map_err(|_| StoreError::Damaged(what))
}
