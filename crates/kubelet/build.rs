//! Compiles the kubelet's API; protox needs no compiler of protocol buffers on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["proto/podresources.proto"], ["proto"])?;
    // The server half is for the tests, which play the kubelet.
    tonic_prost_build::configure()
        .server_mod_attribute("v1", r#"#[cfg(any(test, feature = "testing"))]"#)
        .compile_fds(descriptors)?;
    Ok(())
}
