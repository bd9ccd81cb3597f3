//! Tables of federation.sqlite.

/// Envelopes and cards are kept as the bytes that were signed or sent.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS own_mandate (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  envelope BLOB NOT NULL
) STRICT;
-- Pinned by people: the card never changes, the mandate is the newest one believed.
CREATE TABLE IF NOT EXISTS partners (
  organisation BLOB PRIMARY KEY,
  card         BLOB NOT NULL,
  mandate      BLOB NOT NULL,
  address      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- How often agreements were changed; the file beside the keys knows it too, and a restored database is behind it.
CREATE TABLE IF NOT EXISTS changes (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  count INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS agreements (
  agreement  BLOB PRIMARY KEY,
  envelope   BLOB NOT NULL,
  revocation BLOB,
  revoked_us INTEGER,
  suspended  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
-- What a partner must still be told: 'propose', 'conclude' or 'revoke'.
CREATE TABLE IF NOT EXISTS untold (
  partner   BLOB NOT NULL,
  agreement BLOB NOT NULL,
  what      TEXT NOT NULL,
  PRIMARY KEY (partner, agreement, what)
) STRICT, WITHOUT ROWID;
-- Requests answered or refused while they were valid: none is answered twice.
CREATE TABLE IF NOT EXISTS seen (
  partner    BLOB NOT NULL,
  request    BLOB NOT NULL,
  expires_us INTEGER NOT NULL,
  PRIMARY KEY (partner, request)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_by_expiry ON seen (expires_us);
CREATE TABLE IF NOT EXISTS camera_cards (
  partner BLOB NOT NULL,
  camera  BLOB NOT NULL,
  card    BLOB NOT NULL,
  PRIMARY KEY (partner, camera)
) STRICT, WITHOUT ROWID;
-- ours = 0: a partner's newest checkpoint with our signature; ours = 1: our newest one with the partner's.
CREATE TABLE IF NOT EXISTS checkpoints (
  partner   BLOB NOT NULL,
  ours      INTEGER NOT NULL,
  tree_size INTEGER NOT NULL,
  envelope  BLOB NOT NULL,
  PRIMARY KEY (partner, ours)
) STRICT, WITHOUT ROWID;
";
