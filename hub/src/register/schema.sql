-- The register. Leaves are the truth; everything else is found from them or stands beside them.

-- One row a leaf, `leaf` = encoded campanile.types.v1.RegisterLeaf, hashed as it stands.
-- phase and request_id repeat what is in it, to find opened entries without a close.
CREATE TABLE IF NOT EXISTS leaf (
    sequence   INTEGER PRIMARY KEY,
    request_id BLOB NOT NULL,
    phase      INTEGER NOT NULL,
    leaf       BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS leaf_by_request ON leaf (request_id, phase);
CREATE TRIGGER IF NOT EXISTS leaf_stays BEFORE DELETE ON leaf
BEGIN SELECT RAISE(ABORT, 'the register cannot be thinned'); END;
CREATE TRIGGER IF NOT EXISTS leaf_is_final BEFORE UPDATE ON leaf
BEGIN SELECT RAISE(ABORT, 'a register entry cannot be changed'); END;
CREATE TRIGGER IF NOT EXISTS leaf_follows BEFORE INSERT ON leaf
WHEN NEW.sequence <> COALESCE((SELECT MAX(sequence) + 1 FROM leaf), 0)
BEGIN SELECT RAISE(ABORT, 'a register entry follows the last one'); END;

-- Values behind the commitments, with a retention of their own: removing a row leaves the tree whole.
CREATE TABLE IF NOT EXISTS personal (
    sequence INTEGER NOT NULL REFERENCES leaf (sequence),
    field    TEXT NOT NULL CHECK (field IN ('operator', 'purpose', 'case')),
    value    TEXT NOT NULL,
    salt     BLOB NOT NULL,
    PRIMARY KEY (sequence, field)
) STRICT, WITHOUT ROWID;

-- Signed checkpoints, encoded campanile.federation.v1.SignedEnvelope.
CREATE TABLE IF NOT EXISTS checkpoint (
    tree_size INTEGER PRIMARY KEY,
    envelope  BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS checkpoint_stays BEFORE DELETE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'a checkpoint stays'); END;
CREATE TRIGGER IF NOT EXISTS checkpoint_is_final BEFORE UPDATE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'a checkpoint cannot be changed'); END;
