//! gRPC: where boxes and partner hubs connect.
//!
//! Belongs here: the listener with the hub's own authority, who a certificate says somebody is, the methods
//! of the Edge service as thin calls into `fleet`, limits of size and time.
//! Does not belong here: what a session or a delivery is (`fleet`), what a partner may (`federation`).
//! Invariant: every method asks the door before it does anything.

mod door;
mod edge;
mod limits;
mod listener;
mod places;
#[cfg(test)]
mod tests;
mod verifier;

pub use edge::EdgeService;
pub use listener::{RpcError, Served, serve};

use std::time::Duration;

/// HTTP/2 pings on an idle connection: what finds out that a box behind 4G is gone.
pub const PING_EVERY: Duration = Duration::from_secs(8);
pub const PING_TIMEOUT: Duration = Duration::from_secs(8);
