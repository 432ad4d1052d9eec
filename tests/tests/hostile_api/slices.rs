//! A node whose ResourceSlices have more devices than are read.

use afd_test_cluster::until;
use anyhow::ensure;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use super::{COUNT, HostileSetup, NODE, metric, scrape};

const SLICES: usize = 60;
/// As many as the API allows.
const DEVICES: usize = 128;
const SKIPPED: &str = "afd_resource_slice_skipped_devices ";
/// The budget of 24 MiB without the 10 MiB at rest, for a debug build.
const MAX_GROWTH_MIB: f64 = 14.0;

pub(crate) async fn too_many_devices() -> anyhow::Result<()> {
    let mut setup = HostileSetup::under(None).await?;
    setup.until_complete().await?;
    until("no device is left out", async || {
        let skipped = metric(SKIPPED);
        ensure!(skipped == Some(0.0), "{skipped:?}");
        Ok(())
    })
    .await?;
    let before = setup.memory()?;
    let slices: Api<ResourceSlice> = Api::all(setup.node_setup.bed.client().await?);
    let slice = |number: usize| {
        let device = |device: usize| json!({ "name": format!("{device:060}"), "attributes": { "uuid": { "string": "x".repeat(64) } } });
        let devices: Vec<_> = (0..DEVICES).map(device).collect();
        let pool = json!({ "name": format!("pool-{number}"), "generation": 1, "resourceSliceCount": 1 });
        let spec =
            json!({ "driver": "many.example.com", "nodeName": NODE, "pool": pool, "devices": devices });
        serde_json::from_value(json!({ "metadata": { "name": format!("many-{number}") }, "spec": spec }))
    };
    let created = stream::iter(0..SLICES).map(async |number| -> anyhow::Result<()> {
        slices.create(&PostParams::default(), &slice(number)?).await?;
        Ok(())
    });
    created.buffer_unordered(8).try_collect::<Vec<()>>().await?;
    until("devices are left out", async || {
        let skipped = metric(SKIPPED);
        ensure!(skipped.is_some_and(|skipped| (1000.0..5000.0).contains(&skipped)), "{skipped:?}");
        Ok(())
    })
    .await?;
    scrape()?;
    let most = setup.memory()?;
    println!("{} devices in ResourceSlices: {:.1} MiB more", SLICES * DEVICES, most - before);
    ensure!(most - before < MAX_GROWTH_MIB, "the memory grew from {before} MiB to {most} MiB");
    setup.node_setup.overwrite_count().await?;
    setup.node_setup.until_label(COUNT, "8").await?;

    slices.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    until("no device is left out again", async || {
        let skipped = metric(SKIPPED);
        ensure!(skipped == Some(0.0), "{skipped:?}");
        Ok(())
    })
    .await?;
    setup.terminate().await
}
