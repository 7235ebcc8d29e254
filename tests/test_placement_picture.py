"""Pictures of placements, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fuseonnx.errors import ModelSaveError, OptionError
from fuseonnx.placement.report import BlockSummary, Hop, Layout, Placement
from fuseonnx.placement_picture import plot_placement

PNG = b"\x89PNG\r\n\x1a\n"


def _placement(count: int, hops: Sequence[Hop] = ()) -> Placement:
    blocks = tuple(
        BlockSummary("cpu" if number % 2 else "gpu", 7, {"Conv": 4, "Relu": 3}, f"first{number}", "last")
        for number in range(count)
    )
    chain = [
        Hop("v", blocks[number].device, blocks[number + 1].device, 1000, number, number + 1)
        for number in range(count - 1)
    ]
    layout = Layout({"cpu": 7, "gpu": 7}, blocks, (*chain, *hops), 1000 * (count - 1), 0, 0.001)
    return Placement("m.onnx", None, "CUDAExecutionProvider", "0.1.0", (), layout, layout, "")


def _height(svg: Path) -> float:
    return float((ElementTree.parse(svg).getroot().get("height") or "").removesuffix("pt"))


def test_png(tmp_path: Path) -> None:
    plot_placement(_placement(3), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_svg_tells_blocks_and_copies(tmp_path: Path) -> None:
    """Matplotlib writes each text into a comment before its glyphs."""
    twice = Hop("w", "gpu", "cpu", 500, 0, 1)
    plot_placement(_placement(2, [twice, Hop("x", "cpu", "gpu", 64, None, 0)]), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for shown in (
        "GPU block 0: 7 nodes",
        "CPU block 1: 7 nodes",
        "Conv 4, Relu 3",
        "first0 to",
        "2 copies, 1.5 kB",
        "inputs of the graph",
        "1 copy, 64 bytes",
    ):
        assert f"<!-- {shown} -->" in text


def test_the_title_holds_any_name_of_a_file(tmp_path: Path) -> None:
    """Matplotlib would read what is between dollars as a formula, and a path would not fit."""
    folder = "f" * 200
    placement = replace(_placement(2), model=f"{folder}/a$b_{{$.onnx", output=f"{folder}/{'n' * 100}.onnx")
    plot_placement(placement, tmp_path / "a.svg")
    assert f"<!-- a$b_{{$.onnx -&gt; …{'n' * 36}.onnx: 7 nodes" in (tmp_path / "a.svg").read_text()


def test_no_box_for_inputs_that_are_not_copied(tmp_path: Path) -> None:
    plot_placement(_placement(2), tmp_path / "a.svg")
    assert "inputs of the graph" not in (tmp_path / "a.svg").read_text()


def test_it_grows_with_the_blocks(tmp_path: Path) -> None:
    plot_placement(_placement(2), tmp_path / "a.svg")
    plot_placement(_placement(40), tmp_path / "b.svg")
    plot_placement(_placement(0), tmp_path / "c.svg")
    assert _height(tmp_path / "b.svg") > 10 * _height(tmp_path / "a.svg")
    assert (tmp_path / "b.svg").read_text().count("<!-- 1 copy, 1.0 kB -->") == 39


def test_where_it_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"a\.pdf: a plot is a \.png or \.svg file"):
        plot_placement(_placement(2), tmp_path / "a.pdf")
    (tmp_path / "b.svg").mkdir()
    with pytest.raises(ModelSaveError, match=r"b\.svg: cannot be written: Is a directory"):
        plot_placement(_placement(2), tmp_path / "b.svg")
