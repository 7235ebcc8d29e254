from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fuseonnx.cli.options import AllowFallbackOption, ProviderOption, ProviderOptionOption, ThreadsOption
from fuseonnx.cli.providers import backend_of
from fuseonnx.errors import OptionError
from fuseonnx.runtime.providers import CPU, Backend, Provider

CUDA = "CUDAExecutionProvider"


def test_nothing_asked_is_the_cpu() -> None:
    assert backend_of("cpu", [], 0, False) == CPU


def test_options_come_from_the_line_and_from_files(tmp_path: Path) -> None:
    path = tmp_path / "cuda.txt"
    path.write_text("# TF32 off\n\nuse_tf32 = 0\nprefer_nhwc=1\n")
    backend = backend_of("cuda", [f"@{path}", "device_id=1"], 2, True)
    expected = {"use_tf32": "0", "prefer_nhwc": "1", "device_id": "1"}
    assert backend == Backend(Provider(CUDA, expected), 2, True)


def test_a_value_may_hold_an_equals_sign() -> None:
    options = backend_of("OpenVINOExecutionProvider", ["config=a=b"], 0, False).provider.options
    assert options == {"config": "a=b"}


@pytest.mark.parametrize("text", ["device_id", "=1", "", "@"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--provider-option"):
        backend_of("cuda", [text], 0, False)


def test_an_option_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "options"
    path.write_text("device_id=0")
    with pytest.raises(OptionError, match="'device_id' is given twice"):
        backend_of("cuda", ["device_id=1", f"@{path}"], 0, False)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"gone: No such file"):
        backend_of("cuda", [f"@{tmp_path / 'gone'}"], 0, False)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="not UTF-8"):
        backend_of("cuda", [f"@{binary}"], 0, False)


def test_the_options_of_a_command_become_a_backend() -> None:
    found: list[Backend] = []
    app = typer.Typer()

    @app.command()
    def command(
        provider: ProviderOption = "cpu",
        provider_option: ProviderOptionOption = [],  # noqa: B006
        threads: ThreadsOption = 0,
        allow_fallback: AllowFallbackOption = False,
    ) -> None:
        found.append(backend_of(provider, provider_option, threads, allow_fallback))

    command_line = "--provider cuda --provider-option use_tf32=0 --provider-option device_id=1"
    for arguments in ([], [*command_line.split(), "--threads", "3", "--allow-fallback"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert found == [CPU, Backend(Provider(CUDA, {"use_tf32": "0", "device_id": "1"}), 3, True)]
    assert CliRunner().invoke(app, ["--threads", "-1"]).exit_code == 2
