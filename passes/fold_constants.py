"""Compute what depends on constants alone.

    op(constant, constant, …)   ⇒   constant

The operator runs once in onnx.reference. It stays where it is random, quantizes or dequantizes (a weight
stays quantized), where onnx.reference and onnxruntime give different answers, or where the result would be
larger than what it replaces (ConstantOfShape, Expand, Tile, Cast to a wider type…) or dear to compute; the
report lists these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from fuseonnx.analysis.purity import is_deterministic
from fuseonnx.core.builder import Builder, Refused
from fuseonnx.core.constants import Array, constant_tensor, contiguous, data_of, is_const
from fuseonnx.core.graph import bodies_of
from fuseonnx.core.pattern import ANY_OP, Const, op
from fuseonnx.core.rule import Match, Rule
from fuseonnx.passes._sizes import bytes_made
from fuseonnx.passes.merge_slices import read_cuts

MAX_GROWTH = 128 << 10
"""Bytes by which one fold may grow the file: enough for arithmetic on shapes, masks and position tables."""

MAX_WORK = 64 << 20
"""Bytes that a fold may read and write. 64 MiB is some tenths of a second in numpy, and bounds the memory."""

_MIN_COUNTED_BYTES = 1 << 10

_LAZY_BYTES = 1 << 20
"""Results from this size on are computed again, from disk, when they are saved, and not held until then."""

_QUANTIZATION = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_SLOW = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "LSTM", "GRU", "RNN", "Einsum", "DFT", "STFT"}
)

_DIFFERENT = frozenset(
    {
        # the answers differ on everyday values
        *("LpNormalization", "MaxUnpool", "Resize", "Attention"),
        # onnx.reference takes the logarithm of a softmax that has underflowed
        *("LogSoftmax", "SoftmaxCrossEntropyLoss"),
        # they differ where NaN or an infinity is in a window, and these have no business with constants
        *("AveragePool", "LpPool", "MaxPool", "GlobalMaxPool", "GridSample", "Hardmax", "RotaryEmbedding"),
        *("LRN", "InstanceNormalization", "LayerNormalization"),
    }
)
_DIFFERENT_UNLESS_FINITE = frozenset(
    {
        *("ArgMax", "ArgMin", "ReduceMax", "ReduceMin", "TopK", "Clip", "PRelu", "Cast", "CastLike"),
        *("ScatterElements", "ScatterND"),
    }
)
"""Order of NaN, infinities at the default bounds of Clip, conversion of either to integers and float8."""

_DIFFERENT_BEFORE_OPSET = {"BatchNormalization": 14, "Softmax": 13}
"""onnx.reference trains where inference is meant, and takes Softmax over one axis, not all from it on."""


def guard(m: Match) -> str | None:
    """Keep out of Constant itself, and of what is random, quantized, dear, or not the same in onnxruntime."""
    node = m.root
    if node.op_type == "Constant" or not node.inputs or not is_deterministic(node):
        return ""
    if node.op_type in _QUANTIZATION:
        return "weights stay quantized"
    if any(True for _ in bodies_of(node)):
        return "it has a body"
    if node.op_type in _SLOW or _bytes_read(node) > MAX_WORK or bytes_made(node, m.opset) > MAX_WORK:
        return "it would take too long or too much memory"
    if _is_different(m):
        return f"onnx.reference and onnxruntime differ on {node.op_type}"
    return None


def replace(m: Match, new: Builder) -> list[ir.Value]:
    """Run the operator and keep its results."""
    tensors = {
        f"i{index}": constant_tensor(value) for index, value in enumerate(m.root.inputs) if value is not None
    }
    run = partial(_evaluate, _anonymous(m.root), m.opset, tensors)
    try:
        results = run()
    except Exception as error:  # onnx.reference raises whatever numpy does on operators that it half knows
        raise Refused(f"onnx.reference cannot run {m.root.op_type}: {type(error).__name__}") from error
    for array, output in zip(results, m.root.outputs, strict=True):
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind in "OUS":
            raise Refused(f"the result of {m.root.op_type} is no numeric tensor")
        if output.dtype is not None and ir.DataType.from_numpy(array.dtype) != output.dtype:
            raise Refused(f"onnx.reference gives another type than {m.root.op_type} declares")
    growth = sum(array.nbytes for array in results) - _bytes_freed(m.root)
    if growth > MAX_GROWTH:
        raise Refused(f"it would grow the file by {growth:,} bytes")
    return [
        new.const(_lazy(run, index, array) if array.nbytes >= _LAZY_BYTES else np.asarray(array))
        for index, array in enumerate(results)
    ]


def _is_different(m: Match) -> bool:
    """Whether onnx.reference and onnxruntime give different answers."""
    node = m.root
    if node.op_type in _DIFFERENT or m.opset < _DIFFERENT_BEFORE_OPSET.get(node.op_type, 0):
        return True
    if node.op_type in ("Squeeze", "Unsqueeze"):  # negative axes before opset 13: onnx.reference miscounts
        return any(axis < 0 for axis in node.attributes.get_ints("axes", ()))
    if node.op_type == "ReduceMean":  # of nothing: NaN in onnx.reference, 0 in onnxruntime
        return _first_tensor(node).size == 0
    if node.op_type == "Slice":
        return _counts_down_from_outside(node)
    return node.op_type in _DIFFERENT_UNLESS_FINITE and not _all_finite(node)


def _counts_down_from_outside(node: ir.Node) -> bool:
    """Whether a Slice goes back from before an axis: numpy takes nothing then, onnxruntime the first."""
    dims = _first_tensor(node).shape.numpy()
    cuts = read_cuts(node, len(dims))
    return cuts is None or any(start < -dims[axis] for axis, (start, _end, step) in cuts.items() if step < 0)


def _first_tensor(node: ir.Node) -> ir.TensorProtocol:
    x = node.inputs[0]
    assert x is not None
    return constant_tensor(x)


def _anonymous(node: ir.Node) -> bytes:
    """Return the NodeProto without what tells it from another node that computes the same."""
    proto = ir.serde.serialize_node(node)
    proto.input[:] = [f"i{index}" if name else "" for index, name in enumerate(proto.input)]
    proto.output[:] = [f"o{index}" if name else "" for index, name in enumerate(proto.output)]
    for label in ("name", "doc_string", "metadata_props"):
        proto.ClearField(label)
    content: bytes = proto.SerializeToString()
    return content


def _evaluate(node: bytes, opset: int, tensors: dict[str, ir.TensorProtocol]) -> list[Array]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        feeds = {name: data_of(tensor) for name, tensor in tensors.items()}
        return list(_evaluator(node, opset).run(None, feeds))


@lru_cache(maxsize=256)
def _evaluator(node: bytes, opset: int) -> ReferenceEvaluator:
    """Return an evaluator of a graph of one node: a node alone would run at the newest opset."""
    proto = onnx.NodeProto.FromString(node)
    graph = onnx.GraphProto(
        node=[proto],
        input=[onnx.ValueInfoProto(name=name) for name in dict.fromkeys(filter(None, proto.input))],
        output=[onnx.ValueInfoProto(name=name) for name in proto.output],
    )
    return ReferenceEvaluator(graph, opsets={"": opset})


def _lazy(run: Callable[[], list[Array]], index: int, array: Array) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.Tensor(contiguous(run()[index])),
        dtype=ir.DataType.from_numpy(array.dtype),
        shape=ir.Shape(array.shape),
        cache=False,
    )


def _all_finite(node: ir.Node) -> bool:
    tensors = (constant_tensor(value) for value in node.inputs if value is not None)
    return all(bool(np.isfinite(data_of(each)).all()) for each in tensors if each.dtype.is_floating_point())


def _bytes_read(node: ir.Node) -> int:
    return sum(constant_tensor(value).nbytes for value in node.inputs if value is not None)


def _bytes_freed(node: ir.Node) -> int:
    """Return the size of the inputs that go once all their users are folded; each user counts its share."""
    freed = 0
    for value in {value for value in node.inputs if value is not None}:
        size = constant_tensor(value).nbytes
        if size < _MIN_COUNTED_BYTES:
            continue
        users = value.consumers()
        if all(all(map(is_const, filter(None, user.inputs))) for user in users):
            freed += size // len(users)
    return freed


RULE = Rule("fold_constants", op(ANY_OP, each=Const("")), replace, guard)
