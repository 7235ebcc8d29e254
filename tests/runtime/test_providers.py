from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from fuseonnx.errors import OptionError
from fuseonnx.runtime.provider_options import CpuOptions, CudaOptions, ProviderOptions, TensorrtOptions
from fuseonnx.runtime.providers import (
    CPU,
    Backend,
    Provider,
    as_backend,
    for_equivalence,
    make_provider,
    optimization_profiles,
)
from fuseonnx.runtime.sizes import InputSpec

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("cpu", "CPUExecutionProvider"),
        ("cuda", CUDA),
        ("CUDA", CUDA),
        ("tensorrt", TENSORRT),
        (CUDA, CUDA),
        ("WebGpuExecutionProvider", "WebGpuExecutionProvider"),
    ],
)
def test_short_and_full_names(name: str, full: str) -> None:
    assert make_provider(name) == Provider(full, {})


@pytest.mark.parametrize("name", ["gpu", "", "CUDAExecutionProvidr", "trt"])
def test_what_is_no_provider_is_refused_with_the_names_that_are(name: str) -> None:
    with pytest.raises(OptionError, match="cpu, cuda, tensorrt"):
        make_provider(name)


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (CudaOptions(), {}),
        (CudaOptions(device_id=0, use_tf32=False), {"device_id": "0", "use_tf32": "0"}),
        (
            CudaOptions(prefer_nhwc=True, gpu_mem_limit=2 << 30),
            {"gpu_mem_limit": str(2 << 30), "prefer_nhwc": "1"},
        ),
        (CudaOptions(cudnn_conv_algo_search="HEURISTIC"), {"cudnn_conv_algo_search": "HEURISTIC"}),
        (
            TensorrtOptions(
                trt_fp16_enable=True, trt_engine_cache_enable=True, trt_engine_cache_path="cache"
            ),
            {"trt_fp16_enable": "True", "trt_engine_cache_enable": "True", "trt_engine_cache_path": "cache"},
        ),
        (TensorrtOptions(trt_auxiliary_streams=-1), {"trt_auxiliary_streams": "-1"}),
    ],
)
def test_options_are_written_as_onnxruntime_takes_them_and_read_again(
    options: ProviderOptions, texts: dict[str, str]
) -> None:
    assert options.as_texts() == texts
    assert type(options).parse(texts) == options
    assert as_backend(options) == Backend(Provider(options.provider, texts))


@pytest.mark.parametrize("text", ["1", "true", "True"])
def test_yes_has_several_forms_and_becomes_what_the_provider_reads(text: str) -> None:
    assert make_provider("cuda", {"prefer_nhwc": text}).options == {"prefer_nhwc": "1"}
    assert make_provider("tensorrt", {"trt_fp16_enable": text}).options == {"trt_fp16_enable": "True"}


@pytest.mark.parametrize(
    ("provider", "key", "value", "message"),
    [
        ("cuda", "use_tf3", "0", "did you mean 'use_tf32'?"),
        ("tensorrt", "fp16_enable", "1", "did you mean 'trt_fp16_enable'?"),
        ("cuda", "qqq", "1", "it has: device_id, gpu_mem_limit"),
        ("cpu", "use_arena", "1", "has no options"),
        ("cuda", "use_tf32", "yes", "use_tf32=yes: it takes 0 or 1"),
        ("cuda", "gpu_mem_limit", "2GB", "gpu_mem_limit=2GB: it takes a whole number"),
        ("cuda", "device_id", "", "device_id=: it takes a whole number"),
        ("cuda", "device_id", "--1", "it takes a whole number"),
        ("cuda", "cudnn_conv_algo_search", "FAST", "it takes EXHAUSTIVE or HEURISTIC or DEFAULT"),
    ],
)
def test_a_wrong_option_is_one_line_with_what_is_right(
    provider: str, key: str, value: str, message: str
) -> None:
    with pytest.raises(OptionError) as error:
        make_provider(provider, {key: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong", [{"device_id": "0"}, {"use_tf32": 1}, {"device_id": True}, {"arena_extend_strategy": "double"}]
)
def test_a_dataclass_checks_its_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=rf"{next(iter(wrong))}=.*it takes"):
        CudaOptions(**wrong)


@pytest.mark.parametrize("options", [CudaOptions, TensorrtOptions])
def test_every_option_is_explained(options: type[ProviderOptions]) -> None:
    documented = [line.split(":")[0].strip() for line in (options.__doc__ or "").splitlines() if ": " in line]
    assert {field.name for field in fields(options)} <= set(documented)


def test_other_providers_take_options_as_they_are() -> None:
    options = {"device_type": "GPU"}
    assert make_provider("OpenVINOExecutionProvider", options).options == options


