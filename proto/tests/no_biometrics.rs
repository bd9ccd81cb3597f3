//! No biometrics: no name in the contract and no package in the dependency tree speaks of recognising a
//! person by the body. Each scan is shown to find what is planted.

#![allow(clippy::unwrap_used)]

use campanile_proto::DESCRIPTORS;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, OneofDescriptorProto, ServiceDescriptorProto,
};

/// Words that stand alone in a name (`face`, not `surface` or `interface`).
const WORDS: &[&str] = &[
    "face",
    "faces",
    "facial",
    "gait",
    "iris",
    "biometric",
    "biometrics",
    "reid",
    "embedding",
    "embeddings",
    "faceprint",
    "voiceprint",
    "earprint",
    "minutiae",
    "arcface",
    "facenet",
    "insightface",
    "deepface",
    "eigenfaces",
];
/// Runs of words.
const PHRASES: &[&str] = &[
    "fingerprint_template",
    "identity_match",
    "person_id",
    "re_id",
    "feature_vector",
    "rust_faces",
    "face_id",
    "person_identity",
    "subject_match",
];

/// The words of a name, lower case: `FaceMatch`, `face_match` and `face-match` alike.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && before_lower {
            words.push(String::new());
        }
        before_lower = c.is_lowercase() || c.is_ascii_digit();
        if c.is_alphanumeric() {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn speaks_of_bodies(name: &str) -> bool {
    let words = words(name);
    let joined = format!("_{}_", words.join("_"));
    words.iter().any(|word| WORDS.contains(&word.as_str()))
        || PHRASES.iter().any(|p| joined.contains(&format!("_{p}_")))
}

fn names_of_enum(descriptor: &EnumDescriptorProto, found: &mut Vec<String>) {
    found.push(descriptor.name().to_owned());
    found.extend(descriptor.value.iter().map(|value| value.name().to_owned()));
}

fn names_of_message(descriptor: &DescriptorProto, found: &mut Vec<String>) {
    found.push(descriptor.name().to_owned());
    found.extend(descriptor.field.iter().map(|field| field.name().to_owned()));
    found.extend(descriptor.oneof_decl.iter().map(|oneof| oneof.name().to_owned()));
    descriptor.enum_type.iter().for_each(|e| names_of_enum(e, found));
    descriptor.nested_type.iter().for_each(|m| names_of_message(m, found));
}

/// Every name in a set of descriptors that may not be there.
fn forbidden(set: &FileDescriptorSet) -> Vec<String> {
    let mut names = Vec::new();
    for file in &set.file {
        names.push(file.package().to_owned());
        file.message_type.iter().for_each(|m| names_of_message(m, &mut names));
        file.enum_type.iter().for_each(|e| names_of_enum(e, &mut names));
        for service in &file.service {
            names.push(service.name().to_owned());
            names.extend(service.method.iter().map(|method| method.name().to_owned()));
        }
    }
    names.retain(|name| speaks_of_bodies(name));
    names
}

/// Package names in a lock file that may not be there.
fn forbidden_packages(lock: &str) -> Vec<&str> {
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    names.filter(|name| speaks_of_bodies(name)).collect()
}

fn contract() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).unwrap()
}

#[test]
fn no_name_in_the_contract_speaks_of_bodies() {
    assert!(contract().file.iter().map(|file| file.message_type.len()).sum::<usize>() > 50, "the contract is there");
    assert_eq!(forbidden(&contract()), Vec::<String>::new());
}

#[test]
fn the_scan_finds_what_is_planted_anywhere() {
    let field = |name: &str| FieldDescriptorProto { name: Some(name.into()), ..Default::default() };
    let message = |name: &str| DescriptorProto { name: Some(name.into()), ..Default::default() };
    let value = EnumValueDescriptorProto { name: Some("LABEL_FACE".into()), ..Default::default() };
    let nested = DescriptorProto { field: vec![field("person_id")], ..message("Inner") };
    let plants: Vec<FileDescriptorProto> = vec![
        FileDescriptorProto { message_type: vec![message("GaitSignature")], ..Default::default() },
        FileDescriptorProto {
            message_type: vec![DescriptorProto { field: vec![field("fingerprint_template")], ..message("X") }],
            ..Default::default()
        },
        FileDescriptorProto {
            message_type: vec![DescriptorProto { nested_type: vec![nested], ..message("Outer") }],
            ..Default::default()
        },
        FileDescriptorProto {
            message_type: vec![DescriptorProto {
                oneof_decl: vec![OneofDescriptorProto { name: Some("reid".into()), ..Default::default() }],
                ..message("Y")
            }],
            ..Default::default()
        },
        FileDescriptorProto {
            enum_type: vec![EnumDescriptorProto { name: Some("Z".into()), value: vec![value], ..Default::default() }],
            ..Default::default()
        },
        FileDescriptorProto {
            service: vec![ServiceDescriptorProto { name: Some("IdentityMatch".into()), ..Default::default() }],
            ..Default::default()
        },
    ];
    for plant in plants {
        let mut set = contract();
        set.file.push(plant);
        assert_eq!(forbidden(&set).len(), 1, "{:?}", set.file.last());
    }
}

#[test]
fn no_package_in_the_tree_speaks_of_bodies() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock = std::fs::read_to_string(path).unwrap();
    assert!(lock.contains("name = \"prost\""), "the lock file is there");
    assert_eq!(forbidden_packages(&lock), Vec::<&str>::new());
    let planted = format!("{lock}\n[[package]]\nname = \"rust-faces\"\n[[package]]\nname = \"face_id-rs\"\n");
    assert_eq!(forbidden_packages(&planted), ["rust-faces", "face_id-rs"]);
}

#[test]
fn harmless_words_that_contain_others_are_let_be() {
    for harmless in ["surface", "interface", "NetworkInterface", "key_fingerprint", "bidirectional"] {
        assert!(!speaks_of_bodies(harmless), "{harmless}");
    }
    for harmful in ["FaceMatch", "face-match", "isFace", "ReId", "BIOMETRIC_KIND", "irisCode", "feature_vector"] {
        assert!(speaks_of_bodies(harmful), "{harmful}");
    }
}
