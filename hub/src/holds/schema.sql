-- Holds of footage: whose act, until when, and what of it lies at the hub. Version: see SCHEMA in store.rs.
--
-- Every table begins with the organisation. Ids are 16 bytes, instants microseconds since 1970-01-01T00Z.
-- The ciphertext lies beside it in files, a folder a hold; the private key of a hold in the key ring alone. This file
-- belongs into a backup: whoever loses it loses what it names, because no box keeps that any longer.

-- A row stays when its hold is over, as the record of who kept what and why.
CREATE TABLE hold (
    organisation BLOB NOT NULL,
    hold         BLOB NOT NULL,
    act          TEXT NOT NULL,
    author       TEXT NOT NULL,
    approver     TEXT NOT NULL,
    reason       TEXT NOT NULL,
    from_us      INTEGER NOT NULL,
    to_us        INTEGER NOT NULL,
    until_us     INTEGER NOT NULL,
    placed_us    INTEGER NOT NULL,
    complete_us  INTEGER,
    over_us      INTEGER,
    -- Who released it; null when its end came.
    released_by  TEXT,
    over_why     TEXT,
    PRIMARY KEY (organisation, hold)
) WITHOUT ROWID;

CREATE TABLE hold_camera (
    organisation BLOB NOT NULL,
    hold         BLOB NOT NULL,
    camera       BLOB NOT NULL,
    PRIMARY KEY (organisation, hold, camera)
) WITHOUT ROWID;

-- What became of every second of a hold, as it was last reckoned: coverage and gaps are forgotten with their term. Stays
-- when the hold is over.
CREATE TABLE hold_account (
    organisation BLOB NOT NULL,
    hold         BLOB NOT NULL,
    camera       BLOB NOT NULL,
    stream       INTEGER NOT NULL,
    from_us      INTEGER NOT NULL,
    to_us        INTEGER NOT NULL,
    -- A name of account::Sort.
    sort         TEXT NOT NULL,
    cause        TEXT NOT NULL,
    PRIMARY KEY (organisation, hold, camera, stream, from_us)
) WITHOUT ROWID;

-- Segments that a hold touches, as long as it stands.
CREATE TABLE held_segment (
    organisation BLOB NOT NULL,
    hold         BLOB NOT NULL,
    segment      BLOB NOT NULL,
    camera       BLOB NOT NULL,
    stream       INTEGER NOT NULL,
    start_us     INTEGER NOT NULL,
    end_us       INTEGER NOT NULL,
    -- SegmentHeader, verbatim.
    header       BLOB NOT NULL,
    -- Keys of single fragments, wrapped to the hold's key; empty when the segment's own key was gone already.
    keys         BLOB NOT NULL,
    -- Sealings up to here are in `keys`, until it is narrowed to the covered ones.
    keyed        INTEGER NOT NULL,
    narrowed     INTEGER NOT NULL DEFAULT 0,
    -- Why what was not copied never will be; empty while it may be.
    lost         TEXT NOT NULL DEFAULT '',
    -- Durable bytes of the segment's file here; what stands behind them was cut short.
    file_bytes   INTEGER NOT NULL DEFAULT 0,
    -- Where in the file its init section is.
    init_at      INTEGER,
    PRIMARY KEY (organisation, hold, segment)
) WITHOUT ROWID;

-- Fragments that a hold covers. `at` is the place in the segment's file, once it is copied.
CREATE TABLE held_fragment (
    organisation    BLOB NOT NULL,
    hold            BLOB NOT NULL,
    segment         BLOB NOT NULL,
    sealing         INTEGER NOT NULL,
    fragment_index  INTEGER NOT NULL,
    starts_with_key INTEGER NOT NULL,
    decode_90k      INTEGER NOT NULL,
    duration_90k    INTEGER NOT NULL,
    arrival_us      INTEGER NOT NULL,
    plain_size      INTEGER NOT NULL,
    -- The chain's link behind it and, where the box has shown it, the one before.
    link            BLOB NOT NULL,
    link_before     BLOB,
    at              INTEGER,
    PRIMARY KEY (organisation, hold, segment, sealing)
) WITHOUT ROWID;
