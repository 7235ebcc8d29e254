"""What CUDA does with a detector, by itself and as `place` wrote it: as it was predicted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from fuseonnx.placing import Placed, place
from fuseonnx.runtime.assignment import assignment_of
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.session import open_session
from tests.placement.detector import detector, images

PROVIDER_OF = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}


def placed_at(folder: Path, rules: tuple[str, ...] = ()) -> Placed:
    onnx.save(detector("N"), folder / "detector.onnx")
    return place(folder / "detector.onnx", folder / "placed.onnx", rules=rules)


def copies_in(model: Path) -> Counter[str]:
    targets = {"MemcpyFromHost": "gpu", "MemcpyToHost": "cpu"}
    nodes = onnx.load(model).graph.node
    return Counter(targets[node.op_type] for node in nodes if node.op_type in targets)


def test_by_itself(cuda: Backend, tmp_path: Path) -> None:
    report = placed_at(tmp_path).report
    backend = Backend(cuda.provider, allow_fallback=True)
    session = open_session(tmp_path / "detector.onnx", backend, save_optimized=tmp_path / "kept.onnx")
    found = {node.name: node.provider for node in assignment_of(session).nodes}
    expected = {node.name: PROVIDER_OF[node.by_itself] for node in report.nodes}
    assert {name: found[name] for name in expected} == expected
    assert copies_in(tmp_path / "kept.onnx") == Counter(hop.target for hop in report.by_itself.hops)


@pytest.mark.parametrize("rules", [(), ("name:/predictions/*=cpu",), ("Exp=cuda", "name:/head0.*=cpu")])
def test_as_placed(cuda: Backend, tmp_path: Path, rules: tuple[str, ...]) -> None:
    made = placed_at(tmp_path, rules)
    assert made.path is not None
    session = open_session(made.path, cuda, save_optimized=tmp_path / "kept.onnx")
    found = {node.name: node.provider for node in assignment_of(session).nodes}
    expected = {node.name: PROVIDER_OF[node.device] for node in made.report.nodes}
    assert {name: found[name] for name in expected} == expected
    assert copies_in(tmp_path / "kept.onnx") == Counter(hop.target for hop in made.report.placed.hops)

    answers = open_session(tmp_path / "detector.onnx").run(None, {"image": images()})
    for got, wanted in zip(session.run(None, {"image": images()}), answers, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)
