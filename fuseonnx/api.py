"""`optimize`: from a trained model to a verified artifact and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuseonnx.report import Report

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs
    import onnx_ir as ir

    from fuseonnx.core.rule import GraphPass, Rule

    ModelLike = str | Path | bytes | onnx.ModelProto | ir.Model | gs.Graph


@dataclass(frozen=True)
class Result:
    """What `optimize` made.

    Attributes:
        model: the optimized model, of the same kind as the one given (a path for a path).
        path: the artifact on disk, or None if none was asked for.
        report: what was done to it.
    """

    model: ModelLike
    path: Path | None
    report: Report


def optimize(
    model: ModelLike,
    output: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    verify: bool = True,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    fix_shapes: Mapping[str, Sequence[int]] | None = None,
    samples: str | Path | None = None,
    external_data: bool = False,
    in_place: bool = False,
    extra_rules: Sequence[Rule | GraphPass | Callable[[gs.Graph], gs.Graph | None]] = (),
    on_progress: Callable[[str], None] = lambda _stage: None,
) -> Result:
    raise NotImplementedError
