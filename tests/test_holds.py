"""What holds for every run: a second changes nothing, equal ones give equal bytes, order does not matter."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import fuseonnx
from fuseonnx.core.rule import Stage
from fuseonnx.passes import STAGES
from tests.helpers import all_nodes, assert_same_answers, batch_norm_weights, make_model, node, random_feeds
from tests.random_graphs import random_case

ROOT = Path(__file__).parents[1]
SHUFFLES = 3
ORDERED = {
    "merge_slices_into_split": "merge_slices",  # a Slice of a Slice no longer shares what it reads
    "lift_constants": "hoist_common_if_nodes",  # which compares initializers, not Constant nodes
}
"""Rules that find more if they run in this order: silero_vad has 2 nodes more in the other one."""


def channels_last() -> onnx.ModelProto:
    """Conv, BatchNormalization spelled out, and relu6, between Transposes, as tf2onnx has them; twice."""
    rng = np.random.default_rng(0)
    weights = {
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "flat": np.array([-1, 4]),
        "head": rng.normal(size=(4, 3)).astype(np.float32),
        "head_bias": rng.normal(size=3).astype(np.float32),
    }
    nodes, before = [], "x"
    for block in "ab":
        channels = 3 if block == "a" else 4
        weights[f"{block}_w"] = rng.normal(size=(4, channels, 3, 3)).astype(np.float32)
        weights[f"{block}_scale"] = rng.uniform(0.5, 2, (1, 1, 1, 4)).astype(np.float32)
        weights[f"{block}_shift"] = rng.normal(size=(1, 1, 1, 4)).astype(np.float32)
        nodes += [
            node("Transpose", before, f"{block}1", perm=[0, 3, 1, 2]),
            node("Conv", f"{block}1 {block}_w", f"{block}2", pads=[1, 1, 1, 1]),
            node("Transpose", f"{block}2", f"{block}3", perm=[0, 2, 3, 1]),
            node("Mul", f"{block}3 {block}_scale", f"{block}4"),
            node("Add", f"{block}4 {block}_shift", f"{block}5"),
            node("Clip", f"{block}5 zero six", f"{block}6"),
        ]
        before = f"{block}6"
    nodes += [
        node("ReduceMean", before, "mean", axes=[1, 2], keepdims=0),
        node("Reshape", "mean flat", "rows"),
        node("MatMul", "rows head", "product"),
        node("Add", "product head_bias", "logits"),
        node("Softmax", "logits", "y", axis=1),
    ]
    return make_model(nodes, {"x": ["batch", 6, 6, 3]}, ["y"], weights)


def transformer() -> onnx.ModelProto:
    """One layer with attention, layer norm and gelu spelled out, its shapes computed, as when traced."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "zero": np.array(0),
        "one": np.array(1),
        "first": np.array([0]),
        "heads": np.array([2]),
        "size": np.array([4]),
        "width": np.array([8]),
        "two": np.array(2, np.float32),
        "half": np.array(0.5, np.float32),
        "unit": np.array(1, np.float32),
        "root2": np.array(np.sqrt(2), np.float32),
        "epsilon": np.array(1e-5, np.float32),
        "gamma": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "beta": rng.normal(size=8).astype(np.float32),
    }
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n0", axis=0),
        node("Gather", "shape one", "l0", axis=0),
        node("Unsqueeze", "n0 first", "n1"),
        node("Unsqueeze", "l0 first", "l1"),
        node("Concat", "n1 l1 heads size", "split", axis=0),
        node("Concat", "n1 l1 width", "join", axis=0),
    ]
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        weights[f"{name}_w"] = rng.normal(size=(8, 8)).astype(np.float32)
        weights[f"{name}_b"] = rng.normal(size=8).astype(np.float32)
        nodes += [
            node("MatMul", f"x {name}_w", f"{name}1"),
            node("Add", f"{name}_b {name}1", f"{name}2"),
            node("Reshape", f"{name}2 split", f"{name}3"),
            node("Transpose", f"{name}3", name, perm=perm),
        ]
    nodes += [
        node("MatMul", "q k", "scores1"),
        node("Div", "scores1 two", "scores2"),
        node("Softmax", "scores2", "scores", axis=-1),
        node("MatMul", "scores v", "mixed1"),
        node("Transpose", "mixed1", "mixed2", perm=[0, 2, 1, 3]),
        node("Reshape", "mixed2 join", "mixed"),
        node("Add", "x mixed", "sum"),
        node("ReduceMean", "sum", "mean", axes=[-1]),
        node("Sub", "sum mean", "centred"),
        node("Pow", "centred two", "square"),
        node("ReduceMean", "square", "variance1", axes=[-1]),
        node("Add", "variance1 epsilon", "variance2"),
        node("Sqrt", "variance2", "deviation"),
        node("Div", "centred deviation", "norm1"),
        node("Mul", "norm1 gamma", "norm2"),
        node("Add", "norm2 beta", "norm"),
        node("Div", "norm root2", "gelu1"),
        node("Erf", "gelu1", "gelu2"),
        node("Add", "gelu2 unit", "gelu3"),
        node("Mul", "norm gelu3", "gelu4"),
        node("Mul", "gelu4 half", "y"),
    ]
    return make_model(nodes, {"x": ["batch", "length", 8]}, ["y"], weights)


