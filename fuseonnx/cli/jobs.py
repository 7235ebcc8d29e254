"""Which files a command line means: inputs, folders of them, and where each result goes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseonnx.errors import OptionError

_SUFFIX = ".opt.onnx"


@dataclass(frozen=True)
class Job:
    """One model to optimize."""

    source: Path
    output: Path


def plan_jobs(inputs: Sequence[Path], output: str | None, *, in_place: bool) -> list[Job]:
    """Return what to optimize and where to write it.

    Args:
        inputs: models, and folders that are searched for `*.onnx`, their results left out.
        output: a file for one input file; a folder, or a path that ends in `/`, for anything. None puts each
            result beside its model.
        in_place: overwrite the models.

    Raises:
        OptionError: `output` does not go with the inputs or `in_place`, a folder holds no model, or two
            results would have the same name.
    """
    if in_place and output is not None:
        raise OptionError("-o and --in-place contradict each other; leave one of them out")
    sources = list(dict.fromkeys(found for path in inputs for found in _sources(path)))
    if in_place:
        return [Job(source, source) for source, _ in sources]
    jobs = [Job(source, _result_path(source, inside, inputs, output)) for source, inside in sources]
    _check_distinct(jobs)
    return jobs


def _result_path(source: Path, inside: Path, inputs: Sequence[Path], output: str | None) -> Path:
    from fuseonnx.frontends import default_output

    if output is None:
        return default_output(source, _SUFFIX)
    target = Path(output)
    if is_batch(inputs):
        if target.is_file() or target.suffix == ".onnx":
            raise OptionError(f"-o {output}: one file cannot take the results of several; name a folder")
    elif not target.is_dir() and not output.endswith(("/", os.sep)):
        return target
    return target / default_output(inside, _SUFFIX)


def is_batch(inputs: Sequence[Path]) -> bool:
    """Whether the inputs may be more than one model."""
    return len(inputs) != 1 or _holds_models(inputs[0])


def _holds_models(path: Path) -> bool:
    from fuseonnx.frontends.kinds import is_saved_model

    return path.is_dir() and not is_saved_model(path)


def _sources(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each model, and its path below the folder that was given."""
    if not _holds_models(path):
        yield path, Path(path.name)
        return
    inside = [found.relative_to(path) for found in path.rglob("*.onnx") if found.is_file()]
    models = [found for found in inside if not _is_result(found) and not _is_hidden(found)]
    if not models:
        raise OptionError(f"{path}: the folder holds no .onnx model")
    for found in sorted(models):
        yield path / found, found


def _is_result(path: Path) -> bool:
    return path.name.endswith(_SUFFIX)


def _is_hidden(path: Path) -> bool:
    """Whether it lies in a hidden folder, as unfinished results do."""
    return any(part.startswith(".") for part in path.parts)


def _check_distinct(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.output, job.source)
        if other != job.source:
            raise OptionError(f"{other} and {job.source} would both become {job.output}; run them apart")
