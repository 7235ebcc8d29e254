"""State that a model hands from one step to the next: RNN states and KV caches among its inputs and outputs.

Such a pair has one dtype and rank, and names that differ only in saying "before" and "after":

    h -> hn        state -> stateN        cache_in -> cache_out        initial_h -> Y_h
    past_key_values.0.key -> present.0.key        past_0 -> present_0        state -> new_state
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from fuseonnx.errors import BackendError, OptionError
from fuseonnx.runtime.inputs import make_inputs
from fuseonnx.runtime.noise import Expected, Run
from fuseonnx.runtime.session import Feeds, run
from fuseonnx.runtime.sizes import InputSpec
from fuseonnx.runtime.values import leaves

if TYPE_CHECKING:
    import onnxruntime

STEPS = 4

_BEFORE = {"past", "prev", "previous", "in", "input", "init", "initial", "old", "last"}
_AFTER = {"present", "new", "next", "out", "output", "updated", "y"}


def state_pairs(graph: onnx.GraphProto) -> dict[str, str]:
    """Return which input takes the value of which output in the next step.

    Names that fit twice are left alone, and so is a model of which every input or output would be state.
    """
    weights = {tensor.name for tensor in graph.initializer}
    before: dict[str, list[onnx.ValueInfoProto]] = {}
    for value in graph.input:
        if value.name not in weights:
            before.setdefault(_stem(value.name, _BEFORE), []).append(value)
    pairs: dict[str, str] = {}
    after = [(_stem(value.name, _AFTER), value) for value in graph.output]
    stems = [stem for stem, _ in after]
    for stem, value in after:
        inputs = before.get(stem, [])
        if stem and len(inputs) == 1 and stems.count(stem) == 1 and _alike(inputs[0], value):
            pairs[inputs[0].name] = value.name
    number_of_inputs = sum(map(len, before.values()))
    return pairs if len(pairs) < min(number_of_inputs, len(graph.output)) else {}


def rollout(
    session: onnxruntime.InferenceSession,
    model: onnx.ModelProto,
    specs: Sequence[InputSpec],
    first: Run,
    notes: list[str],
) -> list[Run]:
    """Run the steps that follow `first`, each with the state in which the original left the one before.

    `notes` gets which state was found, and why the rollout ended early if it did.
    """
    pairs = state_pairs(model.graph)
    if not pairs:
        return []
    listed = [f"{before} <- {after}" for before, after in pairs.items()]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    notes.append(f"state: {', '.join(listed[:3])}{more}; compared over {STEPS} steps")
    positions = {value.name: index for index, value in enumerate(session.get_outputs())}
    runs = [first]
    for step in range(2, STEPS + 1):
        outputs = runs[-1].outputs
        state = {before: outputs[positions[after]].leaves[0] for before, after in pairs.items()}
        try:
            feeds = next_feeds(model, specs, runs[-1].feeds, state, step)
            values = run(session, feeds)
        except (BackendError, OptionError) as error:
            notes.append(f"the rollout ended before step {step}: {error}")
            break
        runs.append(Run(f"rollout step {step}", feeds, [Expected(leaves(value)) for value in values]))
    return runs[1:]


def next_feeds(
    model: onnx.ModelProto, specs: Sequence[InputSpec], feeds: Feeds, state: Mapping[str, Any], seed: int
) -> Feeds:
    """Return inputs for the step after `feeds`: the given state, and new values for everything else.

    Dimensions that the state has in common with other inputs, as a cache and its mask, grow with it.
    """
    sizes: dict[str, int] = {}
    for values in (feeds, state):
        for spec in specs:
            if spec.kind == "tensor" and spec.name in values:
                named = zip(spec.dims, values[spec.name].shape, strict=True)
                sizes |= {dim: size for dim, size in named if isinstance(dim, str) and "+" not in dim}
    shapes = {spec.name: _shape(spec, sizes, feeds) for spec in specs if spec.kind == "tensor"}
    _, made = next(make_inputs(model, shapes=shapes, seed=seed))
    return {**made, **state}


def _shape(spec: InputSpec, sizes: Mapping[str, int], feeds: Feeds) -> tuple[int, ...]:
    try:
        return spec.shape(sizes)
    except KeyError:  # a sum of symbols that no dimension is on its own
        shape: tuple[int, ...] = feeds[spec.name].shape
        return shape


def _stem(name: str, direction: set[str]) -> str:
    """Return a name without the words that only say on which side of a step it is."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("key_values", "")
    words = [word for word in re.split(r"[^a-z0-9]+|(?<=[a-z])(?=\d)", name) if word]
    kept = [word for word in words if word not in direction]
    if kept == words:
        kept = _without_number(words, "n" if direction is _AFTER else "0")
    return " ".join(kept)


def _without_number(words: list[str], number: str) -> list[str]:
    """Return `h_0` and `h0`, or `h_n`, `hn` and `state_n`, without the number of the step."""
    *others, last = words or [""]
    if last == number and (number == "n" or others in [["h"], ["c"]]):
        return others
    return [*others, last[0]] if last in {"hn", "cn"} and number == "n" else words


def _alike(before: onnx.ValueInfoProto, after: onnx.ValueInfoProto) -> bool:
    """Return whether an output can be fed as that input in the next step."""
    first, second = before.type.tensor_type, after.type.tensor_type
    if not first.elem_type or first.elem_type != second.elem_type:
        return False
    dims, others = first.shape.dim, second.shape.dim
    return not second.HasField("shape") or (
        len(dims) == len(others)
        and all(
            one.dim_value == other.dim_value
            for one, other in zip(dims, others, strict=True)
            if one.HasField("dim_value") and other.HasField("dim_value")
        )
    )
