"""Find the rewrite that made an artifact wrong, by making it again."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fuseonnx
from fuseonnx.attempt import Recipe, cook
from fuseonnx.core.journal import Application, Journal
from fuseonnx.core.rule import Stage, Step
from fuseonnx.io.load import read_weightless
from fuseonnx.passes import FORMS, STAGES, all_steps
from fuseonnx.runtime.verify import Verifier


@dataclass(frozen=True)
class Trace:
    """The rule that changed the answers and the value that it replaced, or in `reason` why none is known."""

    rule: str = ""
    at: str = ""
    reason: str = ""


def trace(source: Path, artifact: Path, verifier: Verifier, extra_rules: Sequence[Step] = ()) -> Trace:
    """Make `artifact` from `source` again by the rules that it names, and bisect over their applications.

    Raises:
        FuseOnnxError: the source cannot be rewritten.
    """
    said = {entry.key: entry.value for entry in read_weightless(artifact).metadata_props}
    if said.get("fuseonnx.source_sha256") != _sha256(source):
        return Trace(reason="fuseonnx did not make it from this original: only the tensor is known")
    if said.get("fuseonnx.version") != fuseonnx.__version__:
        return Trace(reason=f"fuseonnx {said.get('fuseonnx.version')} made it: bisect with that version")
    fired = set(json.loads(said.get("fuseonnx.rules", "{}")))
    if unknown := fired - {*all_steps(), *(rule.name for rule in extra_rules)}:
        return Trace(reason=f"{', '.join(sorted(unknown))}: not a rule known here; give it in extra_rules")
    with tempfile.TemporaryDirectory(prefix="fuseonnx-") as folder:
        recipe = _recipe(source, Path(folder) / "again.onnx", fired, extra_rules)
        guilty = _first_wrong(recipe, verifier)
    if guilty is None:
        return Trace(
            reason="its rules give the original's answers: it was made with other options, or changed"
        )
    return Trace(guilty.rule, guilty.at)


def _recipe(source: Path, destination: Path, fired: set[str], extra_rules: Sequence[Step]) -> Recipe:
    stages = [Stage("extra", tuple(extra_rules)), *STAGES]
    chosen = [
        Stage(stage.name, tuple(step for step in stage.steps if step.name in fired)) for stage in stages
    ]
    forms = {step.name: step for steps in FORMS.values() for step in steps if step.name in fired}
    return Recipe(
        source,
        destination,
        tuple(stage for stage in chosen if stage.steps),
        fix_shapes={},
        external_data=False,
        forms=tuple(forms.values()),
    )


def _first_wrong(recipe: Recipe, verifier: Verifier) -> Application | None:
    """Return the first application after which the answers differ; None if they never do, or always."""

    def differs(limit: int | None) -> tuple[bool, list[Application]]:
        attempt = cook(recipe, Journal(limit))
        verification = verifier.compare(attempt.draft.path)
        attempt.draft.discard()
        return verification.status == "failed", attempt.journal.applied

    wrong, applied = differs(None)
    right_at, wrong_at = -1, len(applied)
    while wrong and wrong_at - right_at > 1:
        middle = (right_at + wrong_at) // 2
        if differs(middle)[0]:
            wrong_at = middle
        else:
            right_at = middle
    return applied[wrong_at - 1] if wrong and wrong_at else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
