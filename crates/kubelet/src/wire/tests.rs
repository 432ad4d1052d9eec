use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::*;
use crate::{
    messages::{PODS, Part},
    v1::{
        ClaimResource, ContainerDevices, ContainerResources, DynamicResource, ListPodResourcesResponse,
        PodResources,
    },
};

/// What was read, as text: `Text(PodName, Some("a"))`.
fn events(bytes: &[u8], piece: usize) -> Result<Vec<String>, WireError> {
    let mut events = Vec::new();
    let mut reader = WireReader::new(&PODS, bytes.len() as u64);
    let mut take = |event: WireEvent<'_, Part>| events.push(format!("{event:?}"));
    reader.read(&[], &mut take)?;
    for piece in bytes.chunks(piece) {
        reader.read(piece, &mut take)?;
    }
    assert!(reader.is_complete(), "a message of this length was read to its end or refused");
    Ok(events)
}

fn text(part: Part, text: &str) -> Option<String> {
    // Encoders leave out an empty string that is not repeated.
    let is_written = !text.is_empty() || part == Part::HeldId;
    is_written.then(|| format!("{:?}", WireEvent::Text(part, Some(text))))
}

fn message(part: Part, fields: Vec<Option<String>>) -> Vec<Option<String>> {
    let mut events = vec![Some(format!("{:?}", WireEvent::Begin(part)))];
    events.extend(fields);
    events.push(Some(format!("{:?}", WireEvent::<Part>::End(part))));
    events
}

/// The events of a response, in the order of its tags.
fn expected(response: &ListPodResourcesResponse) -> Vec<String> {
    let pods = response.pod_resources.iter().flat_map(|pod| {
        let mut fields = vec![text(Part::PodName, &pod.name), text(Part::Namespace, &pod.namespace)];
        fields.extend(pod.containers.iter().flat_map(container));
        message(Part::Pod, fields)
    });
    pods.flatten().chain([format!("{:?}", WireEvent::End(Part::Pods))]).collect()
}

fn container(container: &ContainerResources) -> Vec<Option<String>> {
    let mut fields = vec![text(Part::ContainerName, &container.name)];
    fields.extend(container.devices.iter().flat_map(|devices| {
        let mut fields = vec![text(Part::Resource, &devices.resource_name)];
        fields.extend(devices.device_ids.iter().map(|id| text(Part::HeldId, id)));
        message(Part::Devices, fields)
    }));
    fields.extend(container.dynamic_resources.iter().flat_map(|claim| {
        let mut fields = vec![text(Part::ClaimName, &claim.claim_name)];
        fields.extend(claim.claim_resources.iter().flat_map(|resource| {
            let fields =
                vec![text(Part::Driver, &resource.driver_name), text(Part::DraDevice, &resource.device_name)];
            message(Part::ClaimResource, fields)
        }));
        message(Part::Claim, fields)
    }));
    message(Part::Container, fields)
}

fn responses() -> impl Strategy<Value = ListPodResourcesResponse> {
    let name = || "[a-zé-]{0,9}";
    let devices = (name(), vec(name(), 0..4))
        .prop_map(|(resource_name, device_ids)| ContainerDevices { resource_name, device_ids });
    let resource = (name(), name(), name(), proptest::option::of(name())).prop_map(
        |(driver_name, pool_name, device_name, share_id)| ClaimResource {
            driver_name,
            pool_name,
            device_name,
            share_id,
        },
    );
    let claim =
        (name(), name(), vec(resource, 0..3)).prop_map(|(claim_name, claim_namespace, claim_resources)| {
            DynamicResource { claim_name, claim_namespace, claim_resources }
        });
    let container =
        (name(), vec(devices, 0..3), vec(claim, 0..3)).prop_map(|(name, devices, dynamic_resources)| {
            ContainerResources { name, devices, dynamic_resources }
        });
    let pod = (name(), name(), vec(container, 0..3)).prop_map(|(name, namespace, containers)| PodResources {
        name,
        namespace,
        containers,
    });
    vec(pod, 0..4).prop_map(|pod_resources| ListPodResourcesResponse { pod_resources })
}

proptest! {
    #[test]
    fn a_response_is_read_the_same_however_it_arrives(response in responses(), piece in 1_usize..40) {
        prop_assert_eq!(events(&response.encode_to_vec(), piece), Ok(expected(&response)));
    }

    #[test]
    fn a_changed_response_is_read_or_refused(
        response in responses(), at in any::<prop::sample::Index>(), byte in any::<u8>(), piece in 1_usize..40
    ) {
        let mut bytes = response.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // The same verdict whatever the pieces are, and never a panic.
        prop_assert_eq!(events(&bytes, piece), events(&bytes, usize::MAX));
        if ListPodResourcesResponse::decode(&bytes[..]).is_ok() {
            prop_assert!(events(&bytes, piece).is_ok());
        }
    }

    #[test]
    fn garbage_is_read_or_refused(bytes in vec(any::<u8>(), 0..200), piece in 1_usize..40) {
        prop_assert_eq!(events(&bytes, piece), events(&bytes, usize::MAX));
    }
}

#[test]
fn a_text_that_is_too_long_is_reported_without_its_value() {
    let pod = |length| PodResources { name: "x".repeat(length), ..PodResources::default() };
    let response = ListPodResourcesResponse { pod_resources: vec![pod(MAX_TEXT), pod(MAX_TEXT + 1)] };
    let read = events(&response.encode_to_vec(), 7).expect("it is a message");
    assert!(read[1].starts_with("Text(PodName, Some(\"xxx"), "{read:?}");
    assert_eq!(read[4], "Text(PodName, None)");
}
