"""A node and what is known of its inputs, as the rules of propagation read it."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from fuseonnx.analysis.expr import Number

Dims = tuple[Number, ...]


class Fact(NamedTuple):
    """What is known of a value.

    Attributes:
        dims: one number per axis, None if the rank is unknown.
        elements: of integers and bools (0 or 1) of rank 0 or 1 with few elements; else None.
    """

    dims: Dims | None = None
    elements: Dims | None = None


NOTHING = Fact()


class Site(NamedTuple):
    """A node of the standard domain, none of whose attributes is a parameter of a function."""

    node: ir.Node
    inputs: list[Fact]

    def dims(self, index: int) -> Dims | None:
        """Return the dims of an input, None if they are unknown or it is absent."""
        return self.inputs[index].dims if index < len(self.inputs) else None

    def elements(self, index: int) -> Dims | None:
        """Return the elements of an input, None if it is no short list of integers or is absent."""
        return self.inputs[index].elements if index < len(self.inputs) else None

    def integers(self, index: int) -> list[int] | None:
        """Return the elements of an input if all are known."""
        return integers(self.elements(index))

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def attribute(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        value = self.node.attributes.get_int(name, default)
        return default if value is None else value

    def parameter(self, name: str, index: int) -> list[int] | None:
        """Return integers that are an attribute in some opsets and an input in others; None if unknown."""
        if self.has(index):
            return self.integers(index)
        values = self.node.attributes.get_ints(name)
        return None if values is None else list(values)


def integers(elements: Dims | None) -> list[int] | None:
    """Return the elements if all are known numbers."""
    if elements is None:
        return None
    known = [each for each in elements if isinstance(each, int)]
    return known if len(known) == len(elements) else None
