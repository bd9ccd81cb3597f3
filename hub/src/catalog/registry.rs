//! Tokens and the registry of boxes.

use super::CatalogError;
use super::rows::{EdgeRow, EdgeStanding, NewToken, Redeemed, TokenRefused};
use super::sqlite::{State, failed};
use campanile_proto::ids::EdgeId;
use campanile_proto::time::WallTime;
use rusqlite::{Connection, OptionalExtension, params};

pub(super) fn add_token(state: &State, token: &NewToken) -> Result<(), CatalogError> {
    state
        .db
        .execute(
            "INSERT INTO token (organisation, secret_hash, site_name, made_us, expires_us) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![state.organisation.as_bytes(), token.secret_hash, token.site_name, token.made.0, token.expires.0],
        )
        .map_err(failed("keep a token"))?;
    Ok(())
}

pub(super) fn token_known(state: &State, secret_hash: [u8; 32]) -> Result<bool, CatalogError> {
    state
        .db
        .prepare_cached("SELECT 1 FROM token WHERE organisation = ?1 AND secret_hash = ?2")
        .and_then(|mut select| select.exists(params![state.organisation.as_bytes(), secret_hash]))
        .map_err(failed("look for a token"))
}

pub(super) fn is_revoked(db: &Connection, organisation: &[u8], edge: EdgeId) -> Result<bool, CatalogError> {
    db.prepare_cached("SELECT 1 FROM edge WHERE organisation = ?1 AND edge = ?2 AND standing = 'revoked'")
        .and_then(|mut select| select.exists(params![organisation, edge.as_bytes()]))
        .map_err(failed("look for a revocation"))
}

/// Site name, expiry, the box that used it, the hash of the key it used it with.
type StoredToken = (String, i64, Option<Vec<u8>>, Option<Vec<u8>>);

pub(super) fn redeem(
    state: &mut State,
    secret_hash: [u8; 32],
    key_hash: [u8; 32],
    mut edge: EdgeRow,
    now: WallTime,
) -> Result<Redeemed, CatalogError> {
    let organisation = state.organisation;
    let transaction = state.db.transaction().map_err(failed("redeem a token"))?;
    let token: Option<StoredToken> = transaction
        .query_row(
            "SELECT site_name, expires_us, edge, key_hash FROM token WHERE organisation = ?1 AND secret_hash = ?2",
            params![organisation.as_bytes(), secret_hash],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()
        .map_err(failed("redeem a token"))?;
    let refused = |why| Ok(Redeemed::Refused(why));
    match token {
        None => return refused(TokenRefused::Unknown),
        // Whoever shows the key that used it had no answer.
        Some((_, _, Some(id), Some(key))) if key == key_hash => {
            let mut rows = edges(&transaction, organisation.as_bytes())?;
            rows.retain(|row| row.id.as_bytes().as_slice() == id && row.standing == EdgeStanding::Good);
            return Ok(rows.pop().map_or(Redeemed::Refused(TokenRefused::Used), Redeemed::Enrolled));
        }
        Some((_, _, Some(_), _)) => return refused(TokenRefused::Used),
        Some((_, expires, None, _)) if expires <= now.0 => return refused(TokenRefused::Expired),
        Some((site_name, ..)) => edge.site_name = site_name,
    }
    transaction
        .execute(
            "UPDATE token SET used_us = ?3, edge = ?4, key_hash = ?5 WHERE organisation = ?1 AND secret_hash = ?2",
            params![organisation.as_bytes(), secret_hash, now.0, edge.id.as_bytes(), key_hash],
        )
        .map_err(failed("redeem a token"))?;
    write_edge(&transaction, organisation.as_bytes(), &edge)?;
    transaction.commit().map_err(failed("redeem a token"))?;
    Ok(Redeemed::Enrolled(edge))
}

pub(super) fn put_edge(state: &State, edge: &EdgeRow) -> Result<(), CatalogError> {
    write_edge(&state.db, state.organisation.as_bytes(), edge)
}

fn write_edge(db: &Connection, organisation: &[u8], edge: &EdgeRow) -> Result<(), CatalogError> {
    let (standing, since, reason) = match &edge.standing {
        EdgeStanding::Good => ("good", 0, ""),
        EdgeStanding::Quarantined { since, reason } => ("quarantined", since.0, reason.as_str()),
        EdgeStanding::Revoked { since } => ("revoked", since.0, ""),
    };
    db.execute(
        "INSERT OR REPLACE INTO edge (organisation, edge, name, site_name, enrolled_us, standing, since_us, reason) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![organisation, edge.id.as_bytes(), edge.name, edge.site_name, edge.enrolled.0, standing, since, reason],
    )
    .map_err(failed("register a box"))?;
    Ok(())
}

pub(super) fn edges(db: &Connection, organisation: &[u8]) -> Result<Vec<EdgeRow>, CatalogError> {
    let attempt = failed("read the registry");
    let mut statement = db
        .prepare_cached(
            "SELECT edge, name, site_name, enrolled_us, standing, since_us, reason FROM edge WHERE organisation = ?1 \
             ORDER BY name, edge",
        )
        .map_err(&attempt)?;
    let rows = statement
        .query_map([organisation], |row| {
            let (standing, since): (String, i64) = (row.get(4)?, row.get(5)?);
            let since = WallTime(since);
            let standing = match standing.as_str() {
                "good" => EdgeStanding::Good,
                "quarantined" => EdgeStanding::Quarantined { since, reason: row.get(6)? },
                // A word this version does not know is no permission.
                _ => EdgeStanding::Revoked { since },
            };
            let id: Vec<u8> = row.get(0)?;
            Ok((id, row.get(1)?, row.get(2)?, WallTime(row.get(3)?), standing))
        })
        .map_err(&attempt)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(&attempt)?;
    let row = |(id, name, site_name, enrolled, standing): (Vec<u8>, _, _, _, _)| {
        let id = EdgeId::try_from(id.as_slice()).map_err(|_| CatalogError::Damaged { what: "edge id" })?;
        Ok(EdgeRow { id, name, site_name, enrolled, standing })
    };
    rows.into_iter().map(row).collect()
}
