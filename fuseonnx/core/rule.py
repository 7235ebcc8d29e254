"""What a rewrite is: a stateless rule on a small pattern, or a pass over a whole model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import TYPE_CHECKING

import onnx_ir as ir

from fuseonnx.core.builder import Builder
from fuseonnx.core.constants import Array, array_of
from fuseonnx.core.pattern import Captures, Root
from fuseonnx.errors import RewriteError

if TYPE_CHECKING:
    from fuseonnx.core.journal import Journal


@dataclass(slots=True)
class Match:
    """One place where a rule's pattern was found."""

    root: ir.Node
    captures: Captures
    opset: int
    """Version of the standard domain in the graph or function that holds the root."""

    def __getitem__(self, name: str) -> ir.Value:
        """Return a captured value; KeyError if the optional input was absent."""
        value = self.captures.values[name]
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str) -> ir.Value | None:
        """Return a captured value, or None if the optional input was absent."""
        return self.captures.values.get(name)

    def node(self, name: str) -> ir.Node:
        """Return a captured node."""
        return self.captures.nodes[name]

    def array(self, name: str) -> Array:
        """Return the data of a captured constant; never write into it."""
        return array_of(self[name])


Replacement = ir.Value | Sequence[ir.Value]


def accept(_match: Match) -> str | None:
    """Guard of a rule that its pattern alone decides."""
    return None


@dataclass(frozen=True)
class Rule:
    """A rewrite of one pattern.

    `guard` returns the reason to keep out of a match ("" if there is nothing to report), or None. `replace`
    builds the new nodes and returns the value that stands in for the root's first output (or a sequence, one
    for each output), or raises `Refused` where only the computed weights show that it cannot. It must not
    touch the graph: the driver splices, names and cleans up.
    """

    name: str
    pattern: Root
    replace: Callable[[Match, Builder], Replacement]
    guard: Callable[[Match], str | None] = accept

    @property
    def doc(self) -> str:
        """The docstring of the module that defines the rule."""
        return module_doc(self.replace)


@dataclass(frozen=True)
class GraphPass:
    """A rewrite that needs to see the whole model.

    `run` asks `journal.admits` before each application and tells `journal.record` after it. It brings its own
    work to an end: run again at once, it would find nothing to do.
    """

    name: str
    run: Callable[[ir.Model, Journal], None]

    @property
    def doc(self) -> str:
        """The docstring of the module that defines the pass."""
        return module_doc(self.run)


Step = Rule | GraphPass


@dataclass(frozen=True)
class Stage:
    """Steps that run to a fixpoint together before the next stage begins."""

    name: str
    steps: tuple[Step, ...]


def blame(rule: str, place: str, error: Exception) -> RewriteError:
    """Return one line that names the rule which raised `error`."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return RewriteError(f"rule {rule} failed at {place} ({reason}); use --skip {rule} and report the model")


def module_doc(function: Callable[..., object]) -> str:
    """Return the docstring of the module in which `function` is defined."""
    return cleandoc(sys.modules[function.__module__].__doc__ or "")
