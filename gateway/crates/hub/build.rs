//! Generates the types of `hybrid.channels.v1`, their JSON form, and the stubs of the link's service, from the contract.

use std::{env, error::Error, path::PathBuf};

use prost::Message;

/// Written by hand: the one message whose JSON differs from protobuf's own mapping.
const BY_HAND: &str = ".hybrid.channels.v1.Payload";

fn main() -> Result<(), Box<dyn Error>> {
    let protos = PathBuf::from("../../../proto");
    println!("cargo:rerun-if-changed={}", protos.join("hybrid/channels").display());
    println!("cargo:rerun-if-changed={}", protos.join("hybrid/options").display());
    let set =
        protox::compile(["hybrid/channels/v1/client.proto", "hybrid/channels/v1/link.proto"], [&protos])?;
    pbjson_build::Builder::new()
        .register_descriptors(&set.encode_to_vec())?
        .ignore_unknown_fields()
        .exclude([BY_HAND])
        .build(&[".hybrid.channels"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).enable_type_names();
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_well_known_types(false)
        .out_dir(PathBuf::from(env::var("OUT_DIR")?))
        .compile_fds_with_config(set, config)?;
    Ok(())
}
