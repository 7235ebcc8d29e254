"""How long each stage of a run takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Adds up the seconds of each stage, and passes the stages on."""

    on_progress: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _since: float = field(default_factory=time.perf_counter)

    def __call__(self, stage: str) -> None:
        """Begin a stage."""
        self.stop()
        self._stage = stage
        self.on_progress(stage)

    def stop(self) -> None:
        """End the stage that is running, if one is."""
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = "", now
