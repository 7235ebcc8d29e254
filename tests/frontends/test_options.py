"""Example inputs as text, and the keyword arguments of an export."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fuseonnx.errors import OptionError
from fuseonnx.frontends.options import ExportKeywords, ExportOptions, InputSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1x3x8x8", InputSpec((1, 3, 8, 8))),
        ("1x3:float16", InputSpec((1, 3), "float16")),
        ("ids=2x16:int64", InputSpec((2, 16), "int64", "ids")),
        ("scale=:float64", InputSpec((), "float64", "scale")),
        ("7", InputSpec((7,))),
    ],
)
def test_specs_are_read(text: str, spec: InputSpec) -> None:
    assert InputSpec.parse(text) == spec


@pytest.mark.parametrize("text", ["", "1,3", "x", "1x", "1x3:float", "1x-3", "a=b=1x2", "1x3:", "=1x3"])
def test_anything_else_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(OptionError, match="write 1x3x224x224:float32 or NAME=1x16:int64"):
        InputSpec.parse(text)


def test_examples_are_signed_or_ones() -> None:
    floats = InputSpec((4, 50)).example()
    assert floats.dtype == np.float32 and floats.min() < 0 < floats.max()
    assert (InputSpec((2, 3), "int64").example() == np.ones((2, 3), np.int64)).all()
    assert InputSpec((), "bool").example().dtype == bool


def test_every_option_is_a_keyword() -> None:
    assert set(ExportKeywords.__annotations__) == {field.name for field in dataclasses.fields(ExportOptions)}
