//! Compiles the contract with protox: no protoc on the machine.
use std::path::Path;

const FILES: [&str; 3] =
    ["campanile/types/v1/types.proto", "campanile/edge/v1/edge.proto", "campanile/federation/v1/federation.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=campanile");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
