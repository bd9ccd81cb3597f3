-- The box's index, version 2. A cache: every row of `segment` and `index_record` can be made again by walking the
-- media folder, because a segment describes itself. What cannot (objects reported whole) is small and reported
-- at once. Ids are 16 bytes, instants microseconds since 1970 (UTC) unless they are encoded `Instant`s.

-- One row: 128 random bits made with this database. A sequence means something only within its epoch, so a
-- database that was deleted and made again is never mistaken for the one before.
CREATE TABLE epoch (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    epoch BLOB NOT NULL CHECK (length(epoch) = 16),
    -- Reports of this epoch that the hub acknowledged, each once: a hub that holds fewer was restored.
    acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One row a segment file, never one a fragment: eight cameras make 9.7 million fragments a week and 24,000 segments.
CREATE TABLE segment (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    camera      BLOB NOT NULL CHECK (length(camera) = 16),
    -- campanile.types.v1.Stream
    stream      INTEGER NOT NULL,
    path        TEXT NOT NULL,
    -- SegmentHeader verbatim, and the wrapped key: what a hold needs of a box that is not online.
    header      BLOB NOT NULL,
    wrapped_key BLOB NOT NULL,
    -- UTC believed when it was opened: for order only, never corrected.
    captured_us INTEGER NOT NULL,
    -- Instants, encoded: present UTC is computed on reading, through the best anchor.
    start       BLOB NOT NULL,
    end         BLOB NOT NULL,
    fragments   INTEGER NOT NULL DEFAULT 0,
    size_bytes  INTEGER NOT NULL DEFAULT 0,
    link        BLOB NOT NULL,
    closed      INTEGER NOT NULL DEFAULT 0,
    -- Rule that deleted it; written before the file goes, so that a crash in between finishes the deletion.
    deleted_by  TEXT,
    -- Highest revision put into the outbox; 0: not yet, or to be offered again.
    offered     INTEGER NOT NULL DEFAULT 0,
    -- Index stream: every record of the file was put into the outbox, and no row of `index_record` is needed.
    settled     INTEGER NOT NULL DEFAULT 0,
    -- What the footer vouches for: the link before it, and the box's signature over that. NULL: not closed in order.
    last_link   BLOB,
    signature   BLOB
) STRICT, WITHOUT ROWID;

CREATE INDEX segment_by_time ON segment (camera, stream, captured_us);
CREATE INDEX segment_unsettled ON segment (captured_us) WHERE stream = 3 AND settled = 0;

-- Highest revision put into the outbox of each object in index segments that are not settled: tells the start-up
-- walk what was already offered. Bounded by the records of the open index segments.
CREATE TABLE index_record (
    object_id BLOB PRIMARY KEY CHECK (length(object_id) = 16),
    revision  INTEGER NOT NULL,
    segment   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX index_record_by_segment ON index_record (segment);

-- Objects reported whole: a camera's state, a gap, an anchor, this box's health.
CREATE TABLE object (
    object_id   BLOB PRIMARY KEY CHECK (length(object_id) = 16),
    -- Field number of the body in campanile.edge.v1.Report.
    body        INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    captured_us INTEGER NOT NULL,
    content     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX object_by_body ON object (body, captured_us);

-- What the hub has not acknowledged. A row names an object and where its newest state rests; a newer revision of
-- the same object takes the row's place under a new sequence, because the hub keeps the highest revision only.
-- AUTOINCREMENT: a sequence is never used twice, not even after its row is gone.
CREATE TABLE outbox (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    object_id   BLOB NOT NULL UNIQUE CHECK (length(object_id) = 16),
    revision    INTEGER NOT NULL,
    -- 1: row of `segment`; 2: row of `object`; 3: record at `offset` of the file of `segment`.
    source      INTEGER NOT NULL CHECK (source IN (1, 2, 3)),
    segment     BLOB,
    offset      INTEGER,
    -- 1 before 0: states of cameras and clocks are few and wanted first.
    urgent      INTEGER NOT NULL,
    captured_us INTEGER NOT NULL
) STRICT;

-- Newest first after an outage.
CREATE INDEX outbox_order ON outbox (urgent DESC, captured_us DESC);
CREATE INDEX outbox_by_segment ON outbox (segment) WHERE segment IS NOT NULL;
