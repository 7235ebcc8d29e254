"""Write a placement into a model: as onnxruntime reads it, and as the ONNX standard has it.

onnxruntime (from 1.25 on) reads an annotation from the metadata of each node, and from the session option
`session.layer_assignment_settings` which device each annotation means. The nodes of bodies and of local
functions have the annotation of the node that holds or calls them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from fuseonnx.core.graph import all_graphs, bodies_of, nodes_in
from fuseonnx.placement.assign import Device
from fuseonnx.placement.graph import Graph

LAYER_ANNOTATION = "layer_ann"
"""Key of the annotation in the metadata of a node."""

SETTINGS_KEY = "fuseonnx.layer_assignment_settings"
"""Key in the metadata of a model: what to set `session.layer_assignment_settings` to."""

PROVIDER_KEY = "fuseonnx.placement_provider"
"""Key in the metadata of a model: onnxruntime's name of the execution provider that it was placed for."""

SETTINGS = "gpu(=G);CPUExecutionProvider(=C)"
"""`=` asks for the whole annotation; `gpu` is whichever provider of a session has GPU memory, a plugin's as
well, and `cpu` could be a plugin's, too."""

STANDARD_SINCE_IR = 11
"""The IR version that brought device configurations."""

CONFIGURATION = "fuseonnx"
"""Name of the device configuration that `write_standard` writes."""

_ANNOTATIONS: Mapping[Device, str] = {"cpu": "C", "gpu": "G"}
_DEVICE_INDICES: Mapping[Device, int] = {"cpu": 0, "gpu": 1}
_RULE = re.compile(r"([^;()]+)\(([^()]*)\)")


def annotate(model: ir.Model, graph: Graph, devices: Sequence[Device], provider: str) -> int:
    """Write the device of each node, and the settings, into the metadata of `model`.

    What onnxruntime turns into a constant gets no annotation.

    Args:
        model: the model, changed in place.
        graph: what `read_graph` returned for it.
        devices: the device of each node.
        provider: onnxruntime's name of the provider that stands for the GPU.

    Returns:
        How many nodes had an annotation of somebody else's, which is lost.
    """
    is_ours = model.metadata_props.get(SETTINGS_KEY) == SETTINGS
    lost = 0
    for node, device in _placed(model, graph, devices):
        inside = [inner for body in bodies_of(node) for inner in nodes_in(body)]
        earlier = [each.metadata_props.pop(LAYER_ANNOTATION, "") for each in (node, *inside)]
        node.metadata_props[LAYER_ANNOTATION] = _ANNOTATIONS[device]
        lost += 0 if is_ours else sum(map(bool, earlier))
    model.metadata_props.update({SETTINGS_KEY: SETTINGS, PROVIDER_KEY: provider})
    return lost


def write_standard(model: ir.Model, graph: Graph, devices: Sequence[Device], provider: str) -> None:
    """Write the placement into the fields that ONNX has for it from IR version 11 on.

    The model gets a configuration of two devices, and each node the device on which each of its results is.
    A model of an earlier IR version is raised to 11, and keeps its opsets.
    """
    model.ir_version = max(model.ir_version, STANDARD_SINCE_IR)
    if has_standard(model):
        model.remove_device_configuration(CONFIGURATION, cascade=True)
    names = ("CPU", provider.removesuffix("ExecutionProvider").upper())
    configuration = model.add_device_configuration(CONFIGURATION, device_names=names)
    for node, device in _placed(model, graph, devices):
        where = (_DEVICE_INDICES[device],)
        for each in (node, *(inner for body in bodies_of(node) for inner in nodes_in(body))):
            specs = tuple(ir.ShardingSpec(value=value, device=where) for value in each.outputs if value.name)
            each.device_configurations = (
                *each.device_configurations,
                ir.NodeDeviceConfiguration(configuration=configuration, sharding_specs=specs),
            )


def has_standard(model: ir.Model) -> bool:
    """Whether `write_standard` has written into a model."""
    return any(known.name == CONFIGURATION for known in model.device_configurations)


def annotated_devices(model: ir.Model) -> dict[str, int]:
    """Return how many nodes are annotated for each device, most frequent first; bodies are not counted apart.

    An annotation that no exact rule of the model's settings explains stands for itself.
    """
    device_of = device_by_annotation(model.metadata_props.get(SETTINGS_KEY, ""))
    found = (node.metadata_props.get(LAYER_ANNOTATION, "") for graph in all_graphs(model) for node in graph)
    counts = Counter(device_of.get(annotation, annotation) for annotation in found if annotation)
    return dict(counts.most_common())


def device_by_annotation(settings: str) -> dict[str, str]:
    """Return the device that each annotation means, as the exact rules of `settings` say."""
    return {
        annotation.strip().removeprefix("="): device.strip()
        for device, annotations in _RULE.findall(settings)
        for annotation in annotations.split(",")
    }


def _placed(model: ir.Model, graph: Graph, devices: Sequence[Device]) -> Iterator[tuple[ir.Node, Device]]:
    """Yield the nodes that run, with their devices."""
    for node, facts, device in zip(model.graph, graph.nodes, devices, strict=True):
        if not facts.is_constant:
            yield node, device
