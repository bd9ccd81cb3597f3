//! Every field of the contract stands in some example with a value that is not its default: a golden
//! file that leaves a field out proves nothing of it.

use crate::{edge, federation, records};
use campanile_proto::DESCRIPTORS;
use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::collections::{BTreeSet, HashMap};

/// Messages by full name with a leading dot, as type names refer to them.
fn messages() -> HashMap<String, DescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let of = |file: prost_types::FileDescriptorProto| {
        let package = file.package().to_owned();
        file.message_type.into_iter().map(move |m| (format!(".{package}.{}", m.name()), m))
    };
    set.file.into_iter().flat_map(of).collect()
}

/// Notes every field of `message` that stands in `bytes`, and goes into nested messages.
fn note(all: &HashMap<String, DescriptorProto>, message: &str, mut bytes: &[u8], seen: &mut BTreeSet<String>) {
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes).unwrap();
        let field = all[message].field.iter().find(|f| f.number() as u32 == number).unwrap();
        seen.insert(format!("{message}.{}", field.name()));
        match wire {
            WireType::Varint => drop(decode_varint(&mut bytes).unwrap()),
            WireType::SixtyFourBit => bytes.advance(8),
            WireType::ThirtyTwoBit => bytes.advance(4),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).unwrap() as usize;
                let (inner, rest) = bytes.split_at(length);
                bytes = rest;
                if all.contains_key(field.type_name()) {
                    note(all, field.type_name(), inner, seen);
                }
            }
            other => panic!("{other:?} in {message}"),
        }
    }
}

#[test]
fn every_field_of_the_contract_stands_in_an_example() {
    let all = messages();
    let mut seen = BTreeSet::new();
    let mut add = |name: &str, bytes: Vec<u8>| note(&all, &format!(".campanile.{name}"), &bytes, &mut seen);
    add("types.v1.SegmentHeader", records::header().encode_to_vec());
    add("types.v1.RecordHeader", records::record_header().encode_to_vec());
    add("types.v1.SegmentFooter", records::footer().encode_to_vec());
    add("types.v1.RegisterLeaf", records::leaf().encode_to_vec());
    add("types.v1.RegisterLeaf", records::leaf_of_hold().encode_to_vec());
    add("types.v1.Checkpoint", federation::checkpoint().encode_to_vec());
    for record in [records::motion(), records::event(), records::thumbnail()] {
        add("types.v1.IndexRecord", record.encode_to_vec());
    }
    edge::to_hub().iter().for_each(|(_, m)| add("edge.v1.EdgeMessage", m.encode_to_vec()));
    edge::from_hub().iter().for_each(|(_, m)| add("edge.v1.HubMessage", m.encode_to_vec()));
    edge::up().iter().for_each(|(_, m)| add("edge.v1.DeliverUp", m.encode_to_vec()));
    edge::down().iter().for_each(|(_, m)| add("edge.v1.DeliverDown", m.encode_to_vec()));
    let (enrol, enrolled, renew, renewed) = edge::enrolment();
    add("edge.v1.EnrolRequest", enrol.encode_to_vec());
    add("edge.v1.EnrolResponse", enrolled.encode_to_vec());
    add("edge.v1.RenewRequest", renew.encode_to_vec());
    add("edge.v1.RenewResponse", renewed.encode_to_vec());
    add("edge.v1.SealingKeys", edge::sealing_keys().to_vec());
    add("federation.v1.Agreement", federation::agreement().encode_to_vec());
    add("federation.v1.HubMandate", federation::mandate().encode_to_vec());
    add("federation.v1.Revocation", federation::revocation().encode_to_vec());
    add("federation.v1.AccessRequest", federation::access_request().encode_to_vec());
    add("federation.v1.LeaseRequest", federation::lease_request().encode_to_vec());
    add("federation.v1.SignedEnvelope", federation::growing_checkpoint().encode_to_vec());
    add("federation.v1.Introduction", federation::introduction().encode_to_vec());
    add("federation.v1.Receipt", federation::receipt().encode_to_vec());
    add("federation.v1.SealedChunk", federation::sealed_chunk().encode_to_vec());
    for content in federation::contents() {
        let reply = campanile_proto::federation::v1::Reply { reply: Some(content) };
        add("federation.v1.Reply", reply.encode_to_vec());
    }

    let every = all.iter().flat_map(|(name, m)| m.field.iter().map(move |f| format!("{name}.{}", f.name())));
    let missing: Vec<String> = every.filter(|field| !seen.contains(field)).collect();
    assert!(missing.is_empty(), "in no example: {missing:#?}");
}
