-- The hub's catalogue. Version: see SCHEMA in sqlite.rs; a change needs an upgrade step in upgrade.rs.
--
-- Every table begins with the organisation, so that one hub can serve many. Ids are 16 bytes, instants
-- microseconds since 1970-01-01T00Z. What stands here can be had again by asking every box to report
-- anew (Replay), except tokens and the registry.

-- One row an organisation: the UUID of this life of the catalogue. A box that meets another one knows
-- that the hub lost its memory.
CREATE TABLE life (
    organisation BLOB PRIMARY KEY,
    incarnation  BLOB NOT NULL
) WITHOUT ROWID;

-- Boxes. `standing` is 'good', 'quarantined' or 'revoked'; a row is never deleted, so that a revoked
-- certificate stays revoked as long as it could be shown.
CREATE TABLE edge (
    organisation BLOB NOT NULL,
    edge         BLOB NOT NULL,
    name         TEXT NOT NULL,
    site_name    TEXT NOT NULL,
    enrolled_us  INTEGER NOT NULL,
    standing     TEXT NOT NULL,
    since_us     INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    PRIMARY KEY (organisation, edge)
) WITHOUT ROWID;

-- One-time enrolment tokens, of which only the hash is kept. A used one stays until it expires, so that
-- "used" can be told from "unknown".
CREATE TABLE token (
    organisation BLOB NOT NULL,
    secret_hash  BLOB NOT NULL,
    site_name    TEXT NOT NULL,
    made_us      INTEGER NOT NULL,
    expires_us   INTEGER NOT NULL,
    used_us      INTEGER,
    edge         BLOB,
    -- SHA-256 of the public key that used it: the same key may ask again, because an answer can be lost.
    key_hash     BLOB,
    PRIMARY KEY (organisation, secret_hash)
) WITHOUT ROWID;

-- Sequences of a box's epoch that are held, or that the box has said it will never send: disjoint ranges,
-- inclusive.
CREATE TABLE held (
    organisation BLOB NOT NULL,
    edge         BLOB NOT NULL,
    epoch        BLOB NOT NULL,
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    PRIMARY KEY (organisation, edge, epoch, first)
) WITHOUT ROWID;

-- Epochs of a box, and how many of its reports were accepted, each sequence once. A box that was
-- acknowledged more often speaks to a restored catalogue.
CREATE TABLE epoch (
    organisation BLOB NOT NULL,
    edge         BLOB NOT NULL,
    epoch        BLOB NOT NULL,
    accepted     INTEGER NOT NULL,
    PRIMARY KEY (organisation, edge, epoch)
) WITHOUT ROWID;

-- Reports that could not be read, with the reason: acknowledged, so that the box's outbox moves on.
CREATE TABLE refused (
    organisation BLOB NOT NULL,
    edge         BLOB NOT NULL,
    epoch        BLOB NOT NULL,
    sequence     INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    PRIMARY KEY (organisation, edge, epoch, sequence)
) WITHOUT ROWID;

-- To which box a camera belongs: the first that reported it, until a person moves it or that box is revoked.
CREATE TABLE camera_owner (
    organisation BLOB NOT NULL,
    camera       BLOB NOT NULL,
    edge         BLOB NOT NULL,
    PRIMARY KEY (organisation, camera)
) WITHOUT ROWID;

-- To which boxes it belonged before: what they sealed of it is still its.
CREATE TABLE camera_former_owner (
    organisation BLOB NOT NULL,
    camera       BLOB NOT NULL,
    edge         BLOB NOT NULL,
    PRIMARY KEY (organisation, camera, edge)
) WITHOUT ROWID;

-- Cameras of which nothing is recorded for now, by which act, and who said so.
CREATE TABLE mask (
    organisation BLOB NOT NULL,
    camera       BLOB NOT NULL,
    since_us     INTEGER NOT NULL,
    act          TEXT NOT NULL,
    author       TEXT NOT NULL,
    PRIMARY KEY (organisation, camera)
) WITHOUT ROWID;

-- Newest state of each reported object that is not sealed; `state` is the message as reported, what is
-- searched by stands beside it. `kind`: 1 camera, 2 segment, 3 gap, 4 health, 5 anchor.
-- Of one epoch the highest revision stays; another epoch is a rebuilt box, whose word is newer.
CREATE TABLE object (
    organisation BLOB NOT NULL,
    edge         BLOB NOT NULL,
    kind         INTEGER NOT NULL,
    object       BLOB NOT NULL,
    epoch        BLOB NOT NULL,
    revision     INTEGER NOT NULL,
    -- Segments and gaps: of which camera and stream, and from when to when by present UTC on arrival.
    camera       BLOB,
    stream       INTEGER,
    start_us     INTEGER,
    end_us       INTEGER,
    state        BLOB NOT NULL,
    PRIMARY KEY (organisation, edge, kind, object)
) WITHOUT ROWID;

CREATE INDEX object_by_time ON object (organisation, kind, camera, stream, start_us) WHERE camera IS NOT NULL;
CREATE INDEX object_by_end ON object (organisation, kind, end_us) WHERE end_us IS NOT NULL;
