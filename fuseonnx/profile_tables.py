"""A profile, and the difference of two, as the tables that the terminal and Markdown share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fuseonnx.markdown import Section
from fuseonnx.runtime.profile import OUTSIDE, GroupTime, NodeTime, OpChange, Profile, ProfileDiff

_ROOM_FOR_INPUTS = 110
_SHORTEST_NAME = 16
_GAP = 2

Cells = tuple[str, ...]


def profile_heading(profile: Profile) -> str:
    """Return the profile in one line."""
    return f"{profile.model}: {_ms(profile.unprofiled_ms)} ms a run, under the profiler {_ms(profile.ms)}"


def diff_heading(diff: ProfileDiff) -> str:
    """Return the difference in one line."""
    models = f"{diff.before.model} -> {diff.after.model}"
    times = f"{_ms(diff.before.unprofiled_ms)} -> {_ms(diff.after.unprofiled_ms)}"
    return f"{models}: {times} ms a run, ratio {diff.ratio:.2f}"


def profile_sections(profile: Profile, *, top: int, width: int | None = None) -> Iterator[Section]:
    """Yield the tables of a profile: of the nodes the `top` slowest, fitted into `width` letters."""
    yield _groups("Where the time goes", "", profile.kinds)
    if profile.ops:
        yield _groups("Operators", "operator", profile.ops)
    if top and profile.nodes:
        yield _nodes(profile.nodes, top, width)
    yield _conditions(profile)


def diff_sections(diff: ProfileDiff) -> Iterator[Section]:
    """Yield the tables of a difference."""
    total = OpChange(
        "under the profiler", (len(diff.before.nodes), len(diff.after.nodes)), (diff.before.ms, diff.after.ms)
    )
    yield _changes("Where the time goes", "", (*diff.kinds, total))
    if diff.ops:
        yield _changes("Operators, the largest change first", "operator", diff.ops)
    yield _conditions(diff.before, diff.after)


def _groups(title: str, first: str, groups: Sequence[GroupTime]) -> Section:
    """Return a table of groups; calls are told where they are not one a node."""
    rows = [
        (
            group.name,
            str(group.nodes) if group.name != OUTSIDE else "",
            f"{group.calls:g}",
            _ms(group.ms),
            f"{group.share:.1%}",
        )
        for group in groups
    ]
    calls = any(group.calls != group.nodes for group in groups)
    return _table(title, [(first, "l"), ("nodes", "r"), ("calls" if calls else "", "r"), *_TIME], rows)


_TIME = [("ms", "r"), ("share", "r")]


def _nodes(nodes: Sequence[NodeTime], top: int, width: int | None) -> Section:
    """Return the table of the slowest nodes; calls and providers are told where they are not all the same."""
    shown = nodes[:top]
    calls = any(node.calls != 1 for node in nodes)
    providers = len({node.provider for node in nodes}) > 1
    inputs = width is None or width >= _ROOM_FOR_INPUTS
    columns = [
        *_TIME,
        ("operator", "l"),
        ("calls" if calls else "", "r"),
        ("on" if providers else "", "l"),
        ("shapes" if inputs else "output", "l"),
        ("node", "l"),
    ]
    rows = [
        (
            _ms(node.ms),
            f"{node.share:.1%}",
            node.op,
            f"{node.calls:g}",
            node.provider.removesuffix("ExecutionProvider"),
            _shapes(node, inputs),
        )
        for node in shown
    ]
    taken = sum(
        max(len(cell) for cell in (column, *cells)) + _GAP
        for (column, _), *cells in zip(columns[:-1], *rows, strict=True)
        if column
    )
    room = None if width is None else max(_SHORTEST_NAME, width - taken)
    named = [(*row, _cut(node.name, room)) for row, node in zip(rows, shown, strict=True)]
    title = f"The {len(shown)} slowest of {len(nodes)} nodes" if len(shown) < len(nodes) else "Nodes"
    return _table(title, columns, named)


def _table(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Cells]) -> Section:
    """Return a section without the nameless columns but the first."""
    kept = [index for index, (name, _) in enumerate(columns) if name or not index]
    return Section(
        title,
        tuple(columns[index][0] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in rows),
        "".join(columns[index][1] for index in kept),
    )


def _changes(title: str, first: str, changes: Sequence[OpChange]) -> Section:
    rows = tuple(
        (
            change.name,
            _pair(*(str(count) for count in change.nodes)) if any(change.nodes) else "",
            _ms(change.ms[0]),
            _ms(change.ms[1]),
            f"{change.ms[1] - change.ms[0]:+.3f}",
            f"{change.ms[1] / change.ms[0]:.2f}" if change.ms[0] else "",
        )
        for change in changes
    )
    return Section(title, (first, "nodes", "ms before", "ms after", "change", "ratio"), rows, "lrrrrr")


def _pair(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _conditions(*profiles: Profile) -> Section:
    """Return how models were run; several have that in common, but not their notes."""
    first = profiles[0]
    runs = f"{first.runs} after {first.warmup} to warm up (interquartile means)"
    rows = (
        *((f"input {name}", described) for name, described in first.inputs.items()),
        ("runs", f"{runs}; as many without the profiler (the fastest)"),
        ("threads", str(first.threads or "onnxruntime's choice")),
        ("ran on", _providers(profiles)),
        ("onnxruntime", f"{first.onnxruntime}, graph optimizations {'on' if first.optimized else 'off'}"),
    )
    return Section("Conditions", ("", ""), rows, "ll", _notes(*profiles))


def _providers(profiles: Sequence[Profile]) -> str:
    names = dict.fromkeys(node.provider for each in profiles for node in each.nodes)
    return ", ".join(name.removesuffix("ExecutionProvider") for name in names) or "nothing: no node is left"


def _notes(*profiles: Profile) -> tuple[str, ...]:
    """Return the notes that all profiles have as they are, the others with the model's name before them."""
    shared = set.intersection(*(set(each.notes) for each in profiles))
    notes = (note if note in shared else f"{each.model}: {note}" for each in profiles for note in each.notes)
    return tuple(dict.fromkeys(notes))


def _shapes(node: NodeTime, with_inputs: bool) -> str:
    """Return output shapes, behind those of the first two inputs, as `1x3x8x8 4x3x3x3 -> 1x4x8x8`."""
    first = _times(node.outputs[0]) if node.outputs else ""
    return f"{' '.join(map(_times, node.inputs[:2]))} -> {first}".strip() if with_inputs else first


def _times(described: str) -> str:
    """Return `1x3x8x8` for `float[1,3,8,8]`, the type before it if it is another one."""
    dtype, _, dims = described.removesuffix("]").partition("[")
    return ("" if dtype == "float" else f"{dtype} ") + (dims.replace(",", "x") or "scalar")


def _cut(name: str, room: int | None) -> str:
    """Return what fits of a name: its end, which says most."""
    return name if room is None or len(name) <= room else f"…{name[1 - room :]}"


def _ms(ms: float) -> str:
    return f"{ms:.3f}"
