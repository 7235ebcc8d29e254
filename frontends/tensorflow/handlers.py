"""TensorFlow's operators that tf2onnx does not convert, or converts wrongly, one function each.

Each is called as tf2onnx calls its handlers, with its graph and a node of TensorFlow's. An exception becomes
the reason for which the model is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
_CHOSEN = _FLOATS | {TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8}
"""Types for which onnxruntime has a Where, by itself or in float32."""
_SIGN_BIT = np.iinfo(np.int32).min
_OF_SIZES = frozenset(
    {"Add", "AddV2", "Cast", "Concat", "ConcatV2", "ExpandDims", "Gather", "GatherV2", "Identity", "Mul"}
    | {"Pack", "Prod", "Slice", "Squeeze", "StridedSlice", "Unsqueeze"}
)
"""What makes sizes of sizes, none negative; TensorFlow's and ONNX's, whichever is there already."""


def _convert_with_one(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Erfc(x) = 1 - Erf(x), for TensorFlow's exact Gelu; Expm1(x) = Exp(x) - 1, for its Celu."""
    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    inner = {"Erfc": "Erf", "Expm1": "Exp"}[node.type]
    one = _scalar(graph, 1, dtype)
    value = graph.make_node(inner, node.input, shapes=[shape], dtypes=[dtype]).output[0]
    _put(graph, node, "Sub", [one, value] if inner == "Erf" else [value, one])


