"""Where models come from: whatever the caller holds becomes an ONNX file, and the artifact its kind again."""

from __future__ import annotations

from fuseonnx.frontends.source import ModelLike, Source, opened

__all__ = ["ModelLike", "Source", "opened"]