def test_a_backend_from_anything() -> None:
    assert as_backend("cpu") == CPU
    assert as_backend(CpuOptions()) == CPU
    provider = Provider(CUDA, {"user_compute_stream": "1"})
    assert as_backend(provider, threads=3, allow_fallback=True) == Backend(provider, 3, True)
    with pytest.raises(OptionError, match="not both"):
        as_backend(provider, {"device_id": "0"})
    with pytest.raises(OptionError, match="threads -1"):
        as_backend("cpu", threads=-1)


def test_more_threads_than_a_machine_can_use_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert as_backend("cpu", threads=256).threads == 256
    with pytest.raises(OptionError) as error:
        as_backend("cpu", threads=100_000)
    assert str(error.value) == (
        "threads 100000: this machine has 2 processors; give at most 256, or 0 for onnxruntime's own choice"
    )
    monkeypatch.setattr("os.cpu_count", lambda: 512)
    assert as_backend("cpu", threads=2048).threads == 2048
    with pytest.raises(OptionError, match="at most 2048"):
        as_backend("cpu", threads=2049)


@pytest.mark.parametrize(
    ("provider", "options", "texts"),
    [
        ("cuda", {"device_id": 0, "use_tf32": False}, {"device_id": "0", "use_tf32": "0"}),
        ("tensorrt", {"trt_fp16_enable": True}, {"trt_fp16_enable": "True"}),
        ("OpenVINOExecutionProvider", {"num_of_threads": 2}, {"num_of_threads": "2"}),
    ],
)
def test_values_that_are_not_text_become_onnxruntimes(
    provider: str, options: dict[str, object], texts: dict[str, str]
) -> None:
    assert as_backend(provider, options).provider.options == texts


@pytest.mark.parametrize("wrong", [{"device_id": True}, {"device_id": 1.5}, {"use_tf32": None}])
def test_values_of_another_type_are_still_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="it takes"):
        as_backend("cuda", wrong)


def test_equivalence_means_full_float32_unless_said_otherwise() -> None:
    assert for_equivalence(make_provider("cuda", {"device_id": "1"})).options == {
        "use_tf32": "0",
        "device_id": "1",
    }
    assert for_equivalence(make_provider("cuda", {"use_tf32": "1"})).options == {"use_tf32": "1"}
    assert for_equivalence(CPU.provider) == CPU.provider


SPECS = [
    InputSpec("image", np.dtype("f4"), ("batch", 3, "size", "size"), {}),
    InputSpec("mask", np.dtype("i8"), ("batch", "past + 1"), {}),
    InputSpec("scale", np.dtype("f4"), (1,), {}),
]


def test_profiles_give_every_dynamic_input_three_shapes() -> None:
    sizes = [{"batch": batch, "size": 64 * batch, "past": 4} for batch in (1, 2, 8)]
    profiles = optimization_profiles(SPECS, *sizes)
    assert profiles == {
        "trt_profile_min_shapes": "image:1x3x64x64,mask:1x5",
        "trt_profile_opt_shapes": "image:2x3x128x128,mask:2x5",
        "trt_profile_max_shapes": "image:8x3x512x512,mask:8x5",
    }
    assert make_provider("tensorrt", profiles).options == profiles
    assert optimization_profiles(SPECS[2:], {}, {}, {}) == {}


def test_profiles_that_contradict_themselves_are_refused() -> None:
    small, large = ({"batch": 1, "size": size, "past": 0} for size in (1, 9))
    with pytest.raises(OptionError, match=r"'image': its shapes .* do not rise"):
        optimization_profiles(SPECS, large, small, large)
    with pytest.raises(OptionError, match="'image': dimension 'size' lacks a size"):
        optimization_profiles(SPECS, small, {"batch": 1}, large)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("openvino", "OpenVINOExecutionProvider"),
        ("OpenVino", "OpenVINOExecutionProvider"),
        ("openvinoexecutionprovider", "OpenVINOExecutionProvider"),
        ("dml", "DmlExecutionProvider"),
        ("cudaExecutionProvider", "CUDAExecutionProvider"),
        ("HomemadeExecutionProvider", "HomemadeExecutionProvider"),
    ],
)
def test_names_may_be_short_and_of_any_case(name: str, full: str) -> None:
    assert make_provider(name).name == full


@pytest.mark.parametrize(
    "wrong", [None, ["CPUExecutionProvider"], ("CUDAExecutionProvider", {"device_id": 0})]
)
def test_what_onnxruntime_would_take_for_a_provider_is_told_apart(wrong: Any) -> None:
    with pytest.raises(OptionError, match="give its name, and its options beside it"):
        as_backend(wrong)
