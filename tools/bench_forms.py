"""Time forms of the same computation on onnxruntime, where fewer nodes need not be faster.

    python -m tools.bench_forms            # print the tables
    python -m tools.bench_forms --write    # put them into docs/forms.md as well

Each form is a session of its own on the CPU provider: default optimization level, one thread, process time.
The forms run interleaved (A B B A), and a ratio is the median of the rounds with its quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime

from tools.bench_optimize import setup
from tools.form_images import (
    add_by_channel,
    enlarged,
    gate_in_weights,
    gate_spread,
    gated_sum,
    inverted_bottleneck,
    layers_of_pixels,
    mish,
    normalized_groups,
    pooled_input,
    squeezed_by_gemm,
    squeezed_by_pool,
    times_number,
)
from tools.form_nets import (
    attention,
    guarded,
    keys_times_queries,
    masked,
    one_operator,
    three_products,
    two_layers,
    wide_and_gathers,
    wide_and_split,
)
from tools.pages import DOCS, publish

SECONDS_PER_TURN = 0.02
ROUNDS = 15
SHAPES = (
    (1, 16, 12, 64),
    (1, 128, 12, 64),
    (1, 197, 6, 64),
    (1, 512, 8, 64),
    (64, 49, 3, 32),
    (1, 1500, 2, 64),
)
"""Batch, positions, heads, numbers a head: BERT, ViT, GPT-2, Swin's windows, Whisper."""

INTRODUCTION = """# Forms that were measured

`python -m tools.bench_forms --write` makes this page. A ratio is the time of the first form named in a title
against that of the second; below 1 it is faster. One thread, process time, median of the rounds.

The wide product has fewer nodes and is not faster, so no rule makes it, though BERT and Whisper would lose
four nodes a layer. Gemm on one matrix is what `merge_leading_axes` makes.

Where a mask hides scores, half of them here, Softmax computes with denormal numbers, and so does the product
after it where they are hidden by about -100, as in Swin: that is why three more operators are faster.

Images come one by one. onnxruntime's convolutions compute on blocks of channels; what does not fit is
reordered before and after, and that costs more than a few channels of zeros. Where operands of different
shapes meet, its CPU kernels go by runs of elements that meet alike: the shorter the runs, the slower.
"""
LOST = """## Forms that lost

Fewer or faster operators were expected to pay here, and no rule makes them. Gemm takes as long as Conv on one
pixel; a gate that Resize spreads stays in blocks of channels, which wins or loses a few percent by its size;
a gate in the weights spares a product of the image, but makes a product of matrices of the Conv;
ConvTranspose beats its parts; GlobalAveragePool is fast on blocks of channels alone."""

Pair = Sequence[onnxruntime.InferenceSession]
"""The second form that a title names, then the first."""
Row = tuple[Sequence[object], Sequence[int], Pair]
"""The cells that tell the setup, the dims of x, and the forms."""


class Images(NamedTuple):
    """A table of forms that compute on images."""

    title: str
    columns: Sequence[str]
    setups: Sequence[tuple[object, ...]]
    """The arguments of `form` in each row."""
    form: Callable[..., onnxruntime.InferenceSession]
    """Opens one of the forms, with `new=True` the first one that the title names."""


SCORES = (
    ("Q, K and V as one wide product and a Split, against three products", three_products, wide_and_split),
    (
        "Q, K and V as three products, against Gathers of one wide product (fold_gather_into_matmul)",
        wide_and_gathers,
        three_products,
    ),
    (
        "Queries times keys, against the transpose of keys times queries (swap_transposed_product)",
        keys_times_queries,
        three_products,
    ),
)
"""A title, the second form that it names, and the first."""

CHANNELS = ("channels", "rows and columns")
GATED = ((96, 56), (240, 28), (672, 14))
IMAGES = (
    Images(
        "Channels padded to a multiple of four, against not (pad_channels)",
        CHANNELS,
        ((11, 56), (22, 28), (58, 28), (114, 14), (234, 7)),
        inverted_bottleneck,
    ),
    Images(
        "A number with the rank of what it meets, against a scalar (unsqueeze_scalar)",
        ("shape",),
        (((1, 28, 28, 1),), ((1, 224, 224, 1),), ((960, 1),)),
        times_number,
    ),
    Images(
        "Transpose before a constant of the last axis, against after it (sink_transposes)",
        CHANNELS,
        ((3, 224), (8, 64), (16, 64), (32, 64), (64, 32)),
        add_by_channel,
    ),
    Images(
        "One added to a gate, against the product added to x (factor_gated_sum)",
        CHANNELS,
        ((96, 160), (64, 56), (256, 14)),
        gated_sum,
    ),
    Images(
        "GlobalAveragePool between convolutions, against ReduceMean (fuse_global_average_pool)",
        CHANNELS,
        GATED,
        squeezed_by_pool,
    ),
    Images(
        "InstanceNormalization of groups, against GroupNormalization (spell_group_normalization)",
        ("channels", "groups", "rows and columns"),
        ((320, 32, 64), (64, 8, 32), (128, 32, 128)),
        normalized_groups,
    ),
    Images(
        "Mish as a quotient, against Softplus and Tanh (spell_mish)",
        CHANNELS,
        ((64, 104), (512, 13)),
        mish,
    ),
    Images(
        "Layers of pixels by Conv, against Gemm (compute_on_images)",
        CHANNELS,
        ((128, 14), (256, 7), (384, 4)),
        layers_of_pixels,
    ),
)
IMAGES_LOST = (
    Images(
        "Squeeze-and-excitation by Gemm, against 1×1 Convs",
        CHANNELS,
        GATED,
        squeezed_by_gemm,
    ),
    Images(
        "A gate that Resize spreads to the size of x, against one that broadcasts",
        CHANNELS,
        GATED,
        gate_spread,
    ),
    Images(
        "A gate that scales the weights of the next 1×1 Conv, against what it takes",
        CHANNELS,
        GATED,
        gate_in_weights,
    ),
    Images(
        "Conv 1×1 and DepthToSpace, against ConvTranspose with kernel 2 and stride 2",
        ("channels", "outputs", "rows and columns"),
        ((24, 24, 160), (64, 32, 64), (256, 128, 16)),
        enlarged,
    ),
    Images(
        "GlobalAveragePool of an image that is fed, against ReduceMean",
        CHANNELS,
        ((64, 56), (1280, 7), (32, 112)),
        pooled_input,
    ),
)


