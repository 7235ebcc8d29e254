"""A placement as a picture: its blocks from top to bottom in the order of a run, and the copies between them.

The GPU's blocks are on the left and the CPU's on the right, so that every arrow from side to side is a copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseonnx.errors import ModelSaveError
from fuseonnx.markdown import human_bytes
from fuseonnx.placement.report import BlockSummary, Hop, Layout, Placement
from fuseonnx.placement_tables import counted, operators, placement_heading
from fuseonnx.plots import check_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {"gpu": "#54a24b", "cpu": "#4c78a8"}
_LEFT = {"gpu": 0.0, "cpu": 6.0}
"""Where the boxes of a device begin; all lengths are in inches."""
_BOX_WIDTH = 3.6
_LINE = 0.2
_PADDING = 0.14
_GAP = 0.22
_MOST_PIXELS = 60_000
_NAME_LETTERS = 42
_TEXT_LETTERS = 56


@dataclass(frozen=True)
class _Arrow:
    """The copies from one block to another, from the box of a number to that of another."""

    source: int
    target: int
    label: str


def plot_placement(placement: Placement, path: Path) -> None:
    """Draw the blocks of a placement, and the copies between them.

    Raises:
        OptionError: as `plots.check_plot`.
        ModelSaveError: the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    boxes = _boxes(placement.placed)
    arrows = _arrows(placement.placed.hops, first=len(boxes) - len(placement.placed.blocks))
    tops, height = _tops(boxes, arrows)
    figure = Figure(figsize=(_LEFT["cpu"] + _BOX_WIDTH + 0.4, height + 1.0))
    axes = figure.add_axes((0.02, 0.0, 0.96, height / (height + 1.0)))
    axes.set(xlim=(-0.1, _LEFT["cpu"] + _BOX_WIDTH + 0.1), ylim=(-height, 0.02))
    axes.axis("off")
    for box, (top, bottom) in zip(boxes, tops, strict=True):
        _draw_box(axes, box, top, bottom)
    _draw_arrows(axes, boxes, tops, arrows)
    figure.suptitle(_title(placement), fontsize=10, y=1 - 0.2 / (height + 1.0), va="top", parse_math=False)
    try:
        figure.savefig(path, dpi=min(150, _MOST_PIXELS / (height + 1.0)))
    except OSError as error:
        raise ModelSaveError(f"{path}: cannot be written: {error.strerror}; name another file") from None


@dataclass(frozen=True)
class _Box:
    device: str
    lines: tuple[str, ...]


def _boxes(layout: Layout) -> list[_Box]:
    """Return the boxes of the blocks, below one of the graph's inputs if some of them are copied."""
    inputs = (
        [_Box("cpu", ("inputs of the graph",))] if any(hop.from_block is None for hop in layout.hops) else []
    )
    return inputs + [_Box(block.device, _text(number, block)) for number, block in enumerate(layout.blocks)]


def _text(number: int, block: BlockSummary) -> tuple[str, ...]:
    where = f"{block.device.upper()} block {number}: {counted(block.nodes, 'node', 'nodes')}"
    names = _cut(block.first) if block.nodes == 1 else f"{_cut(block.first)} to"
    return (where, _folded(operators(block.ops, 4)), names, *([_cut(block.last)] if block.nodes > 1 else []))


def _folded(text: str) -> str:
    return text if len(text) <= _TEXT_LETTERS else f"{text[: _TEXT_LETTERS - 1]}…"


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else f"…{name[1 - _NAME_LETTERS :]}"


def _arrows(hops: Sequence[Hop], *, first: int) -> list[_Arrow]:
    """Return an arrow for each pair of blocks that something is copied between.

    Args:
        hops: the copies.
        first: number of the box of the first block.
    """
    pairs: dict[tuple[int, int], list[Hop]] = defaultdict(list)
    for hop in hops:
        if hop.to_block is not None:
            source = 0 if hop.from_block is None else first + hop.from_block
            pairs[source, first + hop.to_block].append(hop)
    return [
        _Arrow(
            *ends,
            f"{counted(len(between), 'copy', 'copies')}, {human_bytes(sum(hop.nbytes for hop in between))}",
        )
        for ends, between in sorted(pairs.items())
    ]


def _tops(boxes: Sequence[_Box], arrows: Sequence[_Arrow]) -> tuple[list[tuple[float, float]], float]:
    """Return where each box begins and ends, downwards negative, and the height of all."""
    edges, y = [], 0.0
    for number, box in enumerate(boxes):
        ends = max(
            sum(arrow.source == number for arrow in arrows), sum(arrow.target == number for arrow in arrows)
        )
        height = _LINE * max(len(box.lines), ends) + 2 * _PADDING
        edges.append((y, y - height))
        y -= height + _GAP
    return edges, -y + _GAP


def _draw_box(axes: Axes, box: _Box, top: float, bottom: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    left, color = _LEFT[box.device], _COLORS[box.device]
    patch = FancyBboxPatch(
        (left, bottom),
        _BOX_WIDTH,
        top - bottom,
        boxstyle="round,pad=0,rounding_size=0.08",
        ec=color,
        fc=f"{color}22",
    )
    axes.add_patch(patch)
    middle, count = (top + bottom) / 2, len(box.lines)
    for number, line in enumerate(box.lines):
        y = middle + _LINE * ((count - 1) / 2 - number)
        weight = "bold" if number == 0 else "normal"
        axes.text(
            left + 0.12, y, line, fontsize=8, va="center", weight=weight, clip_on=True, parse_math=False
        )


def _draw_arrows(
    axes: Axes, boxes: Sequence[_Box], tops: Sequence[tuple[float, float]], arrows: Sequence[_Arrow]
) -> None:
    """Draw each arrow from the lower end of its source to the upper end of its target."""
    for arrow in arrows:
        leaving = [each for each in arrows if each.source == arrow.source]
        coming = [each for each in arrows if each.target == arrow.target]
        upwards = len(leaving) - leaving.index(arrow) - 0.5
        downwards = coming.index(arrow) + 0.5
        start = _inner(boxes[arrow.source]), tops[arrow.source][1] + _PADDING + _LINE * upwards
        end = _inner(boxes[arrow.target]), tops[arrow.target][0] - _PADDING - _LINE * downwards
        style: dict[str, Any] = {"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.1}
        axes.annotate("", end, start, arrowprops=style)
        near = 0.35
        x, y = (near * a + (1 - near) * b for a, b in zip(start, end, strict=True))
        background = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.text(x, y, arrow.label, fontsize=7, ha="center", va="center", bbox=background)


def _inner(box: _Box) -> float:
    """Return where the side of a box is that faces the other device."""
    return _LEFT[box.device] + (_BOX_WIDTH if box.device == "gpu" else 0.0)


def _title(placement: Placement) -> str:
    before, after = placement.by_itself, placement.placed
    output = _cut(Path(placement.output).name) if placement.output else None
    named = replace(placement, model=_cut(Path(placement.model).name), output=output)
    return "\n".join(
        (
            placement_heading(named),
            f"onnxruntime by itself: {counted(len(before.blocks), 'block', 'blocks')},"
            f" {counted(len(before.hops), 'copy', 'copies')} of {human_bytes(before.copied_bytes)};"
            f" placed: {counted(len(after.blocks), 'block', 'blocks')}",
        )
    )