def _convert_log1p(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Log1p(x) = x · Log(u) / (u - 1) with u = 1 + x, and x where u is 1 or infinite.

    W. Kahan's, in D. Goldberg, "What every computer scientist should know about floating-point arithmetic",
    theorem 4: Log(1 + x) alone loses all digits of a small x.
    """
    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    x, one = node.input[0], _scalar(graph, 1, dtype)

    def new(op_type: str, *inputs: str, to: int = dtype) -> str:
        made: str = graph.make_node(op_type, list(inputs), shapes=[shape], dtypes=[to]).output[0]
        return made

    u = new("Add", x, one)
    step = new("Sub", u, one)
    small = new("Equal", step, _scalar(graph, 0, dtype), to=TensorProto.BOOL)
    keeps = new("Or", small, new("IsInf", u, to=TensorProto.BOOL), to=TensorProto.BOOL)
    _put(graph, node, "Where", [keeps, x, new("Mul", x, new("Div", new("Log", u), step))])


def _convert_bucketize(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Bucketize(x) = how many boundaries are <= x; Keras' Discretization uses it."""
    dtype = graph.get_dtype(node.input[0])
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    value = node.input[0]
    if dtype != TensorProto.FLOAT:
        value = graph.make_node("Cast", [value], attr={"to": TensorProto.FLOAT}).output[0]
    limits = graph.make_const(f"{name}_boundaries", boundaries).output[0]
    _count(graph, node, graph.make_node("Less", [_spread(graph, value, -1), limits]).output[0])


def _convert_bound(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """LowerBound = how many of the sorted values of a row are < each wanted one; UpperBound: <= it."""
    rows, wanted = _spread(graph, node.input[0], 1), _spread(graph, node.input[1], 2)
    operands = [rows, wanted] if node.type == "UpperBound" else [wanted, rows]
    above = graph.make_node("Greater" if node.type == "UpperBound" else "LessOrEqual", operands).output[0]
    _count(graph, node, above)


def _convert_floor_division(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Integers: FloorMod(x, y) = Mod(x, y), and FloorDiv(x, y) = (x - Mod(x, y)) / y; ONNX's Div truncates.

    Sizes, which are not negative, keep the plain Div.
    """
    from tf2onnx.onnx_opset import math

    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    if dtype in _FLOATS or all(_is_size(graph, value) for value in node.input):
        plain = math.FloorDiv.version_6 if node.type == "FloorDiv" else math.FloorMod.version_7
        plain(graph, node)
        return
    x, y = node.input
    if node.type == "FloorMod":
        _put(graph, node, "Mod", [x, y])
        return
    rest = graph.make_node("Mod", [x, y], shapes=[shape], dtypes=[dtype]).output[0]
    whole = graph.make_node("Sub", [x, rest], shapes=[shape], dtypes=[dtype]).output[0]
    _put(graph, node, "Div", [whole, y])


def _convert_cumprod(graph: Any, node: Any, _name: str, _args: Sequence[Any]) -> None:
    """Cumprod over an axis that is counted from the end, which tf2onnx does not expect."""
    from tf2onnx.onnx_opset import math

    if node.inputs[1].is_const():
        axis = int(node.inputs[1].get_tensor_value()) % len(graph.get_shape(node.input[0]))
        graph.replace_input(node, node.input[1], _scalar(graph, axis, TensorProto.INT32), 1)
    math.CumProd.version_10(graph, node)


def _convert_bitcast(graph: Any, node: Any, _name: str, _args: Sequence[Any]) -> None:
    """The sign bit of a float, which Keras reads in argmax: set where x + 1 / x is negative, -0.0 and -∞ too.

    It is a Bitcast to int32, a BitwiseAnd and a Less; the first two are left behind without a user.
    """
    masked = graph.find_output_consumers(node.output[0])
    tests = [test for each in masked for test in graph.find_output_consumers(each.output[0])]
    reads_sign = (
        graph.get_dtype(node.input[0]) == TensorProto.FLOAT
        and all(each.type == "BitwiseAnd" and _is_constant(each.inputs[1], _SIGN_BIT) for each in masked)
        and all(test.type == "Less" and _is_constant(test.inputs[1], 0) for test in tests)
    )
    if not reads_sign:
        raise ValueError("only the sign bit of a float32 can be read")
    x, shapes, dtypes = node.input[0], node.output_shapes, [TensorProto.FLOAT]
    inverse = graph.make_node("Reciprocal", [x], shapes=shapes, dtypes=dtypes).output[0]
    signed = graph.make_node("Add", [x, inverse], shapes=shapes, dtypes=dtypes).output[0]
    for test in tests:
        graph.replace_inputs(test, [signed, _scalar(graph, 0, TensorProto.FLOAT)])


def _is_constant(node: Any, value: int) -> bool:
    return node.is_const() and bool((node.get_tensor_value(as_list=False) == value).all())


def _convert_select(graph: Any, node: Any, _name: str, _args: Sequence[Any]) -> None:
    """Where; tf2onnx writes Cast(c) · x + Cast(Not(c)) · y: NaN where what is not chosen is infinite."""
    from tf2onnx.onnx_opset import controlflow

    if graph.get_dtype(node.output[0]) in _CHOSEN:
        node.set_attr("handles_nan", 1)
    controlflow.Select.version_9(graph, node)


def _convert_update_slice(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Write a part into a tensor: what lies before it, the part, and what lies behind, axis by axis.

    As XLA has it, a part that would reach beyond the end starts earlier.
    """
    data, part, start = node.input
    whole, sizes = graph.get_shape(data), graph.get_shape(part)
    begins = graph.make_node("Cast", [start], attr={"to": TensorProto.INT64}).output[0]
    known = node.inputs[2].get_tensor_value() if node.inputs[2].is_const() else [None] * len(whole)
    axes = [axis for axis, size in enumerate(whole) if size != sizes[axis] or (size < 0 and known[axis] != 0)]
    result = _inserted(graph, data, part, begins, axes)
    _put(graph, node, "Identity", [result])


def _inserted(graph: Any, data: str, part: str, begins: str, axes: Sequence[int]) -> str:
    """Return `data` with `part` in it from `begins` (int64, one for each axis) on, along `axes`."""
    if not axes:
        return part
    axis, *others = axes

    def new(op_type: str, *inputs: str, **attributes: Any) -> str:
        made: str = graph.make_node(op_type, list(inputs), attr=attributes).output[0]
        return made

    def integers(*values: int) -> str:
        made: str = graph.make_const(_fresh("integers"), np.array(values, np.int64)).output[0]
        return made

    along = integers(axis)
    total, length = (new("Slice", new("Shape", value), along, integers(axis + 1)) for value in (data, part))
    begin = new("Slice", begins, along, integers(axis + 1))
    begin = new("Max", integers(0), new("Min", begin, new("Sub", total, length)))
    end = new("Add", begin, length)
    inner = part
    if others:
        inner = _inserted(graph, new("Slice", data, begin, end, along), part, begins, others)
    before, behind = new("Slice", data, integers(0), begin, along), new("Slice", data, end, total, along)
    return new("Concat", before, inner, behind, axis=axis)


def _convert_resize(graph: Any, node: Any, name: str, _args: Sequence[Any]) -> None:
    """Resize images of a known size by one matrix for each axis, as TensorFlow itself weighs the pixels.

    ONNX's Resize has neither TensorFlow's table of cubic weights nor its areas.
    """
    images, target = graph.get_shape(node.input[0]), node.inputs[1]
    if images is None or min(images[1:3]) < 0 or not target.is_const():
        raise ValueError("the sizes of its images are not known")
    sizes = zip(images[1:3], target.get_tensor_value(), strict=True)
    rows, columns = (_weights(node, before, after) for before, after in sizes)
    x = node.input[0]
    if graph.get_dtype(x) != TensorProto.FLOAT:
        x = graph.make_node("Cast", [x], attr={"to": TensorProto.FLOAT}).output[0]
    x = graph.make_node("Transpose", [x], attr={"perm": [0, 3, 1, 2]}).output[0]
    x = graph.make_node("MatMul", [graph.make_const(_fresh("rows"), rows).output[0], x]).output[0]
    x = graph.make_node("MatMul", [x, graph.make_const(_fresh("columns"), columns.T).output[0]]).output[0]
    _put(graph, node, "Transpose", [x], perm=[0, 2, 3, 1])


def _weights(node: Any, before: int, after: int) -> np.ndarray:
    """Return what share each pixel before has in each of `after` pixels, [after, before]."""
    import tensorflow as tf

    options = {"align_corners": bool(node.get_attr_value("align_corners", 0))}
    if node.type == "ResizeBicubic":
        options["half_pixel_centers"] = bool(node.get_attr_value("half_pixel_centers", 0))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pixels = tf.reshape(tf.eye(before), (1, before, 1, before))
        made = session.run(getattr(tf.raw_ops, node.type)(images=pixels, size=[after, 1], **options))
    return np.ascontiguousarray(made[0, :, 0, :])


def _is_size(graph: Any, value: str) -> bool:
    """Whether an integer tensor is computed from shapes and constants in a way that it cannot be negative."""
    pending, seen = [value], set()
    while pending:
        producer = graph.get_node_by_output(pending.pop())
        if producer is None or producer.name in seen:
            return producer is not None
        seen.add(producer.name)
        if producer.is_const():
            if (producer.get_tensor_value(as_list=False) < 0).any():
                return False
        elif producer.type in _OF_SIZES:
            pending.extend(producer.input[:1] if "Slice" in producer.type else producer.input)
        elif producer.type != "Shape":
            return False
    return True


def _put(graph: Any, node: Any, op_type: str, inputs: Sequence[str], **attributes: Any) -> None:
    """Put a node in the place of another."""
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    graph.make_node(
        op_type,
        list(inputs),
        name=node.name,
        outputs=node.output,
        attr=attributes,
        shapes=shapes,
        dtypes=dtypes,
    )


def _scalar(graph: Any, value: float, dtype: int) -> str:
    array = np.array(value, helper.tensor_dtype_to_np_dtype(dtype))
    name: str = graph.make_const(_fresh("scalar"), array).output[0]
    return name


def _spread(graph: Any, value: str, axis: int) -> str:
    axes = graph.make_const(_fresh("axis"), np.array([axis], np.int64)).output[0]
    name: str = graph.make_node("Unsqueeze", [value, axes]).output[0]
    return name


def _count(graph: Any, node: Any, unless: str) -> None:
    """Count along the last axis where `unless` is false."""
    counted = graph.make_node("Cast", graph.make_node("Not", [unless]).output, attr={"to": TensorProto.INT32})
    last = graph.make_const(_fresh("axis"), np.array([-1], np.int64)).output[0]
    _put(graph, node, "ReduceSum", [counted.output[0], last], keepdims=0)


def _fresh(name: str) -> str:
    from tf2onnx import utils

    made: str = utils.make_name(name)
    return made


_CONVERTERS = {
    "Bitcast": _convert_bitcast,
    "Bucketize": _convert_bucketize,
    "Cumprod": _convert_cumprod,
    "Erfc": _convert_with_one,
    "Expm1": _convert_with_one,
    "FloorDiv": _convert_floor_division,
    "FloorMod": _convert_floor_division,
    "Log1p": _convert_log1p,
    "LowerBound": _convert_bound,
    "ResizeArea": _convert_resize,
    "ResizeBicubic": _convert_resize,
    "Select": _convert_select,
    "SelectV2": _convert_select,
    "UpperBound": _convert_bound,
    "XlaDynamicUpdateSlice": _convert_update_slice,
}
HANDLERS: dict[str, tuple[Any, list[Any]]] = {name: (made, []) for name, made in _CONVERTERS.items()}
"""tf operator to what converts it, in tf2onnx's form."""
