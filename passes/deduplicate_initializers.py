"""Store once what is stored twice: initializers with the same dtype, shape and bits.

    op(x, w1), op(y, w2) with w1 = w2   ⇒   op(x, w1), op(y, w1)

A weight in the body of an If, Loop or Scan reads its twin in a graph around it; small constants stay in their
body, where shape inference sees them. Overridable initializers (those that are graph inputs too) and graph
outputs stay. Most weights of one size differ in their first bytes, so that few of them are read whole.
Weights that are yet to be computed wait: what they are computed from has been merged before.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable, MutableMapping

import numpy as np
import onnx_ir as ir

from fuseonnx.core.constants import Array, data_of, is_const
from fuseonnx.core.graph import bodies_of, top_graphs
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import GraphPass

_NAME = "deduplicate_initializers"
_SAMPLE_BYTES = 4096
_KEY = "fuseonnx.content"
_LARGE_BYTES = 1 << 11


def run(model: ir.Model, journal: Journal) -> None:
    """Merge equal initializers of each graph, and weights of its bodies with its own."""
    for top in top_graphs(model):
        _merge_in(top, {}, journal)


def _merge_in(graph: ir.Graph, outer: MutableMapping[Hashable, list[ir.Value]], journal: Journal) -> None:
    first: dict[Hashable, list[ir.Value]] = {}
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if (
            tensor is None
            or not is_const(value)
            or value.is_graph_output()
            or isinstance(tensor, ir.LazyTensor)
        ):
            continue
        key = _key(value, tensor)
        candidates = first.setdefault(key, [])
        around = outer.get(key, ()) if outer and tensor.nbytes >= _LARGE_BYTES else ()
        twin = next((other for other in (*around, *candidates) if _equal(tensor, other.const_value)), None)
        if twin is None:
            candidates.append(value)
        else:
            _merge(graph, value, twin, journal)
    seen = ChainMap(first, outer)
    for node in graph:
        for body in bodies_of(node):
            _merge_in(body, seen, journal)


def _key(value: ir.Value, tensor: ir.TensorProtocol) -> Hashable:
    """Return what equal initializers have in common; it is kept, because it takes reading them."""
    if _KEY not in value.meta:
        value.meta[_KEY] = tensor.dtype, tuple(tensor.shape.numpy()), _sample(tensor)
    key: Hashable = value.meta[_KEY]
    return key


def _sample(tensor: ir.TensorProtocol) -> Hashable:
    """Return the first bytes of a tensor, read without mapping the file that it lies in."""
    if isinstance(tensor, ir.StringTensor):
        return tuple(tensor.string_data())
    if isinstance(tensor, ir.ExternalTensor):
        with open(tensor.path, "rb") as file:  # noqa: PTH123
            file.seek(tensor.offset or 0)
            return file.read(min(_SAMPLE_BYTES, tensor.nbytes))
    return tensor.tobytes()[:_SAMPLE_BYTES]


def _equal(tensor: ir.TensorProtocol, other: ir.TensorProtocol | None) -> bool:
    """Compare two tensors of one dtype and shape bit by bit."""
    if other is None or isinstance(tensor, ir.StringTensor) or tensor.nbytes <= _SAMPLE_BYTES:
        return True
    return np.array_equal(_bits(tensor), _bits(other))


def _bits(tensor: ir.TensorProtocol) -> Array:
    return np.ascontiguousarray(data_of(tensor)).reshape(-1).view(np.uint8)


def _merge(graph: ir.Graph, value: ir.Value, twin: ir.Value, journal: Journal) -> None:
    name = value.name or ""
    if not journal.admits(_NAME, name):
        return
    value.replace_all_uses_with(twin)
    graph.initializers.pop(name)
    journal.record(_NAME, name)


RULE = GraphPass(_NAME, run)
