//! Compiles the protobuf text without `protoc`: messages, the clients and the servers' traits.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["cri.proto"], ["proto"])?;
    // What a server leaves out it refuses as unimplemented, which is how the interface grows.
    tonic_prost_build::configure().generate_default_stubs(true).compile_fds(files)?;
    Ok(())
}