def branches() -> onnx.ModelProto:
    """Relu of 3×3, 1×1 and identity, each normalised, as RepVGG is trained."""
    rng = np.random.default_rng(0)
    weights = {
        "large": rng.normal(size=(4, 4, 3, 3)).astype(np.float32),
        "small": rng.normal(size=(4, 4, 1, 1)).astype(np.float32),
    }
    norms = {}
    for seed, name in enumerate("abc"):
        each = batch_norm_weights(4, seed)
        weights |= {f"{name}_{key}": array for key, array in each.items()}
        norms[name] = " ".join(f"{name}_{key}" for key in each)
    nodes = [
        node("Conv", "x large", "a1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", f"a1 {norms['a']}", "a2"),
        node("Conv", "x small", "b1"),
        node("BatchNormalization", f"b1 {norms['b']}", "b2"),
        node("BatchNormalization", f"x {norms['c']}", "c2"),
        node("Add", "a2 b2", "d"),
        node("Add", "d c2", "e"),
        node("Relu", "e", "y"),
    ]
    return make_model(nodes, {"x": ["batch", 4, 6, 6]}, ["y"], weights)


SMALL = {"channels_last": channels_last, "transformer": transformer, "branches": branches}
REAL = ("ch_ppocr_mobile_v2.0_cls_infer", "silero_vad")


@pytest.fixture(params=[*SMALL, *REAL])
def model(request: pytest.FixtureRequest, real_models: dict[str, Path]) -> onnx.ModelProto:
    name = request.param
    return SMALL[name]() if name in SMALL else onnx.load(real_models[name])


def _optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    result = fuseonnx.optimize(model, verify=False)
    assert isinstance(result.model, onnx.ModelProto)
    return result.model


def _count(model: onnx.ModelProto) -> int:
    return sum(1 for _ in all_nodes(model.graph))


@pytest.mark.parametrize("name", SMALL)
def test_small_models_keep_their_answers_and_shrink(name: str) -> None:
    before = SMALL[name]()
    after = _optimized(before)
    assert_same_answers(before, after, random_feeds(before, batch=2, length=5), rtol=1e-5)
    assert _count(after) < _count(before)


def test_a_second_run_changes_no_byte(model: onnx.ModelProto) -> None:
    once = _optimized(model)
    assert once.SerializeToString(deterministic=True) != model.SerializeToString(deterministic=True)
    assert _optimized(once).SerializeToString(deterministic=True) == once.SerializeToString(
        deterministic=True
    )


def _shuffled(seed: int) -> Iterator[Stage]:
    rng = random.Random(seed)
    for stage in STAGES:
        steps = rng.sample(stage.steps, len(stage.steps))
        names = [step.name for step in steps]
        for before, after in ORDERED.items():
            first, second = (names.index(name) if name in names else -1 for name in (before, after))
            if -1 not in (first, second) and first > second:
                steps[first], steps[second] = steps[second], steps[first]
                names = [step.name for step in steps]
        yield Stage(stage.name, tuple(steps))


def test_any_other_order_within_a_stage_gives_as_few_nodes(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [tuple(_shuffled(seed)) for seed in range(SHUFFLES)]
    assert orders[0] != STAGES
    expected = _count(_optimized(model))
    found = []
    for stages in orders:
        monkeypatch.setattr("fuseonnx.api.STAGES", stages)
        found.append(_count(_optimized(model)))
    assert found == [expected] * SHUFFLES


_DIGESTS = """
import hashlib
from tests.test_holds import SMALL, digest, several

for model in several():
    print(digest(model))
"""


def several() -> Iterator[onnx.ModelProto]:
    """Yield the small models, and random ones with bodies and functions."""
    yield from (make() for make in SMALL.values())
    yield from (random_case(seed).model for seed in range(40))


def digest(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of what a model is optimized to."""
    return hashlib.sha256(_optimized(model).SerializeToString()).hexdigest()


def test_the_same_bytes_whatever_the_hash_seed() -> None:
    printed = set()
    for seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", _DIGESTS]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
        )
        printed.add(done.stdout)
    (digests,) = printed
    assert len(set(digests.split())) > 40
