"""The models of tools/bench_latency.py: names to files and inputs, exported once and kept.

    python -m tools.bench_latency_models keras.VGG16    # export one

`densenet121` is a model of tools/architectures.py, `silero_vad` one of tools/fetch_models.py, and
`keras.VGG16` and `torch.bert` are those of tools/zoo.py, kept in `.cache/latency/` with an input beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools import architectures
from tools.fetch_models import fetch
from tools.model_cache import cached
from tools.zoo import names_of

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "latency"
SILERO = {"input": (1, 512), "state": (2, 1, 128)}
SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "ch_PP-OCRv4_rec_infer": {"x": (1, 3, 48, 320)},
    "ch_PP-OCRv4_det_infer": {"x": (1, 3, 640, 640)},
    "ch_ppocr_mobile_v2.0_cls_infer": {"x": (1, 3, 48, 192)},
    "silero_vad": SILERO,
    "silero_vad_16k_op15": SILERO,
    "silero_vad_16k_sequence": {"input": (32, 576)},
    "silero_vad_half": SILERO,
    "silero_vad_op18_ifless": SILERO,
    "bert_6": {"input_ids": (1, 128), "attention_mask": (1, 128)},
    "gpt2_6": {"input_ids": (1, 128)},
    "llama_6": {"input_ids": (1, 128)},
}
"""Where they are not those that verification tries first: batch 1 of the size that is in the graph."""


FED_CONSTANTS = "efficientnet_b0"
"""The architecture whose export takes the constants of its Normalization as inputs; the zoo's holds them."""


def every_model() -> list[str]:
    """Return the names of all models, one export of each Keras constructor."""
    return [*fetch(), *(name for name in architectures.MAKERS if name != FED_CONSTANTS), *_zoo()]


def _zoo() -> Iterator[str]:
    once = {constructor for name, constructor in architectures.KERAS.items() if name != FED_CONSTANTS}
    for framework in ("keras", "torch"):
        for name in names_of(framework):
            if framework == "torch" or name not in once:
                yield f"{framework}.{name}"


def model_path(name: str) -> Path:
    """Return the path of a model, making it when it is not cached."""
    framework, _, model = name.partition(".")
    if framework in {"keras", "torch"} and model:
        return cached(name, {name: lambda path: _export(framework, model, path, _inputs_path(name))}, CACHE)
    if name in architectures.MAKERS:
        return architectures.model_path(name)
    return fetch()[name]


def inputs_of(name: str, model: Path) -> dict[str, Any]:
    """Return one input for a model: signed normals, integers in the range of their use, or the zoo's own."""
    import numpy as np

    from fuseonnx.io.load import read_weightless
    from fuseonnx.runtime.inputs import make_inputs
    from fuseonnx.runtime.session import open_session

    if _inputs_path(name).exists():
        with np.load(_inputs_path(name)) as archive:
            return dict(archive)
    session = open_session(model)

    def accepts(feeds: Mapping[str, Any]) -> bool:
        try:
            session.run(None, dict(feeds))
        except Exception:  # onnxruntime's own classes share no base but Exception
            return False
        return True

    _, feeds = next(make_inputs(read_weightless(model), shapes=SHAPES.get(name), accepts=accepts))
    return dict(feeds)


def _inputs_path(name: str) -> Path:
    return CACHE / f"{name}.npz"


def _export(framework: str, name: str, path: Path, inputs: Path) -> None:
    """Export a model of the zoo, and keep the first of its inputs, of batch 1."""
    import numpy as np

    import fuseonnx

    if framework == "keras":
        from tools.zoo_keras import subject
    else:
        from tools.zoo_torch_subject import subject
    found = subject(name, 1, 2)
    fuseonnx.export(found.model, path, verify=False, **found.options)
    np.savez(inputs, **found.batches[0])


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(model_path(each))
