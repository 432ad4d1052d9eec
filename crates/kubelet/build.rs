//! Compiles the kubelet's API; protox needs no protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["proto/podresources.proto"], ["proto"])?;
    // The server is for the fake kubelet of the tests.
    tonic_prost_build::configure()
        .server_mod_attribute("v1", r#"#[cfg(any(test, feature = "testing"))]"#)
        .compile_fds(descriptors)?;
    Ok(())
}
