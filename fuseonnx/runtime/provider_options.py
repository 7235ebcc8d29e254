"""The options of onnxruntime's execution providers, typed: names and meanings as of onnxruntime 1.31."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from fuseonnx.errors import OptionError

_BOOLS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, kw_only=True)
class ProviderOptions:
    """Options of one execution provider; None leaves an option to onnxruntime.

    Raises OptionError when a value is not of its option's type.
    """

    provider: ClassVar[str]
    yes_and_no: ClassVar[tuple[str, str]] = ("1", "0")
    """How onnxruntime wants true and false written."""

    def __post_init__(self) -> None:
        for name, value in self._given().items():
            if not _fits(value, _types(type(self))[name]):
                raise _wrong_type(type(self), name, value)

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Self:
        """Return the options that `texts` write, by onnxruntime's own names.

        Raises OptionError when an option does not exist or its text cannot be read.
        """
        return cls(**{name: _parse(cls, name, text) for name, text in texts.items()})

    def as_texts(self) -> dict[str, str]:
        """Return the options that are set, as onnxruntime takes them."""
        return {
            name: self.yes_and_no[not value] if isinstance(value, bool) else str(value)
            for name, value in self._given().items()
        }

    def _given(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class CpuOptions(ProviderOptions):
    """The CPU provider has no options; its threads are the session's."""

    provider: ClassVar[str] = "CPUExecutionProvider"


@dataclass(frozen=True, kw_only=True)
class CudaOptions(ProviderOptions):
    """Options of the CUDA provider.

    Attributes:
        device_id: which GPU. [0]
        gpu_mem_limit: largest size of the memory arena, in bytes. [unlimited]
        arena_extend_strategy: grow the arena to the next power of two, or by what is asked for.
            [kNextPowerOfTwo]
        cudnn_conv_algo_search: how cuDNN finds the algorithm of a convolution: by timing all, by its
            heuristic, or always the same one. [EXHAUSTIVE]
        cudnn_conv_use_max_workspace: let the search use as much memory as an algorithm wants. [1]
        cudnn_conv1d_pad_to_nc1d: run a 1-D convolution as [N, C, 1, D] instead of [N, C, D, 1]. [0]
        do_copy_in_default_stream: copy on the stream that computes. [1]
        enable_cuda_graph: record the first runs as a CUDA graph and replay it; needs fixed shapes, I/O
            binding and every node on the GPU. [0]
        enable_cudnn: use cuDNN where it is there. [1]
        enable_skip_layer_norm_strict_mode: accumulate SkipLayerNormalization in float32. [0]
        fuse_conv_bias: let cuDNN's graph API add the bias of a convolution itself. [0]
        prefer_nhwc: lay images out channels-last. [0]
        sdpa_kernel: which attention kernels may be used, as a sum of bits. [0: onnxruntime's choice]
        tunable_op_enable: use the kernels that were tuned. [0]
        tunable_op_tuning_enable: tune kernels while running. [0]
        tunable_op_max_tuning_duration_ms: longest time to tune one kernel, in ms. [0: unlimited]
        use_ep_level_unified_stream: one stream for the whole session. [0]
        use_tf32: round the operands of float32 matrix products and convolutions to TF32. [1]
    """

    provider: ClassVar[str] = "CUDAExecutionProvider"

    device_id: int | None = None
    gpu_mem_limit: int | None = None
    arena_extend_strategy: Literal["kNextPowerOfTwo", "kSameAsRequested"] | None = None
    cudnn_conv_algo_search: Literal["EXHAUSTIVE", "HEURISTIC", "DEFAULT"] | None = None
    cudnn_conv_use_max_workspace: bool | None = None
    cudnn_conv1d_pad_to_nc1d: bool | None = None
    do_copy_in_default_stream: bool | None = None
    enable_cuda_graph: bool | None = None
    enable_cudnn: bool | None = None
    enable_skip_layer_norm_strict_mode: bool | None = None
    fuse_conv_bias: bool | None = None
    prefer_nhwc: bool | None = None
    sdpa_kernel: int | None = None
    tunable_op_enable: bool | None = None
    tunable_op_tuning_enable: bool | None = None
    tunable_op_max_tuning_duration_ms: int | None = None
    use_ep_level_unified_stream: bool | None = None
    use_tf32: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TensorrtOptions(ProviderOptions):
    """Options of the TensorRT provider.

    Attributes:
        device_id: which GPU. [0]
        trt_max_partition_iterations: how often the graph is cut anew where TensorRT refuses a node. [1000]
        trt_min_subgraph_size: fewest nodes that become an engine; smaller pieces go to CUDA. [1]
        trt_max_workspace_size: most GPU memory while building, in bytes. [0: all]
        trt_fp16_enable: allow float16 kernels. [0]
        trt_bf16_enable: allow bfloat16 kernels. [0]
        trt_int8_enable: allow int8 kernels. [0]
        trt_int8_calibration_table_name: file of ranges for int8, below `trt_engine_cache_path`.
        trt_int8_use_native_calibration_table: the table is TensorRT's own, not onnxruntime's. [0]
        trt_dla_enable: use the Deep Learning Accelerator of a Jetson. [0]
        trt_dla_core: which of its cores. [0]
        trt_dump_subgraphs: write the subgraph of each engine as ONNX. [0]
        trt_engine_cache_enable: keep the built engines on disk. [0]
        trt_engine_cache_path: folder of the engines. [the working folder]
        trt_engine_cache_prefix: start of their file names.
        trt_weight_stripped_engine_enable: keep the engines without weights. [0]
        trt_onnx_model_folder_path: folder of the model that has those weights.
        trt_engine_decryption_enable: engines on disk are encrypted. [0]
        trt_engine_decryption_lib_path: library that decrypts them.
        trt_engine_hw_compatible: engines that run on every GPU since Ampere. [0]
        trt_force_sequential_engine_build: one GPU of several builds at a time. [0]
        trt_context_memory_sharing_enable: the engines share their memory. [0]
        trt_layer_norm_fp32_fallback: LayerNormalization in float32 where float16 is allowed. [0]
        trt_timing_cache_enable: keep the times of kernels on disk, so that the next build is fast. [0]
        trt_timing_cache_path: folder of the times. [the working folder]
        trt_force_timing_cache: use times from another GPU of the same compute capability. [0]
        trt_detailed_build_log: log the time of each step of a build. [0]
        trt_build_heuristics_enable: build faster by guessing, not timing, some kernels. [0]
        trt_builder_optimization_level: 0 builds fastest, 5 runs fastest. [3]
        trt_auxiliary_streams: streams beside the main one. [-1: TensorRT's choice]
        trt_tactic_sources: libraries to take kernels from, such as `+CUDNN,-CUBLAS`.
        trt_preview_features: features of TensorRT to switch on, by name.
        trt_sparsity_enable: use 2:4 sparse weights. [0]
        trt_extra_plugin_lib_paths: libraries of plugins, separated by `;`.
        trt_profile_min_shapes: smallest shapes of dynamic inputs, `x:1x3x64x64,y:1x5`; all three of
            these or none; see `optimization_profiles`.
        trt_profile_opt_shapes: shapes that the engine is tuned for.
        trt_profile_max_shapes: largest shapes.
        trt_cuda_graph_enable: replay an engine as a CUDA graph. [0]
        trt_op_types_to_exclude: operators to keep away from TensorRT, separated by `,`.
        trt_dump_ep_context_model: write a model whose nodes are the engines (EPContext). [0]
        trt_ep_context_file_path: where to write it.
        trt_ep_context_embed_mode: 1 puts the engine into that model, 0 only its path. [0]
    """

    provider: ClassVar[str] = "TensorrtExecutionProvider"
    yes_and_no: ClassVar[tuple[str, str]] = ("True", "False")

    device_id: int | None = None
    trt_max_partition_iterations: int | None = None
    trt_min_subgraph_size: int | None = None
    trt_max_workspace_size: int | None = None
    trt_fp16_enable: bool | None = None
    trt_bf16_enable: bool | None = None
    trt_int8_enable: bool | None = None
    trt_int8_calibration_table_name: str | None = None
    trt_int8_use_native_calibration_table: bool | None = None
    trt_dla_enable: bool | None = None
    trt_dla_core: int | None = None
    trt_dump_subgraphs: bool | None = None
    trt_engine_cache_enable: bool | None = None
    trt_engine_cache_path: str | None = None
    trt_engine_cache_prefix: str | None = None
    trt_weight_stripped_engine_enable: bool | None = None
    trt_onnx_model_folder_path: str | None = None
    trt_engine_decryption_enable: bool | None = None
    trt_engine_decryption_lib_path: str | None = None
    trt_engine_hw_compatible: bool | None = None
    trt_force_sequential_engine_build: bool | None = None
    trt_context_memory_sharing_enable: bool | None = None
    trt_layer_norm_fp32_fallback: bool | None = None
    trt_timing_cache_enable: bool | None = None
    trt_timing_cache_path: str | None = None
    trt_force_timing_cache: bool | None = None
    trt_detailed_build_log: bool | None = None
    trt_build_heuristics_enable: bool | None = None
    trt_builder_optimization_level: int | None = None
    trt_auxiliary_streams: int | None = None
    trt_tactic_sources: str | None = None
    trt_preview_features: str | None = None
    trt_sparsity_enable: bool | None = None
    trt_extra_plugin_lib_paths: str | None = None
    trt_profile_min_shapes: str | None = None
    trt_profile_opt_shapes: str | None = None
    trt_profile_max_shapes: str | None = None
    trt_cuda_graph_enable: bool | None = None
    trt_op_types_to_exclude: str | None = None
    trt_dump_ep_context_model: bool | None = None
    trt_ep_context_file_path: str | None = None
    trt_ep_context_embed_mode: int | None = None


