//! Refusals a partner may read: they confirm nothing's existence.

use crate::access;
use campanile_proto::federation::v1::Refusal;
use campanile_proto::kind::Kind;

pub const SCHEMA_TOO_OLD: &str = "SCHEMA_TOO_OLD";
pub const REPLAYED: &str = "REPLAYED";
pub const EXPIRED: &str = "EXPIRED";
pub const WRONG_AUDIENCE: &str = "WRONG_AUDIENCE";
pub const MALFORMED: &str = "MALFORMED";
pub const NOT_GRANTED: &str = "NOT_GRANTED";
pub const UNAVAILABLE: &str = "UNAVAILABLE";
pub const NO_LEASE: &str = "NO_LEASE";
pub const REVOKED: &str = "REVOKED";
pub const NOTHING_RECORDED: &str = "NOTHING_RECORDED";
pub const SUSPENDED: &str = "SUSPENDED";
pub const TOO_FAR_AHEAD: &str = "TOO_FAR_AHEAD";
pub const BUSY: &str = "BUSY";

pub fn refusal(code: &str, sentence: impl Into<String>) -> Refusal {
    Refusal { code: code.to_owned(), clause: String::new(), sentence: sentence.into() }
}

pub fn malformed(sentence: impl Into<String>) -> Refusal {
    refusal(MALFORMED, sentence)
}

pub fn schema_too_old() -> Refusal {
    refusal(SCHEMA_TOO_OLD, "a field or value is newer than this hub understands; it must be updated first")
}

/// The same for what is not granted and for what is not there.
pub fn not_granted(clause: &str) -> Refusal {
    let mut refusal = refusal(NOT_GRANTED, "no clause of the agreement grants this request");
    refusal.clause = clause.to_owned();
    refusal
}

/// Only within a grant: outside of it nobody learns what there is.
pub fn nothing_recorded() -> Refusal {
    refusal(NOTHING_RECORDED, "nothing was recorded by this camera in this interval, or it is not kept any more")
}

pub fn unavailable() -> Refusal {
    refusal(UNAVAILABLE, "this cannot be delivered now; try again later")
}

impl From<access::Refusal> for Refusal {
    fn from(refusal: access::Refusal) -> Self {
        Self { code: refusal.code.to_owned(), clause: refusal.clause, sentence: refusal.sentence }
    }
}

/// What kind of failure a partner's code is.
pub fn kind_of(code: &str) -> Kind {
    match code {
        UNAVAILABLE => Kind::Unavailable,
        NOTHING_RECORDED => Kind::NotFound,
        BUSY | TOO_FAR_AHEAD => Kind::Exhausted,
        SCHEMA_TOO_OLD => Kind::Unsupported,
        EXPIRED | NO_LEASE => Kind::Expired,
        MALFORMED | "NO_PURPOSE" | "NO_CASE" | "BAD_INTERVAL" | "NO_OPERATOR" => Kind::Invalid,
        _ => Kind::Denied,
    }
}
