"""Find the first tensor in which two models part.

Tensors are compared that have one name in both models, each within its own rounding noise, on inputs for
which the outputs differ. A tensor that differs need not be wrong: a rewrite may move a factor past it, and
what follows agrees again. So the search goes upwards from the outputs that differ, each way as far as the
first tensor that agrees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from fuseonnx.core.graph import proto_bodies_of
from fuseonnx.io.load import read_weightless
from fuseonnx.runtime.judging import judge_output
from fuseonnx.runtime.noise import Expected, count_as_noise, jitter, move
from fuseonnx.runtime.providers import CPU_PROVIDER, Backend
from fuseonnx.runtime.reference import identical
from fuseonnx.runtime.revealed import revealed
from fuseonnx.runtime.session import Feeds, open_session, run
from fuseonnx.runtime.values import Array, Difference, Rounding, largest, leaves

_FIRST_COUNT = 64
_CHUNK_BYTES = 128 << 20
"""More and more tensors are compared at a time, as long as those of one chunk take less than this."""


@dataclass(frozen=True)
class Subject:
    """A model's file, and the inputs to run it on under its own names."""

    path: Path
    feeds: Feeds


@dataclass(frozen=True)
class Part:
    """A tensor, what makes it in each model (operator and node name), and how far it is off."""

    tensor: str
    made_by: str
    made_in_candidate_by: str
    max_abs: float
    allowed: float
    relative: float
    reason: str


@dataclass(frozen=True)
class Divergence:
    """Where two models part, on the inputs of one run, with onnxruntime's optimizations off.

    Attributes:
        run: label of the run.
        common: number of tensors with the same name in both models, all of which were compared.
        first: the first tensor that differs on the way to an output that does; None if there is none, so
            that what differs has no common name, or differs only at onnxruntime's default level.
        last_agreeing: the last tensor before it, on that way, that agrees; empty if none does.
    """

    run: str
    common: int
    first: Part | None
    last_agreeing: str


def find_divergence(
    original: Subject,
    candidate: Subject,
    outputs: Collection[str],
    label: str,
    rounding: Rounding,
    backend: Backend,
) -> Divergence:
    """Compare all tensors that the two models have in common on the inputs of the run `label`.

    `outputs` are those of the original that differ. The original runs on the CPU, the candidate on `backend`.

    Raises:
        BackendError: onnxruntime cannot run one of them with its inner values as outputs.
    """
    made, made_in_candidate = _producers(original.path), _producers(candidate.path)
    names = [name for name in made if name in made_in_candidate]
    found = dict(_differences(original, candidate, names, rounding, backend))
    agreeing = {name for name, difference in found.items() if difference.severity <= 1.0}
    reached = _upstream(outputs, made, agreeing)
    first = next((name for name in names if name in reached - agreeing), None)
    if first is None:
        return Divergence(label, len(names), None, "")
    before = [name for name in names[: names.index(first)] if name in reached]
    difference = found[first]
    part = Part(
        first,
        _described(made[first]),
        _described(made_in_candidate[first]),
        difference.max_abs,
        difference.allowed,
        difference.relative,
        difference.reason,
    )
    return Divergence(label, len(names), part, before[-1] if before else "")


def _producers(model: Path) -> dict[str, onnx.NodeProto]:
    """Return the tensors that the nodes of the graph itself make, in order, each with its node."""
    return {name: node for node in read_weightless(model).graph.node for name in node.output if name}


def _upstream(outputs: Collection[str], made: Mapping[str, onnx.NodeProto], end: Collection[str]) -> set[str]:
    """Return the tensors on the ways up from `outputs`, each way as far as the first tensor in `end`."""
    reached: set[str] = set()
    todo = [name for name in outputs if name in made]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [each for each in _reads(made[name]) if each in made] if name not in end else []
    return reached


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, its bodies included."""
    yield from node.input
    for body in proto_bodies_of(node):
        yield from (info.name for info in body.output)
        for inner in body.node:
            yield from _reads(inner)


def _described(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type


def _differences(
    original: Subject, candidate: Subject, names: Sequence[str], rounding: Rounding, backend: Backend
) -> Iterator[tuple[str, Difference]]:
    """Yield how far each tensor is off, in chunks that fit into memory."""
    start, count = 0, _FIRST_COUNT
    while start < len(names):
        chunk = names[start : start + count]
        with contextlib.ExitStack() as stack:
            first, second = (
                stack.enter_context(revealed(model.path, chunk)) for model in (original, candidate)
            )
            expected = _expected(first, original.feeds, rounding, backend)
            found = [leaves(value) for value in run(open_session(second, backend), candidate.feeds)]
        for name, known, other in zip(chunk, expected, found, strict=True):
            yield name, _judge(known, other, rounding)
        size = sum(leaf.nbytes for known in expected for leaf in known.leaves)
        start += len(chunk)
        count = min(2 * count, max(1, int(count * _CHUNK_BYTES / max(size, 1))))


def _expected(model: Path, feeds: Feeds, rounding: Rounding, backend: Backend) -> list[Expected]:
    """Return what the original gives, with how far its own rounding moves it."""
    cpu = replace(backend, provider=CPU_PROVIDER)
    plain = open_session(model, cpu)
    expected = [Expected(leaves(value)) for value in run(plain, feeds)]
    for known, value in zip(expected, run(plain, feeds), strict=True):
        known.scale = largest(known.leaves)
        known.random = not identical(known.leaves, leaves(value))
    for known, value in zip(expected, run(plain, jitter(feeds)), strict=True):
        count_as_noise(known, value, rounding)
    for where in dict.fromkeys((CPU_PROVIDER.name, backend.provider.name)):
        there = cpu if where == CPU_PROVIDER.name else backend
        values = run(open_session(model, there, optimized=True), feeds)
        for known, value in zip(expected, values, strict=True):
            move(known, leaves(value), rounding, any_size=False)
    return expected


def _judge(expected: Expected, found: list[Array], rounding: Rounding) -> Difference:
    """Judge a tensor; the same elements in another order or shape are no difference.

    Rewriting moves Transpose and Reshape nodes, so that a value can keep its name but not its layout.
    """
    difference = judge_output(expected, found, rounding) or Difference()
    sizes = [leaf.size for leaf in expected.leaves]
    if difference.severity <= 1.0 or sizes != [leaf.size for leaf in found]:
        return difference
    ordered = replace(expected, leaves=[_sorted(leaf) for leaf in expected.leaves])
    ordered.noise = expected.noise
    again = judge_output(ordered, [_sorted(leaf) for leaf in found], rounding) or Difference()
    if again.severity > 1.0 and difference.max_abs < float("inf"):
        return difference
    return replace(again, reason=f"{difference.reason}; sorted: {again.reason}" if again.reason else "")


def _sorted(array: Array) -> Array:
    ordered: Array = np.sort(array, axis=None)
    return ordered
