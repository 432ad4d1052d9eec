//! Why a listener rejects a connection or a request.

/// Why a connection or a request was rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RejectReason {
    /// All places were taken, and a new connection needed one.
    Displaced,
    /// The TLS handshake took too long.
    SlowHandshake,
    /// The TLS handshake failed: no TLS at all, no common version, or no valid client certificate.
    HandshakeFailed,
    /// No complete request arrived in time.
    SlowRequest,
    /// What arrived is no HTTP request, or its headers are too long.
    MalformedRequest,
    /// Another method than GET and HEAD.
    MethodNotAllowed,
    /// Without valid credentials.
    Unauthorized,
    /// The API server does not permit the path.
    Forbidden,
    /// Too many credentials of the client are being checked.
    Busy,
    /// Credentials cannot be checked now.
    Unavailable,
    /// The client read nothing of its response.
    Stalled,
    /// The client read its response too slowly.
    SlowResponse,
}

impl RejectReason {
    /// All of them.
    pub(super) const ALL: [RejectReason; 12] = [
        RejectReason::Displaced,
        RejectReason::SlowHandshake,
        RejectReason::HandshakeFailed,
        RejectReason::SlowRequest,
        RejectReason::MalformedRequest,
        RejectReason::MethodNotAllowed,
        RejectReason::Unauthorized,
        RejectReason::Forbidden,
        RejectReason::Busy,
        RejectReason::Unavailable,
        RejectReason::Stalled,
        RejectReason::SlowResponse,
    ];

    /// The spelling in metric labels.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            RejectReason::Displaced => "displaced",
            RejectReason::SlowHandshake => "slow_handshake",
            RejectReason::HandshakeFailed => "handshake_failed",
            RejectReason::SlowRequest => "slow_request",
            RejectReason::MalformedRequest => "malformed_request",
            RejectReason::MethodNotAllowed => "method_not_allowed",
            RejectReason::Unauthorized => "unauthorized",
            RejectReason::Forbidden => "forbidden",
            RejectReason::Busy => "busy",
            RejectReason::Unavailable => "unavailable",
            RejectReason::Stalled => "stalled",
            RejectReason::SlowResponse => "slow_response",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_spelling_of_its_own() {
        let spellings: BTreeSet<&str> = RejectReason::ALL.into_iter().map(RejectReason::as_str).collect();
        assert_eq!(spellings.len(), RejectReason::ALL.len());
    }
}
