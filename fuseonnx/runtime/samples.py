"""Read the user's own inputs: one `.npz` file is one run, its keys are input names."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fuseonnx.errors import OptionError
from fuseonnx.runtime.session import Feeds
from fuseonnx.runtime.sizes import InputSpec

MOST_SAMPLES = 32
"""Only the first samples of a folder are run, in the order of their names."""


def load_samples(path: Path, specs: list[InputSpec]) -> list[tuple[str, Feeds]]:
    """Return (file name, feeds) of one `.npz` file, or of the first 32 in a folder.

    Arrays are fed as they are, cast to the input's dtype where numpy calls that safe or of the same kind.
    Raises OptionError when there is no sample, or one that does not hold exactly the model's inputs.
    """
    files = sorted(path.glob("*.npz"))[:MOST_SAMPLES] if path.is_dir() else [path]
    if not files:
        raise OptionError(f"{path}: the folder has no .npz file")
    return [(file.name, _load(file, {spec.name: spec.dtype for spec in specs})) for file in files]


def _load(file: Path, dtypes: dict[str, np.dtype[Any]]) -> Feeds:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, BadZipFile, TypeError) as error:
        raise OptionError(f"{file}: not a readable .npz file: {str(error).splitlines()[0]}") from None
    if arrays.keys() != dtypes.keys():
        raise OptionError(f"{file}: holds {sorted(arrays)}, the model's inputs are {sorted(dtypes)}")
    for name, array in arrays.items():
        if not np.can_cast(array.dtype, dtypes[name], "same_kind"):
            raise OptionError(f"{file}: {name!r} is {array.dtype}, the model takes {dtypes[name]}")
    return {name: array.astype(dtypes[name]) for name, array in arrays.items()}
