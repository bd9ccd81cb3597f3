//! What kind of failure it is: retry decisions and status codes look at the kind, never at text.

/// Every domain error answers with one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong and stays wrong.
    Invalid,
    /// Nobody is signed in, or the certificate or signature is not one we know.
    Unauthenticated,
    /// Somebody is, and may not. Also said of what does not exist, to whom may not know.
    Denied,
    NotFound,
    /// The object is in a state that does not allow it.
    Conflict,
    /// A limit or budget is used up; later may do.
    Exhausted,
    /// What is needed does not answer now; later may do.
    Unavailable,
    /// The term of a token, lease, certificate or of retention is over.
    Expired,
    /// Understood, and not something this version or this camera does.
    Unsupported,
    /// Our own fault, or the disk's.
    Internal,
}

impl Kind {
    /// Whether the same request may succeed later without anybody changing it.
    pub fn may_retry(self) -> bool {
        matches!(self, Self::Exhausted | Self::Unavailable | Self::Internal)
    }

    /// gRPC status code (grpc/doc/statuscodes).
    pub fn grpc(self) -> tonic::Code {
        match self {
            Self::Invalid => tonic::Code::InvalidArgument,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::Denied => tonic::Code::PermissionDenied,
            Self::NotFound => tonic::Code::NotFound,
            Self::Conflict => tonic::Code::FailedPrecondition,
            Self::Exhausted => tonic::Code::ResourceExhausted,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::Expired => tonic::Code::DeadlineExceeded,
            Self::Unsupported => tonic::Code::Unimplemented,
            Self::Internal => tonic::Code::Internal,
        }
    }

    /// HTTP status code (RFC 9110 section 15).
    pub fn http(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Exhausted => 429,
            Self::Unavailable => 503,
            Self::Expired => 410,
            Self::Unsupported => 501,
            Self::Internal => 500,
        }
    }
}

/// Prints an error with all its causes, once each: `outer: inner: innermost`.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
