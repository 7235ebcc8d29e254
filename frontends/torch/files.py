"""PyTorch models on disk; what a file holds is told without running any code that lies in it."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseonnx.errors import ExportError
from fuseonnx.frontends._quiet import quiet
from fuseonnx.frontends.conversion import require
from fuseonnx.frontends.options import ExportOptions

if TYPE_CHECKING:
    import torch

_ONLY_WEIGHTS = (
    "holds weights without a model; write a function that builds the model and loads them, "
    "and export package.module:factory"
)
_NEEDS_TRUST = "is a pickle, which runs code of its own when it is loaded{}; if you trust it, add --trust"
_OPAQUE = "/data/constants/opaque"  # pickled Python objects in a .pt2 archive


def load_torch(path: Path, options: ExportOptions) -> Any:
    """Load an exported program (`.pt2`), a TorchScript file or, with `options.trust`, a pickled module.

    Returns:
        `torch.export.ExportedProgram`, `torch.jit.ScriptModule` or `torch.nn.Module`, on the CPU.

    Raises:
        ExportError: it holds only weights, would run code of its own, is damaged, or is no PyTorch file.
    """
    if path.suffix.lower() == ".safetensors":
        raise ExportError(_ONLY_WEIGHTS)
    require("torch", "torch")
    with quiet():
        if not zipfile.is_zipfile(path):
            return _load_legacy(path, options.trust)
        with _readable(), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("archive_format") or "/models/" in name for name in names) or (
            "serialized_exported_program.json" in names
        ):
            return _load_program(path, names, options.trust)
        if any("/code/" in name for name in names):
            return _load_script(path)
        if any(name.endswith("data.pkl") for name in names):
            return _load_pickled(path, options.trust)
    raise ExportError("is a zip file, but none that PyTorch writes; export the model again")


def _load_program(path: Path, names: list[str], trust: bool) -> torch.export.ExportedProgram:
    import torch

    if not any("/models/" in name or name == "serialized_exported_program.json" for name in names):
        raise ExportError("is a compiled package; export the ExportedProgram that it was compiled from")
    with _readable(), zipfile.ZipFile(path) as archive:
        safe = all(_is_safe_member(archive, name) for name in names)
    if not safe and not trust:
        raise ExportError(_NEEDS_TRUST.format(""))
    with _readable():
        return torch.export.load(path)


def _is_safe_member(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether torch.export.load would read a part of the archive without unpickling classes of its own."""
    if _OPAQUE in name:
        return False
    if not name.endswith(".pt"):
        return True
    content = archive.read(name)
    if not content:
        return True
    return zipfile.is_zipfile(io.BytesIO(content)) and not _unsafe_globals(io.BytesIO(content))


def _unsafe_globals(file: Path | io.BytesIO) -> list[str]:
    """Return the classes and functions that a file of torch.save names, besides those of plain tensors."""
    import torch

    return torch.serialization.get_unsafe_globals_in_checkpoint(file)


def _load_script(path: Path) -> torch.jit.ScriptModule:
    import torch

    with _readable():
        return torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call, no-any-return]


def _load_pickled(path: Path, trust: bool) -> torch.nn.Module:
    with _readable():
        classes = _unsafe_globals(path)
    if not classes:
        raise ExportError(_ONLY_WEIGHTS)
    if not trust:
        raise ExportError(_NEEDS_TRUST.format(f" (it needs {_named(classes)})"))
    return _unpickled(path)


def _load_legacy(path: Path, trust: bool) -> torch.nn.Module:
    """Load a file of torch.save from before PyTorch 1.6, which is no zip file."""
    import torch

    with path.open("rb") as file:
        if file.read(1) != b"\x80":
            raise ExportError("is no PyTorch file, or a damaged one; export or download the model again")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise ExportError(_damaged(error)) from error
    except Exception as error:
        raise ExportError(_damaged(error)) from error
    else:
        raise ExportError(_ONLY_WEIGHTS)
    if not trust:
        raise ExportError(_NEEDS_TRUST.format(""))
    return _unpickled(path)


def _unpickled(path: Path) -> torch.nn.Module:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ModuleNotFoundError) as error:
        raise ExportError(
            f"needs the Python code of its classes: {error}; run it where they can be imported"
        ) from error
    except Exception as error:
        raise ExportError(_damaged(error)) from error
    if isinstance(loaded, Mapping):  # a checkpoint may hold the module beside the optimizer's state
        modules = [value for value in loaded.values() if isinstance(value, torch.nn.Module)]
        loaded = modules[0] if len(modules) == 1 else loaded
    if not isinstance(loaded, torch.nn.Module):
        raise ExportError(_ONLY_WEIGHTS)
    return loaded


def _named(classes: list[str]) -> str:
    own = [name for name in classes if not name.startswith(("torch.", "collections.", "builtins."))]
    return ", ".join(sorted(own or classes)[:3])


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ExportError(_damaged(error)) from error


def _damaged(error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"is damaged, or of another version of PyTorch ({reason[:200]}); export or download it again"
