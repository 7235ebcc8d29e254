"""Framework-neutral ONNX optimizer: fewer nodes, the same answers, proved on onnxruntime.

    import fuseonnx
    result = fuseonnx.optimize("model.onnx")          # writes model.opt.onnx
    print(result.report.to_markdown())

Names are imported on first use, so that `import fuseonnx` alone is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuseonnx.api import Result, optimize, plan
    from fuseonnx.benchmarking import bench
    from fuseonnx.comparing import Comparison, verify
    from fuseonnx.core.builder import Builder, Refused
    from fuseonnx.core.pattern import any_of, const, maybe, op, var
    from fuseonnx.core.rule import GraphPass, Match, Rule
    from fuseonnx.errors import FuseOnnxError
    from fuseonnx.exporting import Exported, export
    from fuseonnx.frontends.options import ExportOptions, InputSpec
    from fuseonnx.placement.pins import Pin
    from fuseonnx.placement.report import Placement
    from fuseonnx.placing import Placed, load_session, place
    from fuseonnx.profiling import compare_profiles, profile
    from fuseonnx.report import Report
    from fuseonnx.runtime.benchmark import Benchmark
    from fuseonnx.runtime.profile import Profile, ProfileDiff
    from fuseonnx.runtime.provider_options import CpuOptions, CudaOptions, TensorrtOptions
    from fuseonnx.runtime.providers import Provider

__version__ = "0.1.0"

__all__ = [
    "Benchmark",
    "Builder",
    "Comparison",
    "CpuOptions",
    "CudaOptions",
    "ExportOptions",
    "Exported",
    "FuseOnnxError",
    "GraphPass",
    "InputSpec",
    "Match",
    "Pin",
    "Placed",
    "Placement",
    "Profile",
    "ProfileDiff",
    "Provider",
    "Refused",
    "Report",
    "Result",
    "Rule",
    "TensorrtOptions",
    "any_of",
    "bench",
    "compare_profiles",
    "const",
    "export",
    "load_session",
    "maybe",
    "op",
    "optimize",
    "place",
    "plan",
    "profile",
    "var",
    "verify",
]

_HOMES = {
    "fuseonnx.api": ("Result", "optimize", "plan"),
    "fuseonnx.benchmarking": ("bench",),
    "fuseonnx.comparing": ("Comparison", "verify"),
    "fuseonnx.core.builder": ("Builder", "Refused"),
    "fuseonnx.core.pattern": ("any_of", "const", "maybe", "op", "var"),
    "fuseonnx.core.rule": ("GraphPass", "Match", "Rule"),
    "fuseonnx.errors": ("FuseOnnxError",),
    "fuseonnx.exporting": ("Exported", "export"),
    "fuseonnx.frontends.options": ("ExportOptions", "InputSpec"),
    "fuseonnx.placement.pins": ("Pin",),
    "fuseonnx.placement.report": ("Placement",),
    "fuseonnx.placing": ("Placed", "load_session", "place"),
    "fuseonnx.profiling": ("compare_profiles", "profile"),
    "fuseonnx.report": ("Report",),
    "fuseonnx.runtime.benchmark": ("Benchmark",),
    "fuseonnx.runtime.profile": ("Profile", "ProfileDiff"),
    "fuseonnx.runtime.provider_options": ("CpuOptions", "CudaOptions", "TensorrtOptions"),
    "fuseonnx.runtime.providers": ("Provider",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'fuseonnx' has no attribute '{name}'")
