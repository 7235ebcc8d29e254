"""The inputs and outputs of two models, and which of one are which of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fuseonnx.runtime.session import Feeds

if TYPE_CHECKING:
    import onnxruntime


class Port(NamedTuple):
    """An input or output: its name, onnxruntime's name of its type, such as `tensor(float)`, its dims."""

    name: str
    type: str
    dims: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Matching:
    """Which input and output of a candidate stands for which of the original."""

    inputs: Mapping[str, str]
    """Name of an input of the original to that of the candidate."""
    outputs: Sequence[int]
    """For each output of the original, the position of the candidate's."""
    notes: tuple[str, ...] = ()
    """Other names, another order, other dimensions: a line each."""

    def feeds(self, feeds: Feeds) -> Feeds:
        """Return the original's feeds under the candidate's names."""
        return {self.inputs[name]: value for name, value in feeds.items()}

    def values(self, values: Sequence[Any]) -> list[Any]:
        """Return the candidate's outputs in the original's order."""
        return [values[position] for position in self.outputs]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model, in order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession) -> Signature:
        """Return the signature of an open model."""
        inputs, outputs = (
            tuple(Port(value.name, value.type, tuple(value.shape or ())) for value in values)
            for values in (session.get_inputs(), session.get_outputs())
        )
        return cls(inputs, outputs)

    def difference(self, other: Signature) -> str:
        """Return how the names, types or order of `other` deviate, or an empty string."""
        for what in ("inputs", "outputs"):
            expected, found = _named(getattr(self, what)), _named(getattr(other, what))
            if expected != found:
                return f"{what} are {found or 'none'} instead of {expected or 'none'}"
        return ""

    def match(self, other: Signature) -> Matching | str:
        """Find each input and output in `other`: by name, those without a namesake in order.

        Returns how `other` deviates when that does not work out.
        """
        inputs = _pairs(self.inputs, other.inputs)
        outputs = _pairs(self.outputs, other.outputs)
        if inputs is None or outputs is None:
            return self.difference(other)
        notes = (*_notes("input", inputs, other.inputs), *_notes("output", outputs, other.outputs))
        positions = {port.name: position for position, port in enumerate(other.outputs)}
        return Matching(
            {ours.name: theirs.name for ours, theirs in inputs},
            [positions[theirs.name] for _, theirs in outputs],
            notes,
        )


Pairs = list[tuple[Port, Port]]


def _pairs(ours: Sequence[Port], theirs: Sequence[Port]) -> Pairs | None:
    """Return each of our ports with theirs, or None if their numbers or types differ."""
    if len(ours) != len(theirs):
        return None
    by_name = {port.name: port for port in theirs}
    names = {port.name for port in ours}
    strangers = iter([port for port in theirs if port.name not in names])
    pairs = [(port, by_name.get(port.name) or next(strangers)) for port in ours]
    return pairs if all(one.type == other.type for one, other in pairs) else None


def _notes(what: str, pairs: Pairs, theirs: Sequence[Port]) -> list[str]:
    notes = [f"{what} {one.name!r} is called {two.name!r}" for one, two in pairs if one.name != two.name]
    if [two.name for _, two in pairs] != [port.name for port in theirs]:
        notes.append(f"the {what}s are in another order: {', '.join(port.name for port in theirs)}")
    notes += [
        f"{what} {one.name!r} is declared {_shape(two)} instead of {_shape(one)}"
        for one, two in pairs
        if one.dims != two.dims
    ]
    return ["; ".join(notes)] if notes else []


def _shape(port: Port) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in port.dims) + "]"


def _named(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.name}: {port.type}" for port in ports)
