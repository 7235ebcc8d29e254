"""The node benchmark on optimizers that work, crash, hang, write nonsense, or change the answers."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import helper

from tests.helpers import make_model, node

ROOT = Path(__file__).parents[2]
TWO_TIMES_ABS = [node("Identity", "x", "a"), node("Abs", "a", "b"), node("Add", "b b", "y")]
FAKES = {
    "onnxsim": "def simplify(model):\n    import os\n    os.abort()\n",
    "onnxslim": "def slim(model, output):\n    import time\n    time.sleep(60)\n",
    "onnxoptimizer": "def optimize(model):\n    model.graph.node[1].op_type = 'Relu'\n    return model\n",
    "onnxscript": "class optimizer:\n"
    "    def optimize(model):\n        model.graph.node[1].op_type = 'Abbs'\n        return model\n",
}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("tools.bench_nodes")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(make_model(TWO_TIMES_ABS, {"x": [2, 3]}, ["y"]), path)
    return path


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "peers"
    folder.mkdir()
    for name, code in FAKES.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.usefixtures("fakes")
def test_every_way_to_fail_is_told_apart(tool: ModuleType, model: Path) -> None:
    found = {name: tool.outcome(name, model, 300) for name in (tool.OURS, "onnxsim", *list(FAKES)[2:])}
    found["onnxslim"] = tool.outcome("onnxslim", model, 3)
    assert {name: (each.nodes, each.trouble) for name, each in found.items()} == {
        tool.OURS: (2, ""),
        "onnxsim": (None, "fails"),
        "onnxslim": (None, "fails"),
        "onnxoptimizer": (3, "wrong"),
        "onnxscript": (3, "no load"),
    }
    assert "stopped after 3 s" in found["onnxslim"].reason
    assert "Abbs" in found["onnxscript"].reason


def test_the_table_marks_the_fewest_right_nodes(tool: ModuleType) -> None:
    found = {
        "swin_t": {
            "fuseonnx": tool.Outcome(1420),
            "a": tool.Outcome(3, "wrong", "y differs"),
            "b": tool.Outcome(trouble="fails", reason="it crashed"),
        },
        "bert_6": {"fuseonnx": tool.Outcome(170), "a": tool.Outcome(170), "b": tool.Outcome(171)},
        "mine": {"fuseonnx": tool.Outcome(7), "a": tool.Outcome(8), "b": tool.Outcome(9)},
    }
    before = dict.fromkeys(found, 5000)
    assert list(tool.table(before, found))[2:] == [
        "| swin_t | 5,000 | **1,420** | 3 *wrong* | *fails* | ≤ 420 | **no** |",
        "| bert_6 | 5,000 | **170** | **170** | 171 | ≤ 170 | yes |",
        "| mine | 5,000 | **7** | 8 | 9 | | |",
    ]
    assert list(tool.troubles(found)) == [
        "- a on swin_t, *wrong*: `y differs`",
        "- b on swin_t, *fails*: `it crashed`",
    ]


def test_bodies_and_functions_count(tool: ModuleType, tmp_path: Path) -> None:
    bodies = [
        helper.make_graph([node("Relu", "x", name)], name, [], [onnx.ValueInfoProto(name=name)])
        for name in ("t", "e")
    ]
    branch = helper.make_node("If", ["c"], ["y"], then_branch=bodies[0], else_branch=bodies[1])
    function = helper.make_function(
        "local", "f", ["x"], ["z"], [node("Abs", "x", "z")], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph([branch], "g", [], [])
    onnx.save(helper.make_model(graph, functions=[function]), tmp_path / "model.onnx")
    assert tool.count_nodes(tmp_path / "model.onnx") == 4


def test_what_is_not_installed_is_said(
    tool: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "TOOLS", {"no_such_optimizer": "no-such-optimizer==1.0"})
    page = "\n".join(tool.page({"mine": model}, 300))
    assert "`pip install no-such-optimizer==1.0` adds its column" in page
    assert "| mine | 3 | **2** | | |" in page
    assert sys.version.split()[0] in page
