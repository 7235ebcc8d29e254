"""Lets Python's own housekeeping wait while a graph is rewritten."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

_SWITCH_SECONDS = 0.0005


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Pause the cyclic garbage collector, and let threads take turns more often.

    A graph is one large cycle that the collector would scan again and again; and the thread that hashes the
    source needs the interpreter seldom and briefly, but would wait 5 ms for it each time.
    """
    was_enabled, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if was_enabled:
            gc.enable()
