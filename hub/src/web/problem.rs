//! What goes wrong, as a browser or the command line reads it: `{code, sentence, field?, clause?}`.

use crate::access::Refusal;
use crate::federation::AskError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use campanile_proto::kind::{Chain, Kind};
use serde_json::json;
use tracing::warn;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub kind: Kind,
    pub code: String,
    pub sentence: String,
    pub field: Option<&'static str>,
    pub clause: String,
    /// Seconds after which to ask again.
    pub retry_after: Option<u64>,
}

impl Problem {
    pub fn new(kind: Kind, code: &str, sentence: impl Into<String>) -> Self {
        let (field, clause, retry_after) = Default::default();
        Self { kind, code: code.to_owned(), sentence: sentence.into(), field, clause, retry_after }
    }

    /// One field of the request is wrong.
    pub fn field(field: &'static str, sentence: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::new(Kind::Invalid, "BAD_FIELD", sentence) }
    }

    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "NOT_FOUND", "there is nothing here under this name")
    }

    /// What a partner answered, with the clause it named.
    pub fn of_partner(error: &AskError) -> Self {
        Self { clause: error.clause().to_owned(), ..Self::new(error.kind(), error.code(), error.sentence()) }
    }

    /// An error of the hub, with its causes: to the log, and to the asker, who is one of our own people, unless it
    /// is our own fault.
    pub fn of(attempt: &'static str, kind: Kind, error: &(dyn std::error::Error + 'static)) -> Self {
        warn!(error = %Chain(error), attempt, "request not served");
        match kind {
            Kind::Internal => Self::new(kind, "INTERNAL", "the hub could not do it; its log says why"),
            kind => Self::new(kind, code(kind), Chain(error).to_string()),
        }
    }
}

fn code(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "INVALID",
        Kind::Unauthenticated => "NOT_SIGNED_IN",
        Kind::Denied => "DENIED",
        Kind::NotFound => "NOT_FOUND",
        Kind::Conflict => "CONFLICT",
        Kind::Exhausted => "EXHAUSTED",
        Kind::Unavailable => "UNAVAILABLE",
        Kind::Expired => "EXPIRED",
        Kind::Unsupported => "UNSUPPORTED",
        Kind::Internal => "INTERNAL",
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let field = match refusal.code {
            "NO_PURPOSE" => Some("purpose"),
            "NO_CASE" => Some("case_number"),
            "BAD_INTERVAL" => Some("from"),
            _ => None,
        };
        Self { field, clause: refusal.clause, ..Self::new(refusal.kind, refusal.code, refusal.sentence) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({ "code": self.code, "sentence": self.sentence });
        if let Some(field) = self.field {
            body["field"] = field.into();
        }
        if !self.clause.is_empty() {
            body["clause"] = self.clause.into();
        }
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::federation::v1::Refusal as Answered;

    #[tokio::test]
    async fn a_clause_that_a_partner_named_reaches_the_operator() {
        let refusal = Answered { code: "NOT_GRANTED".into(), clause: "3.3".into(), sentence: "no clause".into() };
        let response = Problem::of_partner(&AskError::Refused(refusal)).into_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let bytes = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(said, json!({ "code": "NOT_GRANTED", "clause": "3.3", "sentence": "no clause" }));
        let response = Problem::of_partner(&AskError::CutShort).into_response();
        let bytes = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("clause"));
    }
}
