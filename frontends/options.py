"""What a user may say about turning a framework's model into ONNX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np

from fuseonnx.errors import OptionError


@dataclass(frozen=True)
class InputSpec:
    """Shape and dtype of an example input; `name` is empty for a positional one."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Read `1x3x224x224:float32`, `ids=1x16:int64`, or `scale=:float32` for a scalar.

        Raises:
            OptionError: the text is not of that form.
        """
        match = re.fullmatch(r"(?:(?P<name>[^=]+)=)?(?P<dims>\d+(?:x\d+)*)?(?::(?P<dtype>\w+))?", text)
        dtype = (match and match["dtype"]) or "float32"
        if not match or not text or dtype not in _DTYPES:
            raise OptionError(
                f"input '{text}': write 1x3x224x224:float32 or NAME=1x16:int64; dtypes: {', '.join(_DTYPES)}"
            )
        dims = match["dims"] or ""
        return cls(tuple(int(dim) for dim in dims.split("x") if dim), dtype, match["name"] or "")

    def example(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return an array of this kind: signed normals, or ones, which are a valid index, token and mask."""
        if self.dtype.startswith("float"):
            return np.random.default_rng(0).standard_normal(self.shape).astype(self.dtype)
        return np.ones(self.shape, self.dtype)


_DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class ExportOptions:
    """How to export; every default means "as the model says".

    Attributes:
        inputs: example inputs. A tensor or array, a tuple of them (positional arguments), a mapping from
            argument name to value (keyword arguments), or `InputSpec`s in place of values.
        batch: `"dynamic"` makes axis 0 of every input dynamic, a number fixes it. By default what the model
            declares; PyTorch declares nothing, so that its axes are those of the example.
        dynamic: input name to {axis: symbol}: dynamic dimensions besides those the model declares.
        opset: of the standard domain; by default the newest that the exporter writes well, 21 at most.
        input_names, output_names: new names, in order.
        signature: which signature of a TensorFlow SavedModel.
        exporter: which of PyTorch's exporters; by default dynamo, and TorchScript where that fails.
        custom_objects: Keras name to class, for layers of your own in a saved model.
        trust: load files that can run code of their own: pickles, and Keras files with Lambda layers.
    """

    inputs: Any = None
    batch: int | Literal["dynamic"] | None = None
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    opset: int | None = None
    input_names: Sequence[str] = ()
    output_names: Sequence[str] = ()
    signature: str | None = None
    exporter: Literal["dynamo", "torchscript"] | None = None
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False


class ExportKeywords(TypedDict, total=False):
    """The attributes of `ExportOptions` as keyword arguments."""

    inputs: Any
    batch: int | Literal["dynamic"] | None
    dynamic: Mapping[str, Mapping[int, str]]
    opset: int | None
    input_names: Sequence[str]
    output_names: Sequence[str]
    signature: str | None
    exporter: Literal["dynamo", "torchscript"] | None
    custom_objects: Mapping[str, Any]
    trust: bool
