"""Build fuseonnx/placement/kernels.json from a dump of onnxruntime's kernels.

    python tools/build_kernel_table.py KERNELS.json [-o fuseonnx/placement/kernels.json]

The dump holds, per execution provider and `domain::operator`, rows `[first opset, last opset, {parameter:
types}]` as onnxruntime's `get_all_opkernel_def()` gives them. The table says the same in less space: rows
that differ in one parameter, or in versions that follow each other, are merged; sets of types are shared.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fuseonnx.placement.kernels import Kernel

PROVIDERS = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}
TABLE = Path(__file__).parents[1] / "fuseonnx" / "placement" / "kernels.json"


def main() -> None:
    """Read the dump named on the command line, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dump", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=TABLE)
    options = parser.parse_args()
    options.output.write_text(table(json.loads(options.dump.read_text())))


def table(dump: dict[str, Any]) -> str:
    """Return the table as JSON, the same text for the same dump."""
    merged = {
        PROVIDERS[provider]: {
            key.removeprefix("ai.onnx::"): _merged([Kernel.defined(*row) for row in rows])
            for key, rows in sorted(operators.items())
        }
        for provider, operators in sorted(dump["kernels"].items())
        if provider in PROVIDERS
    }
    kernels = [kernel for operators in merged.values() for each in operators.values() for kernel in each]
    sets = sorted({tuple(sorted(types)) for kernel in kernels for types in kernel.types.values()})
    numbers = {frozenset(types): number for number, types in enumerate(sets)}
    fields = [f'"source": {json.dumps(dump["source"])}', '"types": ' + _lines("[]", map(json.dumps, sets))]
    for provider, operators in merged.items():
        lines = (f"{json.dumps(key)}: {_written(each, numbers)}" for key, each in operators.items())
        fields.append(f"{json.dumps(provider)}: " + _lines("{}", lines))
    return _lines("{}", fields) + "\n"


def _merged(kernels: list[Kernel]) -> list[Kernel]:
    """Return fewer kernels that admit the same nodes."""
    pending, done = kernels[::-1], list[Kernel]()
    while pending:
        kernel = pending.pop()
        for index, other in enumerate(done):
            both = _union(other, kernel)
            if both is not None:
                del done[index]
                pending.append(both)
                break
        else:
            done.append(kernel)
    return sorted(done, key=lambda kernel: (kernel.first, kernel.last, str(_sorted(kernel.types))))


def _union(one: Kernel, other: Kernel) -> Kernel | None:
    """Return the kernel that admits what either does, None if it would admit more."""
    early, late = sorted((one, other), key=lambda kernel: kernel[:2])
    if early.types == late.types and late.first <= early.last + 1:
        return early._replace(last=max(early.last, late.last))
    if early[:2] != late[:2] or early.types.keys() != late.types.keys():
        return None
    different = [name for name in early.types if early.types[name] != late.types[name]]
    if len(different) != 1:
        return None
    (name,) = different
    return early._replace(types={**early.types, name: early.types[name] | late.types[name]})


def _sorted(types: Mapping[str, frozenset[str]]) -> dict[str, list[str]]:
    return {name: sorted(each) for name, each in sorted(types.items())}


def _written(kernels: list[Kernel], numbers: dict[frozenset[str], int]) -> str:
    rows = [
        (first, last, {name: numbers[types[name]] for name in sorted(types)})
        for first, last, types in kernels
    ]
    return json.dumps(rows, separators=(",", ":"))


def _lines(brackets: str, items: Iterable[str]) -> str:
    return f"{brackets[0]}\n" + ",\n".join(items) + f"\n{brackets[1]}"


if __name__ == "__main__":
    main()
