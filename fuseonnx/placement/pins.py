"""Rules of the user for where nodes run: `NonMaxSuppression=cpu`, `name:/model/head/*=cuda`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fuseonnx.errors import OptionError
from fuseonnx.placement.assign import Device
from fuseonnx.placement.graph import Graph, Node

_DEVICES: dict[str, Device] = {"cpu": "cpu", "gpu": "gpu", "cuda": "gpu"}
_BY_NAME = "name:"


@dataclass(frozen=True)
class Pin:
    """Nodes by operator or by name, and the device that they are for.

    Attributes:
        pattern: an operator, `com.microsoft::` or the like before it where it is not a standard one; or
            `name:` and a name, for a node without name that of its first result; with `*`, `?` and `[...]` as
            in file names.
        device: where they run.
    """

    pattern: str
    device: Device

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Return the pin that `PATTERN=DEVICE` stands for; a device is `cpu`, `gpu` or `cuda`.

        Raises:
            OptionError: it is not of that form, or there is no such device.
        """
        pattern, equals, device = text.rpartition("=")
        if not equals or pattern in ("", _BY_NAME):
            raise OptionError(f"--pin '{text}': write OPERATOR=DEVICE or name:PATTERN=DEVICE")
        if device.lower() not in _DEVICES:
            raise OptionError(f"--pin '{text}': no device is called '{device}'; give {', '.join(_DEVICES)}")
        return cls(pattern, _DEVICES[device.lower()])

    def matches(self, node: Node) -> bool:
        """Whether it is meant for a node."""
        if self.pattern.startswith(_BY_NAME):
            pattern = self.pattern.removeprefix(_BY_NAME)
            name = node.name or next(filter(None, node.outputs), "")
            return name == pattern or fnmatchcase(name, pattern)
        return fnmatchcase(node.operator, self.pattern.removeprefix("ai.onnx::"))


Rule = Pin | Callable[[Node], str | None]
"""A pin, or a function that returns a node's device, None for a node that it leaves alone."""


def pinned(graph: Graph, rules: Iterable[Rule], model: str) -> dict[int, Device]:
    """Return the devices of the nodes that rules apply to, by index; a later rule outranks an earlier one.

    Args:
        graph: the graph.
        rules: the rules.
        model: its name, for errors.

    Raises:
        OptionError: a pin matches no node, or a function returns what is no device.
    """
    devices: dict[int, Device] = {}
    for rule in rules:
        if isinstance(rule, Pin):
            matched = {node.index: rule.device for node in graph.nodes if rule.matches(node)}
            if not matched:
                raise OptionError(f"{model}: --pin '{rule.pattern}' matches no node: {_cure(rule, graph)}")
            devices |= matched
        else:
            for node in graph.nodes:
                device = rule(node)
                if device is not None:
                    devices[node.index] = _device(device, node)
    return devices


def _cure(pin: Pin, graph: Graph) -> str:
    """Return what to write for a pin that matches no node: the operator of that name, if there is one."""
    wanted = pin.pattern.lower()
    for operator in sorted({node.operator for node in graph.nodes}):
        if wanted in {operator.lower(), operator.lower().rpartition("::")[2]}:
            return f"write {operator}"
    return "give one of its operators, or name:PATTERN"


def _device(name: str, node: Node) -> Device:
    name = str(name).lower()
    if name not in _DEVICES:
        raise OptionError(
            f"a rule puts node '{node.name}' on '{name}', which is no device; return {', '.join(_DEVICES)}"
        )
    return _DEVICES[name]
