//! Who may do what: the one door.
//!
//! Belongs here: people and sessions, purposes, the policy, the pure decision, the door that registers it.
//! Does not belong here: how a request arrived (web, rpc, command line), what is released.
//! Invariant: every REST route, gRPC method and command passes [`decide`]; footage and events only with
//! purpose and case number, and only after a durable register entry.

mod ask;
mod decide;
mod door;
mod limiter;
mod methods;
mod password;
mod people;
mod policy;
#[cfg(test)]
mod shutter;
#[cfg(test)]
mod tests;

pub use ask::{Action, Decision, Principal, Refusal, Request};
pub use decide::{CLOCK_SLACK_US, decide, stands};
pub use door::{Door, Pass, Registered};
pub use methods::{METHODS, action_of_method};
pub use password::Password;
pub use people::{People, PeopleError, Session};
pub use policy::{AGREEMENT_SCHEMA, LiveAgreement, Policy};
#[cfg(test)]
pub use shutter::Shutter;
