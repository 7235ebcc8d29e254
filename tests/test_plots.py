"""Pictures of benchmarks with given numbers, drawn without a display."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from fuseonnx.errors import ModelSaveError, OptionError
from fuseonnx.plots import check_plot, plot_benchmark
from fuseonnx.runtime.benchmark import Benchmark, Entrant, Latency, Point
from fuseonnx.runtime.race import Ratio, ratio

PNG = b"\x89PNG\r\n\x1a\n"


def _latency(seconds: float, batch: int, to_first: Ratio | None) -> Latency:
    spread = tuple(seconds * (1 + number / 200) for number in range(101))
    return Latency(500, spread[50], spread[50], spread[90], spread[99], spread, batch / spread[50], to_first)


def _benchmark(batches: Sequence[int | None]) -> Benchmark:
    points = []
    for batch in batches:
        size = batch or 1
        faster = ratio([1.0] * 8, [0.7] * 8)
        latencies = (_latency(0.01 * size**0.8, size, None), _latency(0.007 * size**0.8, size, faster))
        points.append(Point(batch, {"x": f"float32[{size},3]"}, latencies, reopened=True))
    models = tuple(Entrant(name, 0.1, None, None, "") for name in ("before.onnx", "after.onnx"))
    return Benchmark(models, tuple(points), "CPUExecutionProvider", {}, 1, "1.31.1")


def test_png(tmp_path: Path) -> None:
    plot_benchmark(_benchmark([None]), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("batches", "titles"),
    [
        ([None], ["Latency"]),
        ([1, 2, 4], ["Latency at batch 1", "Latency at batch 2", "Latency at batch 4", "Throughput"]),
    ],
)
def test_svg_has_a_panel_for_each_size(
    tmp_path: Path, batches: Sequence[int | None], titles: Sequence[str]
) -> None:
    """Matplotlib writes each text into a comment before its glyphs."""
    plot_benchmark(_benchmark(batches), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    for title in titles:
        assert f"<!-- {title} -->" in text
    assert ("<!-- Throughput -->" in text) == (len(titles) > 1)
    assert "<!-- after.onnx: 8.75 ms (0.70) -->" in text or len(titles) > 1
    assert "<!-- before.onnx: 12.5 ms -->" in text


@pytest.mark.parametrize(("name", "message"), [("a.pdf", ".png or .svg"), ("no/a.png", "there is no folder")])
def test_where_no_plot_can_be(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_plot(tmp_path / name)


def test_without_matplotlib_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_matplotlib(name: str, globals: Mapping[str, Any] | None = None, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, globals, *rest)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(OptionError, match=r"pip install 'fuseonnx\[plot\]'"):
        check_plot(tmp_path / "a.png")


def test_a_picture_that_cannot_be_finished_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_figure: Figure, file: Path, **_options: object) -> None:
        file.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.png"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(Figure, "savefig", stop)
    with pytest.raises(ModelSaveError, match=r"a\.png: cannot be written: No space left on device"):
        plot_benchmark(_benchmark([None]), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.png": b"earlier"}
