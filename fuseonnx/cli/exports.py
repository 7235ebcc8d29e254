"""The options of an export, as they are written on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuseonnx.errors import OptionError


def export_keywords(
    *,
    example: Sequence[str],
    batch: str | None,
    dynamic: Sequence[str],
    input_names: str,
    output_names: str,
    **others: Any,
) -> dict[str, Any]:
    """Return keyword arguments for `fuseonnx.export`: those that were given on the command line.

    Raises:
        OptionError: one is not of its form.
    """
    keywords = {
        **others,
        "inputs": _examples(example),
        "batch": _batch(batch),
        "dynamic": dict(_dynamic_axes(text) for text in dynamic),
        "input_names": _names(input_names),
        "output_names": _names(output_names),
    }
    return {name: value for name, value in keywords.items() if value}


def _examples(texts: Sequence[str]) -> Any:
    if not texts:
        return None
    from fuseonnx.frontends import InputSpec

    specs = [InputSpec.parse(text) for text in texts]
    named = {spec.name: spec for spec in specs if spec.name}
    if named and len(named) != len(specs):
        raise OptionError("--input: name all inputs, each once, or none of them")
    return named or tuple(specs)


def _batch(text: str | None) -> Any:
    if text in {None, "dynamic"}:
        return text
    if not text or not text.isdecimal() or text == "0":
        raise OptionError(f"--batch '{text}': write dynamic, or a number")
    return int(text)


def _dynamic_axes(text: str) -> tuple[str, dict[int, str]]:
    name, colon, pairs = text.rpartition(":")
    axes: dict[int, str] = {}
    for pair in pairs.split(","):
        axis, equals, symbol = pair.partition("=")
        if not (name and colon and equals and axis.isdecimal() and symbol.isidentifier()):
            raise OptionError(f"--dynamic '{text}': write NAME:0=batch,2=height")
        axes[int(axis)] = symbol
    return name, axes


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()
