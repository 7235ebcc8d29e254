"""Compute what depends on constants alone.

    op(constant, constant, …)   ⇒   constant

The operator runs once in onnx.reference. It stays where it is random, quantizes or dequantizes (a weight
stays quantized), or where the result would be larger than what it replaces (ConstantOfShape, Expand, Tile,
Cast to a wider type…) or dear to compute; the report lists these.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx_ir as ir

from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.core.builder import Builder
from fuseonnx.core.pattern import ANY_OP, Const, is_const, op
from fuseonnx.core.rule import Array, Match, Refused, Rule, array_of, constant_tensor

MAX_GROWTH = 1024
"""Bytes by which a fold may grow the file: enough for the arithmetic on shapes."""

MAX_WORK = 64 << 20
"""Bytes that a fold may read and write. 64 MiB is some tenths of a second in numpy, and bounds the memory."""

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
    results = _evaluate(m)
    growth = sum(array.nbytes for array in results) - _bytes_freed(m.root)
    if growth > MAX_GROWTH:
        raise Refused(f"it would grow the file by {growth:,} bytes")
    return [new.const(array) for array in results]


def _evaluate(m: Match) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    proto = ir.to_proto(m.root)
    proto.input[:] = [f"i{index}" if name else "" for index, name in enumerate(proto.input)]
    feeds = {f"i{index}": array_of(value) for index, value in enumerate(m.root.inputs) if value is not None}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(proto, opsets={"": m.opset}).run(None, feeds)
    except Exception as error:  # onnx.reference raises whatever numpy does on operators that it knows half
        raise Refused(f"onnx.reference cannot run {m.root.op_type}: {type(error).__name__}") from error
    expected = [value.dtype for value in m.root.outputs]
    for array, dtype in zip(results, expected, strict=True):
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind in "OUS":
            raise Refused(f"the result of {m.root.op_type} is no numeric tensor")
        if dtype is not None and ir.DataType.from_numpy(array.dtype) != dtype:
            raise Refused(f"onnx.reference gives another type than {m.root.op_type} declares")
    return [np.asarray(array) for array in results]


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
