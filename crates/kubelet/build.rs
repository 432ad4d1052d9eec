//! Compiles the kubelet's API; protox needs no protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["proto/podresources.proto"], ["proto"])?;
    // The messages and the server are for the fake kubelet of the tests.
    tonic_prost_build::configure().build_client(false).compile_fds(descriptors)?;
    Ok(())
}
