"""sink_transposes on random graphs full of Transposes: the answers stay, and there are never more of them."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

from tests.helpers import assert_same_answers, f32, make_model, node, rewrite

SEEDS = 60
_STEPS = ["turn", "turn", "turn", "unary", "const", "sum", "concat", "reduce", "unit", "slice", "shape"]
Shape = tuple[int, ...]


class Grower:
    """Grows a graph from x, one operator on values drawn at random at a time."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.values: dict[str, Shape] = {"x": tuple(self.rng.choice([1, 2, 3, 4]) for _ in range(4))}

    def add(self, op: str, inputs: str, shape: Shape, **attributes: object) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(op, inputs, name, **attributes))
        self.values[name] = shape

    def const(self, data: object) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(data)
        return name

    def grow(self) -> None:
        rng = self.rng
        name = rng.choice(list(self.values)[-4:])
        shape = self.values[name]
        rank, axis = len(shape), rng.randrange(len(shape))
        same = [other for other, dims in self.values.items() if dims == shape]
        choice = rng.choice(_STEPS)
        if choice == "turn":
            perm = rng.sample(range(rank), rank)
            self.add("Transpose", name, tuple(shape[at] for at in perm), perm=perm)
        elif choice == "unary":
            self.add(rng.choice(["Relu", "Neg", "Sigmoid"]), name, shape)
        elif choice == "const":
            dims = [rng.choice([1, dim]) for dim in shape[rng.randrange(rank) :]]
            data = self.const(f32(np.random.default_rng(len(self.nodes)).normal(size=dims)))
            self.add(rng.choice(["Add", "Mul"]), f"{name} {data}", shape)
        elif choice == "sum":
            self.add("Sub", f"{rng.choice(same)} {name}", shape)
        elif choice == "concat":
            other = rng.choice(same)
            self.add(
                "Concat", f"{name} {other}", (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]), axis=axis
            )
        elif choice == "reduce":
            keep = rng.random() < 0.5 or rank == 1
            self.add(
                "ReduceMax",
                name,
                (*shape[:axis], *[1] * keep, *shape[axis + 1 :]),
                axes=[axis],
                keepdims=int(keep),
            )
        elif choice == "unit" and rank < 5:
            self.add("Unsqueeze", f"{name} {self.const([axis])}", (*shape[:axis], 1, *shape[axis:]))
        elif choice == "slice":
            parameters = " ".join(self.const([number]) for number in (0, 1, axis))
            self.add("Slice", f"{name} {parameters}", (*shape[:axis], 1, *shape[axis + 1 :]))
        elif choice == "shape" and axis + 1 < rank:
            merged = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
            self.add("Reshape", f"{name} {self.const(merged)}", merged)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_answers_stay(seed: int) -> None:
    grower = Grower(seed)
    for _ in range(14):
        grower.grow()
    used = {name for each in grower.nodes for name in each.input}
    produced = [each.output[0] for each in grower.nodes]
    outputs = [name for name in produced if name not in used or grower.rng.random() < 0.1]
    model = make_model(grower.nodes, {"x": grower.values["x"]}, outputs, grower.weights)
    turns = sum(each.op_type == "Transpose" for each in grower.nodes)
    after = rewrite(model, "sink_transposes", "eliminate_noop_transpose")
    assert after.ops.get("Transpose", 0) <= turns
    assert_same_answers(model, after.model)
    assert rewrite(after.model, "sink_transposes", "eliminate_noop_transpose").fired == {}
    others = ("merge_reshapes_around_transpose", "eliminate_unit_transpose")
    everything = rewrite(model, "sink_transposes", "eliminate_noop_transpose", *others)
    assert_same_answers(model, everything.model)
