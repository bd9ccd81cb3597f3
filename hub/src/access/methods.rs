//! Which action each gRPC method is: what is not in this table is not served.

use super::ask::Action;

/// Full method path and its action.
pub const METHODS: &[(&str, Action)] = &[
    ("/campanile.edge.v1.Edge/Enrol", Action::Enrol),
    ("/campanile.edge.v1.Edge/Renew", Action::EdgeRenew),
    ("/campanile.edge.v1.Edge/Session", Action::EdgeSession),
    ("/campanile.edge.v1.Edge/Deliver", Action::EdgeDeliver),
    ("/campanile.federation.v1.Federation/Introduce", Action::Introduce),
    ("/campanile.federation.v1.Federation/Propose", Action::Propose),
    ("/campanile.federation.v1.Federation/Conclude", Action::PartnerConclude),
    ("/campanile.federation.v1.Federation/Revoke", Action::PartnerRevoke),
    ("/campanile.federation.v1.Federation/Search", Action::PartnerSearch),
    ("/campanile.federation.v1.Federation/Thumbnail", Action::PartnerThumbnail),
    ("/campanile.federation.v1.Federation/Open", Action::PartnerPlayback),
    ("/campanile.federation.v1.Federation/Media", Action::PartnerLease),
    ("/campanile.federation.v1.Federation/Renew", Action::PartnerLease),
    ("/campanile.federation.v1.Federation/Close", Action::PartnerLease),
    ("/campanile.federation.v1.Federation/Witness", Action::PartnerWitness),
];

/// The action of `/package.Service/Method`.
pub fn action_of_method(path: &str) -> Option<Action> {
    METHODS.iter().find(|(method, _)| *method == path).map(|(_, action)| *action)
}
