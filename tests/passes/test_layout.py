"""_layout: every operator of the table, in other layouts, against onnxruntime."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from fuseonnx.analysis.shapes import annotate
from fuseonnx.passes._flip import Flip, Perm, permuted
from fuseonnx.passes._layout import flip
from tests.helpers import assert_same_answers, f32, make_model, node

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@dataclass(frozen=True)
class Case:
    """One operator: `inputs` names data (in `data`, with their dims) and constants, `-` is absent."""

    op: str
    inputs: str
    data: Mapping[str, Sequence[int | str]]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 18
    outputs: int = 1
    dtype: int = FLOAT
    fits: Callable[[Perm], bool] = lambda _perm: True

    @property
    def names(self) -> list[str]:
        return ["" if name == "-" else name for name in self.inputs.split()]


def i64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


D3, D4, D5 = (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 2, 3)
UNARY = """
    Abs Ceil Elu Erf Exp Floor HardSigmoid HardSwish IsInf IsNaN LeakyRelu Mish Neg Relu Round Selu Sigmoid
    Sign Sin Softplus Softsign Tan Tanh ThresholdedRelu
"""
BINARY = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "Equal", "Less", "GreaterOrEqual"]
REDUCTIONS = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd"]

CASES = {
    **{op: Case(op, "x", {"x": D3}) for op in UNARY.split()},
    **{op: Case(op, "x z", {"x": D3, "z": D3}) for op in BINARY},
    **{
        f"{op} keepdims={keep}": Case(
            op, "x", {"x": D4}, attributes={"axes": [1, -1], "keepdims": keep}, opset=12
        )
        for op in REDUCTIONS
        for keep in (0, 1)
    },
    "Gelu": Case("Gelu", "x", {"x": D3}, opset=20),
    "Cast": Case("Cast", "x", {"x": D3}, attributes={"to": TensorProto.DOUBLE}),
    "Not": Case("Not", "x", {"x": D3}, dtype=BOOL),
    "And": Case("And", "x z", {"x": D3, "z": D3}, dtype=BOOL),
    "Mod": Case("Mod", "x c", {"x": D3}, {"c": i64(2, 3, 5, 7)}, dtype=INT),
    "integers": Case("Div", "x c", {"x": D3}, {"c": i64(2, 3, 5, 7)}, dtype=INT),
    "rank 2": Case("Sub", "x c", {"x": (3, 4)}, {"c": f32([1, 2, 3, 4])}),
    "rank 5": Case("Sub", "c x", {"x": D5}, {"c": np.arange(24, dtype=np.float32).reshape(3, 4, 2, 1)}),
    "broadcast data": Case("Mul", "x z", {"x": D4, "z": (2, 1, 1, 5)}),
    "broadcast both": Case("Sub", "x z", {"x": (2, 3, 1), "z": (1, 3, 4)}),
    "scalar": Case("Pow", "x c", {"x": D3}, {"c": f32(2)}),
    "scalar data": Case("Mul", "x z", {"x": D3, "z": ()}),
    "one per axis": Case("Add", "x c", {"x": D4}, {"c": f32([[[1]], [[2]], [[3]]])}),
    "PRelu": Case("PRelu", "x c", {"x": D3}, {"c": f32([[1], [2], [3]])}),
    "Clip": Case("Clip", "x lo hi", {"x": D3}, {"lo": f32(-1), "hi": f32(2)}),
    "Clip from below": Case("Clip", "x lo", {"x": D3}, {"lo": f32(0.5)}),
    "Where": Case("Where", "k x c", {"x": D3}, {"k": np.eye(3, 4) > 0, "c": f32([1, 2, 3, 4])}),
    "Softmax": Case("Softmax", "x", {"x": D4}, attributes={"axis": 2}),
    "LogSoftmax": Case("LogSoftmax", "x", {"x": D3}),
    "Softmax 12": Case(
        "Softmax", "x", {"x": D3}, attributes={"axis": 2}, opset=12, fits=lambda perm: perm[2] == 2
    ),
    "Hardmax": Case("Hardmax", "x", {"x": D3}, attributes={"axis": -2}),
    "Concat": Case("Concat", "x z", {"x": (2, 3, 4), "z": (2, 1, 4)}, attributes={"axis": 1}),
    "Concat itself": Case("Concat", "x x", {"x": D3}, attributes={"axis": -1}),
    "Split": Case("Split", "x n", {"x": D4}, {"n": i64(1, 3)}, {"axis": 2}, outputs=2),
    "Split 11": Case("Split", "x", {"x": D4}, attributes={"axis": -2, "split": [1, 3]}, opset=11, outputs=2),
    "Split by default": Case("Split", "x", {"x": D4}, opset=13, outputs=2),
    "Gather one": Case("Gather", "x n", {"x": D4}, {"n": np.array(1)}, {"axis": 2}),
    "Gather some": Case("Gather", "x n", {"x": D4}, {"n": i64(2, 0, 1, 1)}, {"axis": -2}),
    "ArgMax": Case("ArgMax", "x", {"x": D4}, attributes={"axis": 1, "keepdims": 1}),
    "ArgMin": Case("ArgMin", "x", {"x": D4}, attributes={"axis": -1, "keepdims": 0}),
    "ReduceSum 13": Case("ReduceSum", "x n", {"x": D4}, {"n": i64(-1, 1)}, {"keepdims": 0}, opset=13),
    "ReduceMean 18": Case("ReduceMean", "x n", {"x": D5}, {"n": i64(1, 2, 3)}, {"keepdims": 1}),
    "Squeeze": Case("Squeeze", "x n", {"x": (2, 1, 3, 1, 4)}, {"n": i64(-2, 1)}),
    "Squeeze 11": Case("Squeeze", "x", {"x": (2, 1, 3)}, attributes={"axes": [1]}, opset=11),
    "Unsqueeze": Case("Unsqueeze", "x n", {"x": D3}, {"n": i64(1, -1)}),
    "Unsqueeze 11": Case("Unsqueeze", "x", {"x": D3}, attributes={"axes": [0, 2]}, opset=11),
    "Slice": Case(
        "Slice", "x s e a t", {"x": D4}, {"s": i64(-1, 1), "e": i64(-9, 3), "a": i64(3, -2), "t": i64(-2, 1)}
    ),
    "Slice 9": Case("Slice", "x", {"x": D4}, attributes={"starts": [1], "ends": [3], "axes": [2]}, opset=9),
    "Pad": Case("Pad", "x p v", {"x": D3}, {"p": i64(0, 1, 2, 1, -1, 0), "v": f32(7)}),
    "Pad some": Case("Pad", "x p - a", {"x": D4}, {"p": i64(1, 2, 0, 3), "a": i64(-1, 1)}, {"mode": "edge"}),
    "Pad 10": Case(
        "Pad", "x", {"x": D3}, attributes={"pads": [0, 1, 2, 1, 0, 3], "mode": "reflect"}, opset=10
    ),
    "Tile": Case("Tile", "x n", {"x": D3}, {"n": i64(1, 2, 3)}),
    "Expand": Case("Expand", "x n", {"x": (2, 1, 1, 4)}, {"n": i64(3, 1, 4)}),
    "Resize": Case(
        "Resize",
        "x - n",
        {"x": (1, 3, 4, 5)},
        {"n": f32([1, 1, 2, 3])},
        fits=lambda perm: {perm[2], perm[3]} == {2, 3},
    ),
    "Resize to sizes": Case(
        "Resize",
        "x - - n",
        {"x": (1, 3, 4, 5)},
        {"n": i64(1, 6, 8, 5)},
        {"mode": "linear"},
        fits=lambda perm: {perm[1], perm[2]} == {2, 3},
    ),
    "LayerNormalization": Case(
        "LayerNormalization",
        "x g c",
        {"x": D3},
        {"g": f32([1, -2, 3, 4]), "c": f32([4, 3, 2, 1])},
        fits=lambda perm: perm[2] == 2,
    ),
    "MatMul": Case(
        "MatMul",
        "x c",
        {"x": D4},
        {"c": f32(np.arange(15).reshape(5, 3) - 7)},
        fits=lambda perm: perm[3] == 3,
    ),
    "MatMul by data": Case("MatMul", "x z", {"x": D3, "z": (4, 5)}, fits=lambda perm: perm[2] == 2),
    "MatMul by a stack": Case("MatMul", "x z", {"x": D3, "z": (2, 4, 5)}, fits=lambda _perm: False),
    "MatMul of a constant": Case(
        "MatMul", "c x", {"x": D3}, {"c": f32(np.eye(2, 3))}, fits=lambda _perm: False
    ),
    "BatchNormalization": Case(
        "BatchNormalization",
        "x g b m v",
        {"x": D4},
        {"g": f32([1, -2, 3]), "b": f32([3, 2, 1]), "m": f32([0.5, 1, 2]), "v": f32([1, 2, 3])},
        fits=lambda perm: perm[1] == 1,
    ),
    "QuantizeLinear": Case("QuantizeLinear", "x s", {"x": D3}, {"s": f32(0.1)}, opset=13),
    "QuantizeLinear by axis": Case(
        "QuantizeLinear", "x s z", {"x": D3}, {"s": f32([0.1, 0.2, 0.3]), "z": np.zeros(3, np.int8)}, opset=13
    ),
    "DequantizeLinear": Case(
        "DequantizeLinear",
        "x s",
        {"x": D3},
        {"s": f32([0.1, 0.2])},
        {"axis": 0},
        opset=13,
        dtype=TensorProto.INT8,
    ),
    "Reshape splits": Case(
        "Reshape",
        "x n",
        {"x": (2, 3, 20)},
        {"n": i64(2, 3, 4, 5)},
    ),
    "Reshape merges": Case(
        "Reshape",
        "x n",
        {"x": D4},
        {"n": i64(6, -1, 5)},
        fits=lambda perm: perm[1] == perm[0] + 1,
    ),
    "Reshape moves 1s": Case("Reshape", "x n", {"x": (2, 3, 1, 1)}, {"n": i64(1, 2, 1, 3)}),
    "Reshape of open dims": Case(
        "Reshape",
        "x n",
        {"x": ("n", 3, 20)},
        {"n": i64(-1, 3, 4, 5)},
    ),
}
"""Each fits all perms, but for those with `fits`."""


def perms(axes: int) -> list[Perm]:
    """All perms that move an axis up to rank 3; of more axes, some, which are always the same."""
    every = list(itertools.permutations(range(axes)))[1:]
    return every if axes <= 3 else random.Random(axes).sample(every, 10)


def model_of(case: Case, perm: Perm, found: Flip | None = None) -> onnx.ModelProto:
    """The operator on transposed data; or, with `found`, in the other layout, with its result transposed."""
    constants, attributes, names = dict(case.constants), dict(case.attributes), case.names
    outputs = [f"y{index}" for index in range(case.outputs)]
    nodes, inputs = [], {}
    for name, dims in case.data.items():
        moves = len(dims) == len(perm)
        inputs[f"{name}_"] = [dims[axis] for axis in np.argsort(perm)] if moves else dims
        transposed = moves and found is None
        nodes.append(
            node("Transpose", f"{name}_", name, perm=list(perm))
            if transposed
            else node("Identity", f"{name}_", name)
        )
    results = outputs
    if found is not None:
        for index in found.inputs:
            if names[index] in case.constants:
                constants[names[index]] = permuted(case.constants[names[index]], found.inputs[index])
        constants.update({names[index]: data for index, data in found.parameters.items()})
        attributes.update(found.attributes)
        results = [f"{name}_" for name in outputs]
        nodes += [node("Transpose", f"{name}_", name, perm=list(found.output)) for name in outputs]
    nodes.insert(len(case.data), helper.make_node(case.op, names, results, **attributes))
    return make_model(nodes, inputs, outputs, constants, opset=case.opset, dtype=case.dtype)


def the_node(case: Case, perm: Perm) -> ir.Node:
    model = ir.serde.deserialize_model(model_of(case, perm))
    annotate(model)
    return model.graph[len(case.data)]


def feeds(case: Case, perm: Perm) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    dtype = helper.tensor_dtype_to_np_dtype(case.dtype)
    made = {}
    for name, dims in case.data.items():
        sizes = [2 if isinstance(dim, str) else dim for dim in dims]
        order = np.argsort(perm) if len(dims) == len(perm) else range(len(dims))
        made[f"{name}_"] = np.asarray(rng.normal(scale=3, size=[sizes[axis] for axis in order])).astype(dtype)
    return made


ALL = [(name, perm) for name, case in CASES.items() for perm in perms(max(map(len, case.data.values())))]


@pytest.mark.parametrize(("name", "perm"), ALL, ids=str)
def test_gives_the_same_in_another_layout(name: str, perm: Perm) -> None:
    case = CASES[name]
    place = the_node(case, perm)
    value = place.inputs[
        next(i for i, each in enumerate(case.names) if len(case.data.get(each, ())) == len(perm))
    ]
    assert value is not None
    found = flip(place, value, perm, case.opset)
    assert (found is not None) == case.fits(perm)
    if found is not None:
        before, after = model_of(case, perm), model_of(case, perm, found)
        assert_same_answers(before, after, feeds(case, perm))


@pytest.mark.parametrize("name", CASES)
def test_gives_the_same_from_below(name: str) -> None:
    """The perm of the result is given, and the table says how the data must come."""
    case = CASES[name]
    axes = max(map(len, case.data.values()))
    place = the_node(case, tuple(range(axes)))
    shape = place.outputs[0].shape
    assert shape is not None
    for perm in perms(shape.rank()):
        found = flip(place, place.outputs[0], perm, case.opset)
        assert found is not None or not case.fits(perm) or case.op == "Reshape"
        if found is not None:
            assert found.output == perm
            data = next(found.inputs[index] for index in found.inputs if case.names[index] in case.data)
            assert_same_answers(model_of(case, data), model_of(case, data, found), feeds(case, data))
