"""Execution providers of onnxruntime, and where models run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuseonnx.errors import OptionError
from fuseonnx.runtime.provider_options import CpuOptions, CudaOptions, ProviderOptions, TensorrtOptions

if TYPE_CHECKING:
    from fuseonnx.runtime.sizes import InputSpec, Sizes

_TYPED: dict[str, type[ProviderOptions]] = {
    options.provider: options for options in (CpuOptions, CudaOptions, TensorrtOptions)
}
_MANY_THREADS = 256
"""onnxruntime starts its threads one after the other, the slower the more there are: 1000 take seconds."""
_SUFFIX = "ExecutionProvider"
_SHORT = {"cpu": CpuOptions.provider, "cuda": CudaOptions.provider, "tensorrt": TensorrtOptions.provider}


@dataclass(frozen=True)
class Provider:
    """An execution provider by onnxruntime's own name, with options as onnxruntime takes them."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


CPU_PROVIDER = Provider(CpuOptions.provider)


@dataclass(frozen=True)
class Backend:
    """Where models run.

    Attributes:
        provider: the execution provider that is asked for.
        threads: threads inside an operator on the CPU; 0 leaves the number to onnxruntime.
        allow_fallback: accept that nodes, or all of the model, run on the CPU instead.
    """

    provider: Provider = CPU_PROVIDER
    threads: int = 0
    allow_fallback: bool = False


CPU = Backend()
"""The CPU provider with onnxruntime's own number of threads."""


def make_provider(name: str, options: Mapping[str, object] | None = None) -> Provider:
    """Return the provider `name`: `cpu`, `cuda`, `tensorrt`, or another of onnxruntime's, short or in full.

    Values that are not text become what Python writes for them, as in onnxruntime. The options of those three
    are then checked against `CpuOptions`, `CudaOptions` and `TensorrtOptions`, and written as onnxruntime
    reads them; those of any other provider go to onnxruntime as they are.

    Raises:
        OptionError: the name is no provider's, an option does not exist or has a value of the wrong type.
    """
    full_name = _full_name(name)
    if not full_name.endswith(_SUFFIX):
        raise OptionError(
            f"'{name}' is no execution provider: give {', '.join(_SHORT)} or the name of another one of"
            " onnxruntime's, such as openvino or OpenVINOExecutionProvider"
        )
    texts = {key: str(value) for key, value in (options or {}).items()}
    if full_name not in _TYPED:
        return Provider(full_name, texts)
    return Provider(full_name, _TYPED[full_name].parse(texts).as_texts())


def _full_name(name: str) -> str:
    """Return onnxruntime's name of a provider whose name may be short or of other capitals, else `name`."""
    short = _short_name(name)
    if short in _SHORT:
        return _SHORT[short]
    with contextlib.suppress(ImportError):
        import onnxruntime as ort

        return next((full for full in ort.get_all_providers() if _short_name(full) == short), name)
    return name


def _short_name(full_name: str) -> str:
    return full_name.lower().removesuffix(_SUFFIX.lower())


def as_backend(
    provider: str | Provider | ProviderOptions,
    options: Mapping[str, object] | None = None,
    *,
    threads: int = 0,
    allow_fallback: bool = False,
) -> Backend:
    """Return the backend for a provider by name (with `options`), or with its options already in it.

    Raises:
        OptionError: as `make_provider` does; or `provider` is of another type, `options` go with one that
            has its own, or `threads` is negative, or far more than this machine has processors.
    """
    if threads < 0:
        raise OptionError(f"threads {threads}: give 0, for onnxruntime's own choice, or more")
    processors = os.cpu_count() or 1
    most = max(_MANY_THREADS, 4 * processors)
    if threads > most:
        raise OptionError(
            f"threads {threads}: this machine has {processors} processors; give at most {most}, or 0 for"
            " onnxruntime's own choice"
        )
    if isinstance(provider, str):
        provider = make_provider(provider, options)
    elif options:
        raise OptionError("give a provider's options either inside it or beside its name, not both")
    if isinstance(provider, ProviderOptions):
        provider = Provider(provider.provider, provider.as_texts())
    if not isinstance(provider, Provider):
        raise OptionError(f"provider {provider!r}: give its name, and its options beside it")
    return Backend(provider, threads, allow_fallback)


def for_equivalence(provider: Provider) -> Provider:
    """Return `provider` set to compute in full float32 where its options do not say otherwise.

    CUDA otherwise rounds the operands of matrix products and convolutions to TF32, 10 bits of mantissa, which
    hides an error of a rewrite below 1e-3. TensorRT has no such option: set NVIDIA_TF32_OVERRIDE=0.
    """
    if provider.name != CudaOptions.provider:
        return provider
    return Provider(provider.name, {"use_tf32": "0", **provider.options})


def optimization_profiles(
    specs: Iterable[InputSpec], smallest: Sizes, best: Sizes, largest: Sizes
) -> dict[str, str]:
    """Return TensorRT's options for the dynamic inputs among `specs`, such as `x:1x3x64x64,mask:1x77`.

    One engine then serves every shape between `smallest` and `largest`, tuned for `best`; each gives every
    symbol of a dynamic dimension a size. Without dynamic inputs there are no options.

    Raises:
        OptionError: a symbol lacks a size, or its three sizes do not rise.
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for spec in specs:
        if any(isinstance(dim, str) for dim in spec.dims):
            try:
                shapes[spec.name] = [spec.shape(sizes) for sizes in (smallest, best, largest)]
            except KeyError as symbol:
                raise OptionError(f"input '{spec.name}': dimension {symbol} lacks a size") from None
    for name, (low, middle, high) in shapes.items():
        if not all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True)):
            raise OptionError(f"input '{name}': its shapes {low}, {middle}, {high} do not rise")
    if not shapes:
        return {}
    return {
        f"trt_profile_{kind}_shapes": ",".join(
            f"{name}:{'x'.join(map(str, of[number]))}" for name, of in shapes.items()
        )
        for number, kind in enumerate(("min", "opt", "max"))
    }
