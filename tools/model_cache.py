"""Shared by the tools that make models: each is made once and kept."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

Makers = Mapping[str, Callable[[Path], None]]


def cached(name: str, makers: Makers, cache: Path) -> Path:
    """Return the path of a model of `makers`, making the model when it is not in `cache`."""
    path = cache / f"{name}.onnx"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".partial.onnx")
        makers[name](unfinished)
        unfinished.replace(path)
    return path


def make_named(makers: Makers, cache: Path, description: str) -> None:
    """Make the models that the command line names, or all."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(makers)}; default all")
    names = parser.parse_args().names
    for unknown in set(names) - makers.keys():
        parser.error(f"no model {unknown!r}; choose from {', '.join(makers)}")
    for name in names or makers:
        path = cached(name, makers, cache)
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
