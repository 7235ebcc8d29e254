"""Compute what depends on constants alone.

    op(constant, constant, …)   ⇒   constant

The operator runs once in onnx.reference. It stays where it is random, quantizes or dequantizes (a weight
stays quantized), or where the result would be larger than what it replaces (ConstantOfShape, Expand, Tile,
Cast to a wider type…) or dear to compute; the report lists these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import Array, constant_tensor, data_of, is_const
from fuseonnx.core.pattern import ANY_OP, Const, op
from fuseonnx.core.rule import Match, Refused, Rule

MAX_GROWTH = 128 << 10
"""Bytes by which one fold may grow the file: enough for arithmetic on shapes, masks and position tables."""

MAX_WORK = 64 << 20
"""Bytes that a fold may read and write. 64 MiB is some tenths of a second in numpy, and bounds the memory."""

_LAZY_BYTES = 1 << 20
"""Results from this size on are computed again, from disk, when they are saved, and not held until then."""

_QUANTIZATION = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_SLOW = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "LSTM", "GRU", "RNN", "Einsum", "DFT", "STFT"}
)


def guard(m: Match) -> str | None:
    """Keep out of Constant itself, of what is random or quantized, and of what is dear."""
    node = m.root
    if node.op_type == "Constant" or not node.inputs or not is_deterministic(node):
        return ""
    if node.op_type in _QUANTIZATION:
        return "weights stay quantized"
    if node.op_type in _SLOW or _bytes_read(node) > MAX_WORK:
        return "it would take too long or too much memory"
    return None


def replace(m: Match, new: Builder) -> list[ir.Value]:
    """Run the operator and keep its results."""
    proto = ir.serde.serialize_node(m.root)
    proto.input[:] = [f"i{index}" if name else "" for index, name in enumerate(proto.input)]
    tensors = {
        f"i{index}": constant_tensor(value) for index, value in enumerate(m.root.inputs) if value is not None
    }
    run = partial(_evaluate, proto, tensors, m.opset)
    results = run()
    for array, output in zip(results, m.root.outputs, strict=True):
        if output.dtype is not None and ir.DataType.from_numpy(array.dtype) != output.dtype:
            raise Refused(f"onnx.reference gives another type than {m.root.op_type} declares")
    growth = sum(array.nbytes for array in results) - _bytes_freed(m.root)
    if growth > MAX_GROWTH:
        raise Refused(f"it would grow the file by {growth:,} bytes")
    return [
        new.const(_lazy(run, index, array) if array.nbytes >= _LAZY_BYTES else array)
        for index, array in enumerate(results)
    ]


def _evaluate(proto: onnx.NodeProto, tensors: dict[str, ir.TensorProtocol], opset: int) -> list[Array]:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            feeds = {name: data_of(tensor) for name, tensor in tensors.items()}
            results = ReferenceEvaluator(_graph_of(proto), opsets={"": opset}).run(None, feeds)
    except Exception as error:  # onnx.reference raises whatever numpy does on operators that it half knows
        raise Refused(f"onnx.reference cannot run {proto.op_type}: {type(error).__name__}") from error
    for array in results:
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind in "OUS":
            raise Refused(f"the result of {proto.op_type} is no numeric tensor")
    return [np.asarray(array) for array in results]


def _graph_of(proto: onnx.NodeProto) -> onnx.GraphProto:
    """Return a graph of one node: a node alone would run at the newest opset, whatever `opsets` says."""
    return onnx.GraphProto(
        node=[proto],
        input=[onnx.ValueInfoProto(name=name) for name in dict.fromkeys(filter(None, proto.input))],
        output=[onnx.ValueInfoProto(name=name) for name in proto.output],
    )


def _lazy(run: Callable[[], list[Array]], index: int, array: Array) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.Tensor(np.ascontiguousarray(run()[index])),
        dtype=ir.DataType.from_numpy(array.dtype),
        shape=ir.Shape(array.shape),
        cache=False,
    )


def _bytes_read(node: ir.Node) -> int:
    return sum(constant_tensor(value).nbytes for value in node.inputs if value is not None)


def _bytes_freed(node: ir.Node) -> int:
    """Return the size of the inputs that go once all their users are folded; each user counts its share."""
    freed = 0
    for value in {value for value in node.inputs if value is not None}:
        users = value.consumers()
        if all(all(map(is_const, filter(None, user.inputs))) for user in users):
            freed += constant_tensor(value).nbytes // len(users)
    return freed


RULE = Rule("fold_constants", op(ANY_OP, each=Const("")), replace, guard)
