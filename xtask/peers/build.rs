//! Generates the typed code that the transcoder is measured against, from the same contract.

use std::{env, error::Error, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(["bench.proto"], ["proto", "../../proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("bench.binpb"), set.encode_to_vec())?;
    pbjson_build::Builder::new().register_descriptors(&set.encode_to_vec())?.build(&[".bench"])?;
    prost_build::Config::new()
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        // Options only; no message of theirs is used.
        .extern_path(".google.api", "::pbjson_types")
        .extern_path(".hybrid.options", "::pbjson_types")
        .compile_fds(set)?;
    Ok(())
}
