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
    ("/campanile.federation.v1.Federation/Close", Action::PartnerClose),
    ("/campanile.federation.v1.Federation/Witness", Action::PartnerWitness),
];

/// The action of `/package.Service/Method`.
pub fn action_of_method(path: &str) -> Option<Action> {
    METHODS.iter().find(|(method, _)| *method == path).map(|(_, action)| *action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;

    fn contract(set: &FileDescriptorSet) -> BTreeSet<String> {
        let mut methods = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
        methods
    }

    #[test]
    fn every_method_of_the_contract_has_its_action_and_no_other_has() {
        let mut set = FileDescriptorSet::decode(campanile_proto::DESCRIPTORS).unwrap();
        let listed: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed.len(), METHODS.len(), "each is listed once");
        assert_eq!(contract(&set), listed);
        let mut planted = set.file.iter().find(|file| !file.service.is_empty()).unwrap().service[0].method[0].clone();
        planted.name = Some("Planted".into());
        set.file.iter_mut().find(|file| !file.service.is_empty()).unwrap().service[0].method.push(planted);
        assert_ne!(contract(&set), listed, "a method nobody listed is noticed");
    }
}