def _types(options: type[ProviderOptions]) -> dict[str, Any]:
    """Return the type of each option, without the None."""
    hints = get_type_hints(options)
    return {field.name: get_args(hints[field.name])[0] for field in fields(options)}


def _parse(options: type[ProviderOptions], name: str, text: str) -> Any:
    kinds = _types(options)
    if name not in kinds:
        raise _unknown(options, name)
    kind = kinds[name]
    value: bool | int | None
    if kind is bool:
        value = _BOOLS.get(text.strip().lower())
    elif kind is int:
        value = int(text) if text.strip().removeprefix("-").isdecimal() else None
    else:
        return text
    if value is None:
        raise _wrong_type(options, name, text)
    return value


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    return type(value) is kind


def _wrong_type(options: type[ProviderOptions], name: str, value: Any) -> OptionError:
    kind = _types(options)[name]
    if get_origin(kind) is Literal:
        takes = " or ".join(get_args(kind))
    else:
        takes = {bool: "0 or 1", int: "a whole number", str: "text"}[kind]
    return OptionError(f"{options.provider}: {name}={value}: it takes {takes}")


def _unknown(options: type[ProviderOptions], name: str) -> OptionError:
    known = list(_types(options))
    if not known:
        return OptionError(f"{options.provider} has no options; leave '{name}' out")
    close = difflib.get_close_matches(name, known, 1, 0.6)
    hint = f"did you mean '{close[0]}'?" if close else f"it has: {', '.join(known)}"
    return OptionError(f"{options.provider} has no option '{name}'; {hint}")
