"""The README's Python runs as it stands."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from fuseonnx.core.rule import Rule
from tests.helpers import assert_same_answers, make_model, rewrite

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All names after the README's Python blocks ran, in a folder that holds a model.onnx."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copyfile(ROOT / "examples" / "digits.onnx", folder / "model.onnx")
    names: dict[str, Any] = {"__name__": __name__}
    with contextlib.chdir(folder):
        for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
            exec(compile(block, "README.md", "exec"), names)
        yield names


def test_every_kind_of_model_comes_back_as_its_kind(names: dict[str, Any]) -> None:
    assert names["result"].report.verification.status == "passed"
    assert names["result"].path == Path("model.opt.onnx")
    assert isinstance(names["data"], bytes)
    assert isinstance(names["proto"], onnx.ModelProto)
    assert isinstance(names["model"], names["ir"].Model)
    assert isinstance(names["graph"], names["gs"].Graph)
    assert isinstance(names["served"].model, onnx.ModelProto)
    assert names["served"].report.parity.status == "passed" and Path("net.onnx").is_file()


@pytest.mark.parametrize(("dtype", "fires"), [(np.float32, True), (np.int32, False)])
def test_the_rule_fires_on_floats_alone(names: dict[str, Any], dtype: type, fires: bool) -> None:
    model = make_model(
        [helper.make_node("Sub", ["x", "c"], ["y"])],
        {"x": [2, 3]},
        ["y"],
        {"c": np.array([1, -2, 3], dtype)},
        dtype=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
    )
    rule: Rule = names["sub_to_add"]
    after = rewrite(model, "remove_unused_initializers", extra=[rule])
    assert after.fired.get(rule.name, 0) == int(fires)
    assert after.ops == ({"Add": 1} if fires else {"Sub": 1})
    assert_same_answers(model, after.model, rtol=0)


def test_the_function_on_a_graph_drops_dropout(names: dict[str, Any]) -> None:
    nodes = [
        helper.make_node("Dropout", ["x"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["y"]),
    ]
    model = make_model(nodes, {"x": [2, 3]}, ["y"])
    graph = names["gs"].import_onnx(model)
    names["drop_dropout"](graph)
    after = names["gs"].export_onnx(graph)
    after.ir_version = model.ir_version
    assert [node.op_type for node in after.graph.node] == ["Mul"]
    assert_same_answers(model, after)
