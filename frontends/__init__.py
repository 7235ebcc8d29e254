"""Where models come from: whatever the caller holds becomes an ONNX file, and the artifact its kind again."""

from __future__ import annotations

from fuseonnx.frontends.conversion import Answers, Conversion
from fuseonnx.frontends.kinds import default_output
from fuseonnx.frontends.options import ExportKeywords, ExportOptions, InputSpec
from fuseonnx.frontends.source import ModelLike, OnnxModel, Source, opened

__all__ = [
    "Answers",
    "Conversion",
    "ExportKeywords",
    "ExportOptions",
    "InputSpec",
    "ModelLike",
    "OnnxModel",
    "Source",
    "default_output",
    "opened",
]
