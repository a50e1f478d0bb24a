//! Compiles the protocol between controllers and replicas, without a compiler that would have to be
//! installed.

use std::error::Error;

const PROTOCOL: &str = "proto/kubeng.proto";

/// Messages that hold what nobody may read in a log: they have no derived `Debug`.
const SECRET: [&str; 2] = [".kubeng.v1.Secret", ".kubeng.v1.JoinRequest"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTOCOL}");
    let files = protox::compile([PROTOCOL], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .skip_debug(SECRET)
        .compile_fds(files)?;
    Ok(())
}
