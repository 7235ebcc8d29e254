"""Where a command runs models: the provider and its options as they are written on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fuseonnx.errors import OptionError

if TYPE_CHECKING:
    from fuseonnx.runtime.providers import Backend


def backend_of(provider: str, options: Sequence[str], threads: int, allow_fallback: bool) -> Backend:
    """Return the backend for `--provider`, `--provider-option`, `--threads` and `--allow-fallback`.

    Each of `options` is `key=value`, or `@file` with one `key=value` a line; empty lines and lines that start
    with `#` are left out.

    Raises:
        OptionError: an option is not of that form, given twice, or not one of the provider's; a file cannot
            be read.
    """
    from fuseonnx.runtime.providers import as_backend

    values: dict[str, str] = {}
    for text, where in _pairs(options):
        key, equals, value = (part.strip() for part in text.partition("="))
        if not key or not equals:
            raise OptionError(f"{where} '{text}': write key=value, or @file")
        if key in values:
            raise OptionError(f"{where} '{text}': '{key}' is given twice")
        values[key] = value
    return as_backend(provider, values, threads=threads, allow_fallback=allow_fallback)


def _pairs(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each `key=value` with where it is written."""
    for option in options:
        if not option.startswith("@"):
            yield option, "--provider-option"
            continue
        for line in _lines(Path(option[1:])):
            yield line, option[1:]


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise OptionError(f"--provider-option @{path}: {reason}") from None
    return [line for line in lines if line and not line.startswith("#")]