def ratio(old: onnxruntime.InferenceSession, new: onnxruntime.InferenceSession, x: np.ndarray) -> list[float]:
    """Return the ratios of the times of `new` to those of `old`, one a round, sorted; check the answers."""
    expected, found = (session.run(None, {"x": x})[0] for session in (old, new))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    runs = max(1, int(SECONDS_PER_TURN / _seconds(old, x, 3)))
    ratios = []
    for _ in range(ROUNDS):
        first, second, third, fourth = (_seconds(session, x, runs) for session in (old, new, new, old))
        ratios.append((second + third) / (first + fourth))
    return sorted(ratios)


def _seconds(session: onnxruntime.InferenceSession, x: np.ndarray, runs: int) -> float:
    start = time.process_time()
    for _ in range(runs):
        session.run(None, {"x": x})
    return (time.process_time() - start) / runs


def table(title: str, columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield a heading and one row of ratios for each setup."""
    yield f"\n### {title}\n"
    yield f"| {' | '.join(columns)} | ratio | quartiles |"
    yield f"|{'---:|' * (len(columns) + 2)}"
    for cells, dims, (old, new) in rows:
        x = np.random.default_rng(1).normal(size=dims).astype(np.float32)
        ratios = ratio(old, new, x)
        low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
        yield f"| {' | '.join(map(str, cells))} | {statistics.median(ratios):.2f} | {low:.2f} to {high:.2f} |"


def of_shapes(title: str, forms: Callable[[int, int, int], Pair]) -> Iterator[str]:
    """Yield a table with one row for each of `SHAPES`."""

    def rows() -> Iterator[Row]:
        for batch, positions, heads, size in SHAPES:
            cells, dims = (batch, positions, f"{heads} × {size}"), (batch, positions, heads * size)
            yield cells, dims, forms(positions, heads, size)

    return table(title, ("batch", "positions", "heads × size"), rows())


def of_images(images: Images) -> Iterator[str]:
    """Yield a table of forms that compute on images."""

    def rows() -> Iterator[Row]:
        for arguments in images.setups:
            old, new = (images.form(*arguments, new=new) for new in (False, True))
            yield arguments, old.get_inputs()[0].shape, (old, new)

    return table(images.title, images.columns, rows())


def attentions() -> Iterator[str]:
    """Yield the tables of attention and of what follows it."""
    for title, old, new in SCORES:
        yield from of_shapes(
            title, lambda *heads, forms=(old, new): [attention(heads, form) for form in forms]
        )
    for hidden in (-100, float(np.finfo(np.float32).min)):
        yield from of_shapes(
            f"A floor under the scores that {hidden:.4g} hides, against none (floor_hidden_scores)",
            lambda *heads, hidden=hidden: [masked(heads, hidden, floor=floor) for floor in (False, True)],
        )
    yield from of_shapes(
        "NaN replaced after the product with V, against before it (sink_nan_guard)",
        lambda *heads: [guarded(heads, late=late) for late in (False, True)],
    )
    yield from of_shapes(
        "MultiHeadAttention, against its parts (fuse_multi_head_attention)",
        lambda *heads: [attention(heads, three_products), one_operator(heads)],
    )
    for name in ("Relu", "Gelu"):
        yield from of_shapes(
            f"Gemm on one matrix, against MatMul and Add on a stack of matrices, before {name}",
            lambda positions, heads, size, gelu=name == "Gelu": [
                two_layers(positions, heads * size, matrix=matrix, gelu=gelu) for matrix in (False, True)
            ],
        )


def page() -> Iterator[str]:
    """Time all forms, and yield the lines of the page."""
    yield INTRODUCTION
    yield setup()
    yield "## Attention"
    yield from attentions()
    yield "\n## Images"
    for images in IMAGES:
        yield from of_images(images)
    yield f"\n{LOST}"
    for images in IMAGES_LOST:
        yield from of_images(images)


def main() -> None:
    """Print the tables, and write the page if that is asked for."""
    parser = argparse.ArgumentParser(description="Time forms of the same computation on onnxruntime.")
    parser.add_argument("--write", action="store_true", help="write docs/forms.md as well")
    publish(page(), DOCS / "forms.md", write=parser.parse_args().write)


if __name__ == "__main__":
    main()
