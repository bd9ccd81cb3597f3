-- One UTC day of capture of what was concluded from sealed records. Version: see PARTITION in
-- partition.rs. A partition ends with its folder; inside the last week its hours end one by one.
--
-- Every table begins with the organisation. Ids are 16 bytes, instants microseconds since
-- 1970-01-01T00Z, cell sets 72 bytes. `until_us` is the instant from which a row is not shown any more.

-- Motion episodes, the highest revision of each. `event` is campanile.types.v1.Event as the box sealed
-- it; start and end beside it are present UTC on arrival.
CREATE TABLE event (
    organisation   BLOB NOT NULL,
    event          BLOB NOT NULL,
    camera         BLOB NOT NULL,
    revision       INTEGER NOT NULL,
    start_us       INTEGER NOT NULL,
    end_us         INTEGER NOT NULL,
    uncertainty_us INTEGER NOT NULL,
    until_us       INTEGER NOT NULL,
    content        BLOB NOT NULL,
    PRIMARY KEY (organisation, event)
) WITHOUT ROWID;

CREATE INDEX event_by_time ON event (organisation, start_us, camera);
CREATE INDEX event_until ON event (until_us);

-- One JPEG an event; `start_us` is when it was taken.
CREATE TABLE thumbnail (
    organisation BLOB NOT NULL,
    event        BLOB NOT NULL,
    camera       BLOB NOT NULL,
    revision     INTEGER NOT NULL,
    start_us     INTEGER NOT NULL,
    until_us     INTEGER NOT NULL,
    jpeg         BLOB NOT NULL,
    PRIMARY KEY (organisation, event)
);

CREATE INDEX thumbnail_until ON thumbnail (until_us);

-- Cells that moved at any time of an hour (hours since 1970): read first, because most hours of most
-- doorways are empty.
CREATE TABLE motion_hour (
    organisation BLOB NOT NULL,
    camera       BLOB NOT NULL,
    hour         INTEGER NOT NULL,
    ever         BLOB NOT NULL,
    PRIMARY KEY (organisation, camera, hour)
) WITHOUT ROWID;

-- Seconds as the box reported them, a row a report and hour; `seconds` as motion.rs packs them.
CREATE TABLE motion (
    organisation BLOB NOT NULL,
    camera       BLOB NOT NULL,
    hour         INTEGER NOT NULL,
    object       BLOB NOT NULL,
    revision     INTEGER NOT NULL,
    start_us     INTEGER NOT NULL,
    until_us     INTEGER NOT NULL,
    seconds      BLOB NOT NULL,
    PRIMARY KEY (organisation, camera, hour, object)
) WITHOUT ROWID;

CREATE INDEX motion_until ON motion (until_us);
