"""Small constants that PyTorch's dynamo exporter takes for 0, and those near 1 that it takes for 1."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

_RELATIVE = 1e-7
"""As near as float32 comes to a number that it cannot hold."""


@contextlib.contextmanager
def exact_constants() -> Iterator[None]:
    """Let the exporter's clean-up drop x + 0 and x * 1, but no longer x + 1e-8 and x * 1.00001.

    Its patterns compare constants with a tolerance of 1e-8, or a hundred-thousandth. So it drops the term
    that keeps a division by a norm from being one by 0, and the model answers NaN.
    """
    try:
        from onnxscript.rewriter import _matcher
    except ImportError:  # a version that keeps its matcher elsewhere: the comparison with PyTorch will tell
        yield
        return

    def isclose(a: float, b: float, **_tolerance: float) -> bool:
        return math.isclose(a, b, rel_tol=_RELATIVE)

    matcher: Any = _matcher
    before = matcher.math
    matcher.math = SimpleNamespace(isclose=isclose)
    try:
        yield
    finally:
        matcher.math = before
