"""Time forms of the same computation on onnxruntime, where fewer nodes need not be faster.

    python -m tools.bench_forms            # print the tables
    python -m tools.bench_forms --write    # put them into docs/forms.md as well

Each form is a session of its own on the CPU provider: default optimization level, one thread, process time.
The forms run interleaved (A B B A), and a ratio is the median of the rounds with its quartiles.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from tools.bench_optimize import print_setup
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

PAGE = Path(__file__).resolve().parents[1] / "docs" / "forms.md"
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
"""


def ratio(old: onnxruntime.InferenceSession, new: onnxruntime.InferenceSession, x: np.ndarray) -> list[float]:
    """Return the ratios of the times of `new` to those of `old`, one a round, sorted; check the answers."""
    expected, found = (session.run(None, {"x": x})[0] for session in (old, new))
    np.testing.assert_allclose(found, expected, atol=1e-3)
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


def print_table(title: str, sessions: Callable[..., Sequence[onnxruntime.InferenceSession]]) -> None:
    """Print one row of ratios for each of `SHAPES`."""
    print(
        f"\n## {title}\n\n"
        "| batch | positions | heads × size | ratio | quartiles |\n|---:|---:|---:|---:|---:|"
    )
    for batch, positions, heads, size in SHAPES:
        x = np.random.default_rng(1).normal(size=(batch, positions, heads * size)).astype(np.float32)
        ratios = ratio(*sessions(positions, heads, size), x)
        low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
        middle = statistics.median(ratios)
        print(f"| {batch} | {positions} | {heads} × {size} | {middle:.2f} | {low:.2f} to {high:.2f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Time forms of the same computation on onnxruntime.")
    parser.add_argument(
        "--write", action="store_true", help=f"write {PAGE.relative_to(PAGE.parents[1])} as well"
    )
    write = parser.parse_args().write
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print(INTRODUCTION)
        print_setup()
        for title, old, new in (
            (
                "Q, K and V as one wide product and a Split, against three products",
                three_products,
                wide_and_split,
            ),
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
        ):
            print_table(title, lambda *heads, forms=(old, new): [attention(heads, form) for form in forms])
        for hidden in (-100, float(np.finfo(np.float32).min)):
            print_table(
                f"A floor under the scores that {hidden:.4g} hides, against none (floor_hidden_scores)",
                lambda *heads, hidden=hidden: [masked(heads, hidden, floor=floor) for floor in (False, True)],
            )
        print_table(
            "NaN replaced after the product with V, against before it (sink_nan_guard)",
            lambda *heads: [guarded(heads, late=late) for late in (False, True)],
        )
        print_table(
            "MultiHeadAttention, against its parts (fuse_multi_head_attention)",
            lambda *heads: [attention(heads, three_products), one_operator(heads)],
        )
        for name in ("Relu", "Gelu"):
            print_table(
                f"Gemm on one matrix, against MatMul and Add on a stack of matrices, before {name}",
                lambda positions, heads, size, gelu=name == "Gelu": [
                    two_layers(positions, heads * size, matrix=matrix, gelu=gelu) for matrix in (False, True)
                ],
            )
    print(text.getvalue(), end="")
    if write:
        PAGE.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
