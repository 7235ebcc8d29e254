from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper, numpy_helper

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Write a model from nodes, inputs and outputs (name, dtype, dims) and weights; return its path."""

    def write(
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        weights: dict[str, Any] | None = None,
        name: str = "original",
    ) -> Path:
        initializers = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
        graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), initializers)
        imports = [helper.make_opsetid("", 19), helper.make_opsetid("ai.onnx.ml", 3)]
        path = tmp_path / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
        return path

    return write
