//! The metadata server of the machine does not answer.

use std::{collections::BTreeMap, fs};

use afd_test_cluster::until;
use afd_tests::fake_server::{FakeAnswer, FakeServer};
use anyhow::ensure;
use kube::ResourceExt;

use crate::{
    scene::{Scene, command, node_of, until_metric},
    setup::{COUNT, NODE},
    witness::Witness,
};

const TOPOLOGY: &str = "tpu.google.com/topology";
const UNREADABLE: &str = "afd_probe_problems{probe=\"tpu\",reason=\"unreadable\"}";
/// Nothing listens there.
const CLOSED: &str = "127.0.0.1:1";

/// TPUs whose driver the machine's image has not bound.
pub(crate) async fn without_driver() -> anyhow::Result<()> {
    let setup = node_of("tpu-v6e-x4-no-driver").await?;
    let scene = Scene::start(setup, &[("driver-grace", "1")]).await?;
    let message = scene.until_condition("Ready", "False DriverMissing").await?;
    ensure!(message.contains("use the image for this generation of TPU"), "{message}");
    Ok(())
}

/// That nothing listens does not mean that the machine has no slice, unless it is no machine of the platform.
pub(crate) async fn refused() -> anyhow::Result<()> {
    let setup = node_of("tpu-v5e-x8").await?;
    let texts = BTreeMap::from([(
        "/computeMetadata/v1/instance/attributes/tpu-env".to_owned(),
        "TPU_ACCELERATOR_TYPE: v5litepod-8\nTOPOLOGY: 2x4\nCHIPS_PER_HOST_BOUNDS: 2,4,1\n".to_owned(),
    )]);
    let server = FakeServer::start(FakeAnswer::Paths { header: "Metadata-Flavor: Google", texts });
    let agent = |server: &str| {
        let mut command = command(&setup, &[]);
        command.args(["--tpu-exporter", "off", "--tpu-runtime", "off", "--tpu-metadata-server", server]);
        command
    };
    let mut first = setup.bed.process("afd", agent(&server.address.to_string()))?;
    setup.until_label(TOPOLOGY, "2x4").await?;
    setup.until_label(COUNT, "8").await?;
    first.kill()?;
    let witness = Witness::start(setup.nodes.clone(), NODE).await?;
    let mark = witness.mark().await?;
    let mut second = setup.bed.process("afd-refused", agent(CLOSED))?;
    until_metric(UNREADABLE, 1.0).await?;
    // What it writes later has all that it has decided.
    setup.overwrite_count().await?;
    setup.until_label(COUNT, "8").await?;
    second.kill()?;
    witness.since(mark).await?.ensure_labels_stay(&[COUNT])?;
    // The firmware of another machine: it has no such server, and nothing is asked.
    let dmi = setup.host.root().join("sys/class/dmi/id");
    fs::create_dir_all(&dmi)?;
    fs::write(dmi.join("product_name"), "ProLiant DL380\n")?;
    let before = server.connections();
    let _third = setup.bed.process("afd-elsewhere", agent(&server.address.to_string()))?;
    until("what the server had said is gone", async || {
        let node = setup.node().await?;
        ensure!(!node.labels().contains_key(TOPOLOGY), "{:?}", node.labels());
        Ok(())
    })
    .await?;
    ensure!(server.connections() == before, "it was asked");
    Ok(())
}
