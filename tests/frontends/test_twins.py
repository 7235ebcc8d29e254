"""The same network from Keras and from PyTorch: the same answers, and after optimizing the same operators."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

import fuseonnx
from tests.frontends.twins import IMAGE, POSITIONS, TWINS, VOCABULARY
from tests.helpers import run_reference

BATCH = 3
OPSET = 18
"""The newest that tf2onnx writes; torch.onnx would write Gelu, which came with opset 20."""
RTOL = 1e-5
IMAGES = ("resnet18", "mobilenet_v2")
LEFT = {
    "resnet18": {"Conv": 20, "Relu": 17, "Add": 8, "MaxPool": 1, "ReduceMean": 1, "Gemm": 1},
    "mobilenet_v2": {"Conv": 19, "Clip": 13, "Add": 3, "ReduceMean": 1, "Gemm": 1},
    "transformer": {
        **{"Gather": 1, "LayerNormalization": 5, "Gemm": 13, "MatMul": 4, "Softmax": 2, "ReduceMean": 1},
        **{"Reshape": 10, "Transpose": 8, "Add": 7, "Erf": 2, "Div": 2, "Mul": 4},
    },
}


@dataclass(frozen=True)
class Side:
    """One framework's model: what it answers, and its artifacts before and after optimizing."""

    feed: np.ndarray
    answer: np.ndarray
    exported: onnx.ModelProto
    optimized: onnx.ModelProto

    def run(self, model: onnx.ModelProto) -> np.ndarray:
        (answer,) = run_reference(model, {model.graph.input[0].name: self.feed}).values()
        return answer

    def operators(self) -> collections.Counter[str]:
        return collections.Counter(node.op_type for node in self.optimized.graph.node)


@dataclass(frozen=True)
class Pair:
    """The two sides, on the same input."""

    name: str
    keras: Side
    torch: Side


@pytest.fixture(scope="module", params=TWINS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    import torch

    folder = tmp_path_factory.mktemp(request.param)
    model, module = TWINS[request.param]()
    feed = _feed(request.param)
    other = np.ascontiguousarray(feed.transpose(0, 3, 1, 2)) if feed.ndim == 4 else feed
    fuseonnx.export(model, folder / "keras.onnx", opset=OPSET)
    fuseonnx.export(
        module, folder / "torch.onnx", opset=OPSET, inputs=(torch.from_numpy(other[:2]),), batch="dynamic"
    )
    with torch.no_grad():
        answer = module(torch.from_numpy(other)).numpy()
    return Pair(
        request.param,
        _side(folder / "keras.onnx", feed, np.asarray(model(feed, training=False))),
        _side(folder / "torch.onnx", other, answer),
    )


def _feed(name: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    if name in IMAGES:
        return rng.normal(0.2, 1, (BATCH, IMAGE, IMAGE, 3)).astype(np.float32)
    return rng.integers(0, VOCABULARY, (BATCH, POSITIONS), np.int32)


def _side(path: Path, feed: np.ndarray, answer: np.ndarray) -> Side:
    exported = onnx.load(path)
    result = fuseonnx.optimize(exported)
    assert result.report.rolled_back == ()
    assert isinstance(result.model, onnx.ModelProto)
    return Side(feed, answer, exported, result.model)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Assert that two arrays [N, classes] differ by no more than `RTOL` of the scale of their spread."""
    assert found.shape == expected.shape
    scale = float(np.ptp(expected, axis=1).min())
    assert scale > 0.1, "the classes do not differ"
    np.testing.assert_allclose(found, expected, rtol=0, atol=RTOL * scale)


def test_the_frameworks_agree(pair: Pair) -> None:
    assert_close(pair.keras.answer, pair.torch.answer)


@pytest.mark.parametrize("side", [lambda pair: pair.keras, lambda pair: pair.torch], ids=["keras", "torch"])
def test_each_artifact_answers_as_its_framework(pair: Pair, side: Callable[[Pair], Side]) -> None:
    one = side(pair)
    assert_close(one.run(one.exported), one.answer)
    assert_close(one.run(one.optimized), one.answer)


def test_the_artifacts_agree(pair: Pair) -> None:
    assert_close(pair.keras.run(pair.keras.exported), pair.torch.run(pair.torch.exported))
    assert_close(pair.keras.run(pair.keras.optimized), pair.torch.run(pair.torch.optimized))


def test_the_operators_are_the_same(pair: Pair) -> None:
    """But for the layout of the image that Keras is fed with."""
    layout = {"Transpose": 1} if pair.name in IMAGES else {}
    assert pair.torch.operators() == LEFT[pair.name]
    assert pair.keras.operators() == collections.Counter(LEFT[pair.name]) + collections.Counter(layout)


def test_only_the_image_is_transposed(pair: Pair) -> None:
    graph = pair.keras.optimized.graph
    transposes = [node for node in graph.node if node.op_type == "Transpose"]
    if pair.name in IMAGES:
        assert [list(node.input) for node in transposes] == [[graph.input[0].name]]
        assert list(transposes[0].attribute[0].ints) == [0, 3, 1, 2]
    else:
        assert len(transposes) == 4 * 2, "the heads of Q, K, V and of the result, in each of two layers"


def test_they_hold_as_many_numbers(pair: Pair) -> None:
    """Scales, statistics and the packed weights of Q, K and V have all gone the same way."""
    keras, torch = (_numbers(side.optimized) for side in (pair.keras, pair.torch))
    assert keras == torch > 0


def _numbers(model: onnx.ModelProto) -> int:
    weights = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT]
    return sum(int(np.prod(each.dims)) for each in weights)
