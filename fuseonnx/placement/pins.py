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
            `name:` and a name; with `*`, `?` and `[...]` as in file names.
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
        if device not in _DEVICES:
            raise OptionError(f"--pin '{text}': no device is called '{device}'; give {', '.join(_DEVICES)}")
        return cls(pattern, _DEVICES[device])

    def matches(self, node: Node) -> bool:
        """Whether it is meant for a node."""
        if self.pattern.startswith(_BY_NAME):
            pattern = self.pattern.removeprefix(_BY_NAME)
            return node.name == pattern or fnmatchcase(node.name, pattern)
        return fnmatchcase(f"{node.domain}::{node.op_type}" if node.domain else node.op_type, self.pattern)


Rule = Pin | Callable[[Node], str | None]
"""A pin, or a function that returns a node's device, None for a node that it leaves alone."""


def pinned(graph: Graph, rules: Iterable[Rule]) -> dict[int, Device]:
    """Return the devices of the nodes that rules apply to, by index; a later rule outranks an earlier one.

    Raises:
        OptionError: a pin matches no node, or a function returns what is no device.
    """
    devices: dict[int, Device] = {}
    for rule in rules:
        if isinstance(rule, Pin):
            matched = {node.index: rule.device for node in graph.nodes if rule.matches(node)}
            if not matched:
                raise OptionError(
                    f"--pin '{rule.pattern}' matches no node: give an operator, or name:PATTERN"
                )
            devices |= matched
        else:
            for node in graph.nodes:
                device = rule(node)
                if device is not None:
                    devices[node.index] = _device(device, node)
    return devices


def _device(name: str, node: Node) -> Device:
    if name not in _DEVICES:
        raise OptionError(
            f"a rule puts node '{node.name}' on '{name}', which is no device; return {', '.join(_DEVICES)}"
        )
    return _DEVICES[name]
