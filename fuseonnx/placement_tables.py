"""A placement as the tables that the terminal and Markdown share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from fuseonnx.markdown import Section, human_bytes
from fuseonnx.placement.report import BlockSummary, Hop, Layout, PlacedNode, Placement

_OPERATORS = 6
"""Operators that a row names; the rest is counted."""


def placement_heading(placement: Placement) -> str:
    """Return the placement in one line."""
    placed = placement.placed
    model = f"{placement.model} -> {placement.output}" if placement.output else placement.model
    where = f"{counted(placed.nodes['gpu'], 'node', 'nodes')} on the GPU, {placed.nodes['cpu']:,} on the CPU"
    copies = f"{counted(len(placed.hops), 'copy', 'copies')} of {human_bytes(placed.copied_bytes)} a run"
    return f"{model}: {where}, {copies}"


def placement_sections(placement: Placement, *, top: int) -> Iterator[Section]:
    """Yield the tables of a placement: of copies and blocks the first `top`."""
    yield _summary(placement)
    rewrites = tuple((use.name, str(use.fired)) for use in placement.rewrites if use.fired)
    if rewrites:
        yield Section("Rewritten for the GPU", ("rule", "times"), rewrites, "lr")
    on_cpu = [node for node in placement.nodes if node.device == "cpu"]
    if on_cpu:
        yield _reasons("Why not on the GPU", on_cpu)
    moved = [node for node in placement.nodes if node.device == "gpu" and node.by_itself == "cpu"]
    if moved:
        yield _reasons("On the GPU, where onnxruntime would not run them by itself", moved)
    if placement.placed.hops and top:
        yield _copies(placement.placed.hops, top)
    if placement.placed.blocks and top:
        yield _blocks(placement.placed.blocks, top)
    yield _session(placement)


def counted(number: int, one: str, several: str) -> str:
    """Return `1 copy`, `2 copies`."""
    return f"{number:,} {one if number == 1 else several}"


def operators(counts: Mapping[str, int], limit: int = _OPERATORS) -> str:
    """Return `Conv 12, Relu 3`, the most frequent first, and how many kinds more there are."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [op if count == 1 else f"{op} {count}" for op, count in ordered[:limit]]
    rest = len(ordered) - limit
    return ", ".join([*named, f"{rest} more"] if rest > 0 else named)


def _summary(placement: Placement) -> Section:
    before, after = placement.by_itself, placement.placed

    def row(name: str, cell: str, other: str) -> tuple[str, str, str]:
        return name, cell, other

    def cells(layout: Layout) -> list[str]:
        return [
            f"{layout.nodes['gpu']:,}",
            f"{layout.nodes['cpu']:,}",
            f"{len(layout.blocks):,}",
            f"{len(layout.hops):,}",
            human_bytes(layout.copied_bytes),
            human_bytes(layout.fed_bytes),
            f"{1e6 * layout.seconds:,.1f} µs",
        ]

    names = (
        "nodes on the GPU",
        "nodes on the CPU",
        "blocks of one device",
        "copies a run (Memcpy nodes)",
        "bytes that they copy",
        "bytes of inputs and outputs that cross",
        "cost of a run, estimated",
    )
    rows = tuple(map(row, names, cells(before), cells(after)))
    return Section("Placement", ("", "onnxruntime by itself", "placed"), rows, "lrr", placement.notes)


def _reasons(title: str, nodes: Sequence[PlacedNode]) -> Section:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for node in nodes:
        found[node.reason][node.op_type] += 1
    ordered = sorted(found.items(), key=lambda item: -item[1].total())
    rows = tuple((reason, f"{ops.total():,}", operators(ops)) for reason, ops in ordered)
    return Section(title, ("reason", "nodes", "operators"), rows, "lrl")


def _copies(hops: Sequence[Hop], top: int) -> Section:
    rows = tuple(
        (
            hop.value,
            f"{_end(hop.source, hop.from_block)} -> {_end(hop.target, hop.to_block)}",
            human_bytes(hop.nbytes),
        )
        for hop in hops[:top]
    )
    return Section(_title("copies", len(hops), top, "largest"), ("value", "from -> to", "size"), rows, "llr")


def _end(device: str, block: int | None) -> str:
    return f"input on the {device.upper()}" if block is None else f"{device.upper()} block {block}"


def _blocks(blocks: Sequence[BlockSummary], top: int) -> Section:
    rows = tuple(
        (str(number), block.device.upper(), f"{block.nodes:,}", operators(block.ops), block.first, block.last)
        for number, block in enumerate(blocks[:top])
    )
    return Section(
        _title("blocks", len(blocks), top, "first"),
        ("block", "on", "nodes", "operators", "first", "last"),
        rows,
        "rlrlll",
        optional=("last", "first"),
    )


def _title(what: str, count: int, top: int, which: str) -> str:
    return what.capitalize() if count <= top else f"The {top} {which} of {count:,} {what}"


def _session(placement: Placement) -> Section:
    rows = (("provider", placement.provider), ("session.layer_assignment_settings", placement.settings))
    note = (
        f"fuseonnx.load_session('{placement.output}') opens it with them"
        if placement.output
        else "nothing is written: -o OUT.onnx writes the placement into a copy of the model"
    )
    return Section("To run it so", ("", ""), rows, "ll", (note,))
