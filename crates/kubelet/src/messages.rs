//! The messages of the PodResources API, version v1, that are read: the parts of `proto/podresources.proto` by their tags.

use crate::wire::{
    FieldShape::{Message, Text},
    MessageShape,
};

/// A message or a string of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// `ListPodResourcesResponse`.
    Pods,
    /// `PodResources`.
    Pod,
    /// Its name.
    PodName,
    /// Its namespace.
    Namespace,
    /// `ContainerResources`.
    Container,
    /// Its name.
    ContainerName,
    /// `ContainerDevices`.
    Devices,
    /// Its extended resource.
    Resource,
    /// An id of a device that a container holds.
    HeldId,
    /// An id of a device that may be allocated.
    AllocatableId,
    /// `DynamicResource`.
    Claim,
    /// Its name.
    ClaimName,
    /// `ClaimResource`.
    ClaimResource,
    /// Its driver.
    Driver,
    /// The name that the driver gives the device.
    DraDevice,
    /// `AllocatableResourcesResponse`.
    Allocatable,
}

/// The response of `List`.
pub(crate) static PODS: MessageShape<Part> = MessageShape { kind: Part::Pods, fields: &[(1, Message(&POD))] };

/// The response of `GetAllocatableResources`.
pub(crate) static ALLOCATABLE: MessageShape<Part> =
    MessageShape { kind: Part::Allocatable, fields: &[(1, Message(&ALLOCATABLE_DEVICES))] };

static POD: MessageShape<Part> = MessageShape {
    kind: Part::Pod,
    fields: &[(1, Text(Part::PodName)), (2, Text(Part::Namespace)), (3, Message(&CONTAINER))],
};

static CONTAINER: MessageShape<Part> = MessageShape {
    kind: Part::Container,
    fields: &[(1, Text(Part::ContainerName)), (2, Message(&HELD_DEVICES)), (5, Message(&CLAIM))],
};

static HELD_DEVICES: MessageShape<Part> =
    MessageShape { kind: Part::Devices, fields: &[(1, Text(Part::Resource)), (2, Text(Part::HeldId))] };

static ALLOCATABLE_DEVICES: MessageShape<Part> = MessageShape {
    kind: Part::Devices,
    fields: &[(1, Text(Part::Resource)), (2, Text(Part::AllocatableId))],
};

static CLAIM: MessageShape<Part> =
    MessageShape { kind: Part::Claim, fields: &[(2, Text(Part::ClaimName)), (4, Message(&CLAIM_RESOURCE))] };

static CLAIM_RESOURCE: MessageShape<Part> = MessageShape {
    kind: Part::ClaimResource,
    fields: &[(2, Text(Part::Driver)), (4, Text(Part::DraDevice))],
};
