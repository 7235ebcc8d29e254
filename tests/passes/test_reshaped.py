"""_reshaped: how a perm goes through a Reshape, against numpy."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from fuseonnx.passes._flip import Perm, inverse
from fuseonnx.passes._reshaped import Dims, new_target, perm_through

# each case: dims before, dims after, perm before, perm after
THROUGH: dict[str, tuple[Dims, Dims, Perm, Perm]] = {
    "split": ([2, 3, 20], [2, 3, 4, 5], (1, 0, 2), (1, 0, 2, 3)),
    "merge": ([2, 3, 4], [2, 12], (2, 0, 1), (1, 0)),
    "equal dims": ([2, 2, 6], [2, 2, 2, 3], (2, 0, 1), (3, 0, 1, 2)),
    "unit axes": ([2, 3, 1, 1], [2, 3], (0, 3, 1, 2), (0, 1)),
    "unit axes appear": ([2, 3], [2, 1, 3, 1], (1, 0), (2, 1, 0, 3)),
    "one unknown": ([None, 4, 9], [None, 2, 2, 9], (0, 2, 1), (0, 2, 3, 1)),
    "unknown, merged": ([None, 4, 9, 5], [None, 9, 5], (0, 1, 3, 2), (0, 2, 1)),
    "symbols": (["n", "s", 8], ["n", "s", 2, 4], (1, 0, 2), (1, 0, 2, 3)),
    "symbols at both ends": (["n", None, 4, "s"], [None, "s"], (1, 2, 3, 0), (1, 0)),
}
TORN: dict[str, tuple[Dims, Dims, Perm]] = {
    "apart": ([2, 3, 4], [6, 4], (0, 2, 1)),
    "out of order": ([2, 3, 4], [6, 4], (1, 0, 2)),
    "unknown, as one": ([None, None, 4], [None, None, 4], (1, 0, 2)),
    "a symbol that is not there": (["n", "s", 4], ["s", None, 4], (1, 0, 2)),
    "empty": ([2, 0, 4], [2, 0, 2, 2], (1, 0, 2)),
}


@pytest.mark.parametrize("case", THROUGH)
def test_goes_through(case: str) -> None:
    before, after, perm, expected = THROUGH[case]
    assert perm_through(before, after, perm) == expected


@pytest.mark.parametrize("case", TORN)
def test_keeps_out(case: str) -> None:
    assert perm_through(*TORN[case]) is None


def shapes(size: int) -> list[tuple[int, ...]]:
    """All shapes of up to 4 dims with that many elements."""
    factors = [factor for factor in range(1, size + 1) if size % factor == 0]
    return [
        dims
        for rank in (2, 3, 4)
        for dims in itertools.product(factors, repeat=rank)
        if math.prod(dims) == size
    ]


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_numpy(seed: int) -> None:
    """If there is an answer it is right; if there is none, no perm is."""
    rng = random.Random(seed)
    before, after = rng.choice(shapes(24)), rng.choice(shapes(24))
    perm = rng.choice(list(itertools.permutations(range(len(before)))))
    source = np.arange(24).reshape([before[axis] for axis in inverse(perm)])
    expected = source.transpose(perm).reshape(after)

    def is_right(through: Perm) -> bool:
        other = source.reshape([after[axis] for axis in inverse(through)])
        return bool((other.transpose(through) == expected).all())

    found = perm_through(before, after, perm)
    if found is not None:
        assert is_right(found)
    else:
        assert not any(is_right(other) for other in itertools.permutations(range(len(after))))


def test_target() -> None:
    assert new_target([2, "n", 3]) == pytest.approx([2, -1, 3])
    assert new_target([None, "n", 3]) is None
    assert new_target([2, 0, 3]) is None
