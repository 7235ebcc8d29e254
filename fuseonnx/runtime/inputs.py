"""Inputs on which two models are compared: no wrong sign stays hidden, no index is out of range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

import numpy as np
import onnx

from fuseonnx.runtime.ranges import IntRange, integer_range
from fuseonnx.runtime.session import Feeds
from fuseonnx.runtime.sizes import InputSpec, Sizes, candidate_sizes, find_sizes, input_specs
from fuseonnx.runtime.uses import Uses

HIGHEST = "highest"
"""Name of a run whose integers and bools are all at the top: masks hide nothing."""
_MAGNITUDES = {"normal": 1.0, "large": 30.0, "small": 1e-3, "zeros": 0.0, "again": 1.0, HIGHEST: 1.0}
"""Name of a run to the standard deviation of its float inputs."""

_WORDS = ("the", "cat", "sat", "on", "a", "mat", "", "Zürich", "42")
_CASES = 6

Case = Mapping[str, int]
"""A value for each scalar input that chooses between paths."""


def make_inputs(
    model: onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    accepts: Callable[[Feeds], bool] = lambda _: True,
) -> Iterator[tuple[str, Feeds]]:
    """Yield (label, feeds) for `model`, of which only the graph is read; weights may be external.

    Float inputs are signed normals of standard deviation 1, 30, 1e-3, then zeros, in the input's own dtype;
    integers lie in the range found from their use; every dynamic dimension gets two sizes; a scalar integer
    or bool that chooses a path takes each of its cases. Last, once, all other integers and bools are at the
    top of their range, where masks hide nothing. `shapes` fixes the shape of inputs by name.
    `accepts` says whether the model runs on some feeds: sizes and cases for which it does not are dropped.
    The first runs cover every case and size once. Equal arguments give equal inputs.
    Raises OptionError when `shapes` contradicts the model, BackendError for input types that cannot be made.
    """
    uses = Uses(model)
    maker = _Maker(uses, input_specs(model, uses, shapes or {}), seed)
    candidates = candidate_sizes(maker.specs)
    settings: list[tuple[Case, Sizes]] = []
    for case in maker.cases():

        def runs(sizes: Sizes, case: Case = case) -> bool:
            return accepts(maker.feeds("normal", case, sizes))

        settings.extend((case, sizes) for sizes in find_sizes(candidates, runs))
    has_floats = any(spec.dtype.kind in "fV" for spec in maker.specs)
    *kinds, highest = _MAGNITUDES if has_floats else ("normal", "again", HIGHEST)
    for kind in kinds:
        for case, sizes in settings[:1] if kind == "zeros" else settings:
            yield _label(kind, case, sizes), maker.feeds(kind, case, sizes)
    for case, sizes in settings[:1]:
        if maker.draws_discrete(case) and accepts(feeds := maker.feeds(highest, case, sizes)):
            yield _label(highest, case, sizes), feeds


class _Maker:
    """Fills input specs with values; the same request always gives the same values."""

    def __init__(self, uses: Uses, specs: Sequence[InputSpec], seed: int) -> None:
        self.specs = specs
        self._seed = seed
        self._ranges = {
            spec.name: integer_range(uses, spec.name, spec.dtype) for spec in specs if spec.dtype.kind in "iu"
        }
        self._words = {spec.name: _words(uses, spec.name) for spec in specs if spec.dtype.kind not in "iubfV"}

    def cases(self) -> list[Case]:
        """Return the combinations of values for scalars that choose a path: one empty one without such."""
        choices = {}
        for spec in self.specs:
            found = self._ranges.get(spec.name, IntRange(0, 1))
            if any(dim != 1 for dim in spec.dims):
                continue
            if spec.dtype.kind == "b":
                choices[spec.name] = [1, 0]
            elif found.cases and not found.indexes:
                choices[spec.name] = list(found.cases)
        combinations = islice(product(*choices.values()), _CASES)
        return [dict(zip(choices, values, strict=True)) for values in combinations]

    def draws_discrete(self, case: Case) -> bool:
        """Whether some integers or bools are drawn, and not given by the case."""
        return any(spec.dtype.kind in "iub" and spec.name not in case for spec in self.specs)

    def feeds(self, kind: str, case: Case, sizes: Sizes) -> Feeds:
        """Return one value for each input."""
        draw = list(_MAGNITUDES).index(kind)
        result: dict[str, Any] = {}
        for number, spec in enumerate(self.specs):
            rng = np.random.default_rng([self._seed, draw, number])
            shape = spec.shape(sizes)
            if spec.name in case:
                result[spec.name] = np.full(shape, case[spec.name], spec.dtype)
            elif spec.kind == "sequence":
                result[spec.name] = [self._values(spec, rng, shape, kind) for _ in range(2)]
            else:
                result[spec.name] = self._values(spec, rng, shape, kind)
        return result

    def _values(self, spec: InputSpec, rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Any:
        if spec.dtype.kind in "iu":
            found = self._ranges[spec.name]
            return found.highest(shape, spec.dtype) if kind == HIGHEST else found.draw(rng, shape, spec.dtype)
        if spec.dtype.kind == "b":
            return np.ones(shape, bool) if kind == HIGHEST else rng.integers(0, 2, shape).astype(bool)
        if spec.dtype.kind in "fV":
            drawn = np.asarray(rng.standard_normal(shape) * _MAGNITUDES[kind])  # a number, for a scalar
            return drawn.astype(spec.dtype)
        return rng.choice(np.array(self._words[spec.name], dtype=object), shape)


def _words(uses: Uses, name: str) -> tuple[str, ...]:
    """Return some words, those that the operators reading `name` know by heart first."""
    known = (
        word.decode(errors="replace")
        for use in uses.reached(name)
        for attribute in use.node.attribute
        for word in attribute.strings
    )
    return (*islice(known, 32), *_WORDS)


def _label(kind: str, case: Case, sizes: Sizes) -> str:
    return " ".join([kind, *(f"{name}={value}" for name, value in {**case, **sizes}.items())])
