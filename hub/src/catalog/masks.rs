//! Cameras that the town has masked.

use super::CatalogError;
use super::rows::Mask;
use super::sqlite::failed;
use campanile_proto::ids::CameraId;
use campanile_proto::time::WallTime;
use rusqlite::{Connection, params};

pub(super) fn all(db: &Connection, organisation: &[u8]) -> Result<Vec<Mask>, CatalogError> {
    let attempt = failed("read the masks");
    let mut select = db
        .prepare_cached(
            "SELECT camera, since_us, act, author FROM mask WHERE organisation = ?1 ORDER BY since_us, camera",
        )
        .map_err(&attempt)?;
    let rows = select
        .query_map([organisation], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .map_err(&attempt)?;
    let mask = |(camera, since_us, act, author): (Vec<u8>, i64, String, String)| {
        let camera = CameraId::try_from(camera.as_slice());
        let camera = camera.map_err(|_| CatalogError::Damaged { what: "masked camera" })?;
        Ok(Mask { camera, since: WallTime(since_us), act, author })
    };
    rows.collect::<Result<Vec<_>, _>>().map_err(&attempt)?.into_iter().map(mask).collect()
}

pub(super) fn put(db: &Connection, organisation: &[u8], mask: &Mask) -> Result<bool, CatalogError> {
    let known = db
        .prepare_cached("SELECT 1 FROM camera_owner WHERE organisation = ?1 AND camera = ?2")
        .and_then(|mut select| select.exists(params![organisation, mask.camera.as_bytes()]))
        .map_err(failed("look for a camera"))?;
    if known {
        db.execute(
            "INSERT OR IGNORE INTO mask (organisation, camera, since_us, act, author) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![organisation, mask.camera.as_bytes(), mask.since.0, mask.act, mask.author],
        )
        .map_err(failed("mask a camera"))?;
    }
    Ok(known)
}

pub(super) fn remove(db: &Connection, organisation: &[u8], camera: CameraId) -> Result<bool, CatalogError> {
    let removed = db
        .execute("DELETE FROM mask WHERE organisation = ?1 AND camera = ?2", params![organisation, camera.as_bytes()])
        .map_err(failed("unmask a camera"))?;
    Ok(removed > 0)
}
