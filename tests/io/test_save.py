"""save: a draft becomes the artifact whole or not at all, and the same bytes each time."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from fuseonnx.errors import ModelSaveError
from fuseonnx.io import save
from fuseonnx.io.load import Loaded, load
from fuseonnx.io.save import write_draft
from fuseonnx.io.validate import tensors
from tests.helpers import run_reference
from tests.io.models import add_model, every_place, every_place_feeds, weight

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    path = tmp_path / "source.onnx"
    path.write_bytes(every_place().SerializeToString())
    return load(path)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_draft_then_publish(loaded: Loaded, tmp_path: Path) -> None:
    target = tmp_path / "target.onnx"
    target.write_bytes(b"the old file")
    draft = write_draft(loaded.model, loaded.signature, target)
    assert draft.path.name == "target.onnx"
    assert draft.path.parent.parent == tmp_path
    assert target.read_bytes() == b"the old file"
    content = draft.path.read_bytes()
    draft.publish()
    assert target.read_bytes() == content
    assert _names(tmp_path) == ["source.onnx", "target.onnx"]


def test_discard_leaves_nothing(loaded: Loaded, tmp_path: Path) -> None:
    write_draft(loaded.model, loaded.signature, tmp_path / "target.onnx", external_data=True).discard()
    assert _names(tmp_path) == ["source.onnx"]


def test_writing_leaves_the_model_as_it_was(loaded: Loaded, tmp_path: Path) -> None:
    first = write_draft(loaded.model, loaded.signature, tmp_path / "a.onnx")
    second = write_draft(loaded.model, loaded.signature, tmp_path / "b.onnx")
    assert first.path.read_bytes() == second.path.read_bytes()


@pytest.mark.parametrize(
    ("limit", "beside"), [(30_000, {"raw", "floats"}), (20_000, {"raw", "floats", "then_w", "else_w"})]
)
def test_weights_of_bodies_lie_beside_the_model_only_if_it_is_too_large_with_them(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, beside: set[str]
) -> None:
    """There are six tensors of 6400 bytes, two of which are no initializers."""
    monkeypatch.setattr(save, "_PROTOBUF_LIMIT", limit)
    write_draft(loaded.model, loaded.signature, tmp_path / "target.onnx", external_data=True).publish()
    assert (tmp_path / "target.onnx").stat().st_size <= limit
    written = onnx.load(tmp_path / "target.onnx", load_external_data=False)
    assert {tensor.name for tensor in tensors(written) if tensor.external_data} == beside
    for flag in (False, True):
        feeds = every_place_feeds(flag)
        found = onnxruntime.InferenceSession(tmp_path / "target.onnx").run(["y"], feeds)[0]
        np.testing.assert_allclose(found, run_reference(every_place(), feeds)["y"], rtol=1e-6)


def test_no_data_file_without_data(tmp_path: Path) -> None:
    (tmp_path / "source.onnx").write_bytes(add_model(weight("w", 2), [2]).SerializeToString())
    loaded = load(tmp_path / "source.onnx")
    write_draft(loaded.model, loaded.signature, tmp_path / "target.onnx", external_data=True).publish()
    assert _names(tmp_path) == ["source.onnx", "target.onnx"]


@pytest.mark.parametrize("name", ["target.onnx", "tar[1]get*.onnx"])
def test_stale_drafts_are_removed_and_live_ones_kept(loaded: Loaded, tmp_path: Path, name: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead, live = (tmp_path / f".{name}.fuseonnx-{pid}" for pid in (child.pid, os.getppid()))
    own = tmp_path / f".{name}.fuseonnx-{os.getpid()}"
    other = tmp_path / f".other.onnx.fuseonnx-{child.pid}"
    for folder in (dead, live, own, other):
        folder.mkdir()
        (folder / "rest").write_bytes(b"")
    write_draft(loaded.model, loaded.signature, tmp_path / name).publish()
    assert _names(tmp_path) == sorted([live.name, other.name, name, "source.onnx"])


@pytest.mark.parametrize("external_data", [False, True])
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_full_disk_leaves_nothing(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, external_data: bool
) -> None:
    whole = save._write_payload
    count = 0

    def write_payload(tensor: Any, file: Any) -> None:
        nonlocal count
        if count == writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count += 1
        whole(tensor, file)

    monkeypatch.setattr(save, "_write_payload", write_payload)
    target = tmp_path / "target.onnx"
    target.write_bytes(b"the old file")
    with pytest.raises(ModelSaveError, match=r"target\.onnx: cannot be written .*free some space"):
        write_draft(loaded.model, loaded.signature, target, external_data=external_data)
    assert target.read_bytes() == b"the old file"
    assert _names(tmp_path) == ["source.onnx", "target.onnx"]


def test_an_interrupt_leaves_nothing(loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_tensor: Any, _file: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(save, "_write_payload", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_draft(loaded.model, loaded.signature, tmp_path / "target.onnx")
    assert _names(tmp_path) == ["source.onnx"]


def test_failing_to_publish_leaves_nothing(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = write_draft(loaded.model, loaded.signature, tmp_path / "target.onnx")

    def replace(_source: Any, _target: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ModelSaveError, match="choose another place with -o"):
        draft.publish()
    assert _names(tmp_path) == ["source.onnx"]


@pytest.mark.parametrize("external_data", [False, True])
def test_destinations_that_cannot_be(loaded: Loaded, tmp_path: Path, external_data: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for target, words in (
        (tmp_path / "missing" / "m.onnx", "the folder does not exist"),
        (tmp_path / "folder", "is a folder"),
        (tmp_path / "file" / "m.onnx", "cannot be written"),
        (tmp_path / ("n" * 300), "cannot be written"),
    ):
        with pytest.raises(ModelSaveError, match=words) as caught:
            write_draft(loaded.model, loaded.signature, target, external_data=external_data)
        assert str(caught.value).startswith(f"{target}: ")
    assert _names(tmp_path) == ["file", "folder", "source.onnx"]


def test_a_linked_destination_is_replaced_and_its_target_kept(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"precious")
    (tmp_path / "target.onnx").symlink_to(tmp_path / "blob")
    write_draft(loaded.model, loaded.signature, tmp_path / "target.onnx").publish()
    assert (tmp_path / "blob").read_bytes() == b"precious"
    assert not (tmp_path / "target.onnx").is_symlink()


_OPTIMIZE = """
import sys, hashlib, pathlib, fuseonnx
fuseonnx.optimize(sys.argv[1], sys.argv[2], verify=False)
print(hashlib.sha256(pathlib.Path(sys.argv[2]).read_bytes()).hexdigest())
"""


def test_same_bytes_whatever_the_hash_seed(real_models: dict[str, Path], tmp_path: Path) -> None:
    path = min(real_models.values(), key=lambda each: each.stat().st_size)
    digests = set()
    for seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        output = tmp_path / seed / "model.onnx"
        output.parent.mkdir()
        command = [sys.executable, "-c", _OPTIMIZE, str(path), str(output)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert digests != {hashlib.sha256(path.read_bytes()).hexdigest()}


_PEAK = """
import resource, sys
from pathlib import Path
from fuseonnx.io.load import load
from fuseonnx.io.save import write_draft

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

def copy(source, target):
    loaded = load(Path(source))
    write_draft(loaded.model, loaded.signature, Path(target), external_data="external" in target).publish()

copy(sys.argv[1], sys.argv[1] + ".warm")
before = peak()
for target in sys.argv[3:]:
    copy(sys.argv[2], target)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
def test_memory_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    small, large = tmp_path / "small.onnx", tmp_path / "large.onnx"
    small.write_bytes(add_model(weight("w", 40, 40), ["n", 40]).SerializeToString())
    large.write_bytes(add_model(weight("w", 50_000, 1000), ["n", 1000]).SerializeToString())
    targets = [str(tmp_path / "inline.onnx"), str(tmp_path / "external.onnx")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _PEAK, str(small), str(large), *targets]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert Path(targets[0]).stat().st_size > 200e6
    assert Path(f"{targets[1]}.data").stat().st_size == 200e6
    assert int(done.stdout) < 20e6
