"""Peak memory of loading and running a model, each in a process of its own.

`python -m fuseonnx.runtime.memory` is that process: pickled arguments on stdin, JSON on stdout.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fuseonnx.errors import BackendError
from fuseonnx.runtime.providers import Backend
from fuseonnx.runtime.session import Feeds, open_session, run


@dataclass(frozen=True)
class Memory:
    """Largest resident memory of a process so far, in bytes; what lies on a GPU is not in it."""

    idle: int
    """Before the model: Python, onnxruntime and the inputs."""
    loaded: int
    """After it was loaded."""
    peak: int
    """After one run."""

    @property
    def added(self) -> int:
        """What loading and one run of the model came to."""
        return self.peak - self.idle


def measure_memory(model: Path, backend: Backend, feeds: Feeds) -> Memory | None:
    """Load and run a model in a new process; None where the system does not tell how much memory it took.

    Raises BackendError when the model cannot be loaded or run there.
    """
    if peak_bytes() is None:
        return None
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fuseonnx.runtime.memory"],
        input=pickle.dumps((model, backend, dict(feeds))),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise BackendError(f"{model}: a process that only loads and runs it failed: {reason[-1]}")
    return Memory(**json.loads(done.stdout))


def peak_bytes() -> int | None:
    """Return the largest resident memory of this process so far, in bytes, or None if nothing tells it.

    On Linux from /proc: there getrusage counts the process that started this one, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _child() -> None:
    model, backend, feeds = pickle.load(sys.stdin.buffer)
    import onnxruntime  # noqa: F401 (not to be counted as the model's)

    idle = peak_bytes()
    session = open_session(model, backend, optimized=True)
    loaded = peak_bytes()
    run(session, feeds)
    print(json.dumps({"idle": idle, "loaded": loaded, "peak": peak_bytes()}))


if __name__ == "__main__":
    _child()
