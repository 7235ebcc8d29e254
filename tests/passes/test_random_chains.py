"""Random chains of layers and what may be folded into them give the same answers after all folds.

A chain begins with a Conv, ConvTranspose, Gemm or MatMul; each next node scales, shifts or normalises what
the one before gave, with a constant of a random form; some values have a second user, some are graph outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.helpers import assert_same_answers, batch_norm_weights, make_model, random_feeds, rewrite

FOLDS = (
    *(
        f"fold_{what}_into_{layer}"
        for what in ("batchnorm", "affine")
        for layer in ("conv", "conv_transpose", "gemm", "matmul")
    ),
    "fuse_matmul_add",
)
STEPS = ("Add", "Sub", "Mul", "Div", *["BatchNormalization"] * 4, "Relu", "layer")
FORMS = ("scalar", "channels", "all ones", "columns", "raises the rank")
fired_in_all: set[str] = set()


@dataclass
class Chain:
    """A graph that grows by one node at a time; `dims` are those of the last value."""

    draw: st.DrawFn
    dims: list[int]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    last: str = "x"

    def weight(self, *shape: int, low: float = -1.0) -> str:
        """Add a random constant; with `low` above 0 no element is near 0."""
        name = f"w{len(self.weights)}"
        rng = np.random.default_rng(self.draw(st.integers(0, 1 << 16)))
        values = (
            rng.normal(size=shape) if low < 0 else rng.uniform(low, 2, shape) * rng.choice([-1, 1], shape)
        )
        self.weights[name] = values.astype(np.float32)
        return name

    def add(self, op_type: str, inputs: list[str], **attributes: Any) -> None:
        """Add a node that becomes the last one; now and then its value gets a second user or is an output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        self.last = name
        fate = self.draw(st.sampled_from(["inner"] * 10 + ["output", "second user"]))
        if fate == "output":
            self.outputs.append(name)
        elif fate == "second user":
            self.nodes.append(helper.make_node("Neg", [name], [f"also_{name}"]))
            self.outputs.append(f"also_{name}")

    def layer(self) -> None:
        """Add a Conv or ConvTranspose of an image, a Gemm or MatMul of a matrix, or a MatMul of a stack."""
        channels = self.draw(st.sampled_from([2, 4, 6]))
        bias = self.draw(st.booleans())
        if len(self.dims) == 4:
            group = self.draw(st.sampled_from([1, 2]))
            transposed = self.draw(st.booleans())
            into, out = self.dims[1], channels
            shape = (into, out // group) if transposed else (out, into // group)
            inputs = [self.last, self.weight(*shape, 3, 3)] + ([self.weight(out)] if bias else [])
            op_type = "ConvTranspose" if transposed else "Conv"
            self.add(op_type, inputs, group=group, pads=[1, 1, 1, 1])
            self.dims = [self.dims[0], out, *self.dims[2:]]
        elif len(self.dims) == 2 and self.draw(st.booleans()):
            transposed = self.draw(st.booleans())
            shape = (channels, self.dims[-1]) if transposed else (self.dims[-1], channels)
            c = self.draw(st.sampled_from([(), (1,), (channels,), (1, channels), (self.dims[0], 1)]))
            inputs = [self.last, self.weight(*shape)] + ([self.weight(*c)] if bias else [])
            alpha, beta = (self.draw(st.sampled_from([1.0, 0.5, -2.0])) for _ in range(2))
            self.add("Gemm", inputs, transB=int(transposed), alpha=alpha, beta=beta)
            self.dims = [*self.dims[:-1], channels]
        else:
            self.add("MatMul", [self.last, self.weight(self.dims[-1], channels)])
            self.dims = [*self.dims[:-1], channels]
            if bias:
                self.arithmetic("Add")

    def arithmetic(self, op_type: str) -> None:
        """Combine with a constant of a random form, on a random side."""
        channel_axis = 1 if len(self.dims) == 4 else len(self.dims) - 1
        per_channel = [1] * (len(self.dims) - channel_axis)
        per_channel[0] = self.dims[channel_axis]
        form = self.draw(st.sampled_from(FORMS))
        shape = {
            "scalar": [],
            "channels": per_channel,
            "all ones": [1] * len(self.dims),
            "columns": [self.dims[-1]],
            "raises the rank": [1, *[1] * len(self.dims)],
        }[form]
        if form == "raises the rank" and len(self.dims) == 4:
            shape = []
        inputs = [self.last, self.weight(*shape, low=0.5)]
        if self.draw(st.booleans()):
            inputs.reverse()
        if op_type == "Div" and inputs[0] != self.last:
            inputs.reverse()
        self.add(op_type, inputs)
        if len(shape) > len(self.dims):
            self.dims = [1, *self.dims]

    def batch_norm(self) -> None:
        """Normalise axis 1."""
        start = len(self.weights)
        statistics = batch_norm_weights(self.dims[1], self.draw(st.integers(0, 1 << 16)))
        names = [f"w{start + index}" for index in range(4)]
        self.weights.update(zip(names, statistics.values(), strict=True))
        self.add("BatchNormalization", [self.last, *names])


@st.composite
def chains(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a model."""
    dims = draw(st.sampled_from([[2, 4, 6, 6], [2, 6, 4, 4], [4, 6], [6, 4], [3, 4], [2, 6, 4]]))
    chain = Chain(draw, list(dims))
    chain.layer()
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        if step == "layer":
            chain.layer()
        elif step == "BatchNormalization":
            chain.batch_norm()
        elif step == "Relu":
            chain.add("Relu", [chain.last])
        else:
            chain.arithmetic(step)
    outputs = list(dict.fromkeys([*chain.outputs, chain.last]))
    return make_model(chain.nodes, {"x": dims}, outputs, chain.weights)


@settings(
    max_examples=250, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(chains())
def check_one_chain(model: onnx.ModelProto) -> None:
    folded, all_rules = rewrite(model, *FOLDS), rewrite(model)
    fired_in_all.update(folded.fired)
    feeds = random_feeds(model)
    for after in (folded, all_rules):
        assert list(after.model.graph.output) == list(model.graph.output)
        assert_same_answers(model, after.model, feeds, rtol=2e-5)


def test_random_chains_keep_their_answers_and_fire_every_fold() -> None:
    check_one_chain()
    assert fired_in_all == set(FOLDS)
