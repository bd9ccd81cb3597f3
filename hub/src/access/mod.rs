//! Who may do what: the one door.
//!
//! Belongs here: people and sessions, purposes, the policy, the pure decision, the door that registers it.
//! Does not belong here: how a request arrived (web, rpc, command line), what is released.
//! Invariant: every REST route, gRPC method and command passes [`decide`]; footage and events only with
//! purpose and case number, and only after a durable register entry.

mod decide;
mod door;
mod people;

pub use decide::{Action, Decision, Policy, Principal, Refusal, Request, decide};
pub use door::{Door, Pass};
pub use people::{Operator, People, PeopleError, Session};
