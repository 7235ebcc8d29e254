"""Build fuseonnx/placement/kernels.json from a dump of onnxruntime's kernels.

    python tools/build_kernel_table.py KERNELS.json [-o fuseonnx/placement/kernels.json]

The dump holds, per execution provider and `domain::operator`, rows `[first opset, last opset, {parameter:
types}]` as onnxruntime's `get_all_opkernel_def()` gives them. The table says the same in less space: rows
that differ in one parameter, or in versions that follow each other, are merged, and sets of types are shared.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from fuseonnx.analysis.stats import dtype_name

Types = frozenset[str]
Row = tuple[int, int, dict[str, Types]]

PROVIDERS = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}
TABLE = Path(__file__).parents[1] / "fuseonnx" / "placement" / "kernels.json"
_OPEN = 2**31 - 1


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
            key.removeprefix("ai.onnx::"): _merged([_row(*row) for row in rows])
            for key, rows in sorted(operators.items())
        }
        for provider, operators in sorted(dump["kernels"].items())
        if provider in PROVIDERS
    }
    all_rows = [row for operators in merged.values() for rows in operators.values() for row in rows]
    sets = sorted({tuple(sorted(types)) for _, _, parameters in all_rows for types in parameters.values()})
    numbers = {frozenset(types): number for number, types in enumerate(sets)}
    fields = [f'"source": {json.dumps(dump["source"])}', '"types": ' + _lines("[]", map(json.dumps, sets))]
    for provider, operators in merged.items():
        lines = (f"{json.dumps(key)}: {_written(rows, numbers)}" for key, rows in operators.items())
        fields.append(f"{json.dumps(provider)}: " + _lines("{}", lines))
    return _lines("{}", fields) + "\n"


def _row(first: int, last: int, parameters: dict[str, list[str]]) -> Row:
    """Return a row; a kernel without a last opset is for the first one alone, not for what comes after it."""
    types = {name: frozenset(map(_type, each)) for name, each in parameters.items()}
    return first, first if last == _OPEN else last, types


def _type(text: str) -> str:
    """Return a type as fuseonnx writes it: `float32`, `sequence(float32)`."""
    text = text.replace("seq(", "sequence(").replace("sparse_tensor(", "sparse(")
    return re.sub(r"\btensor\((\w+)\)", lambda match: dtype_name(ir.DataType[match[1].upper()]), text)


def _merged(rows: list[Row]) -> list[Row]:
    """Return fewer rows that admit the same nodes."""
    pending, done = rows[::-1], list[Row]()
    while pending:
        row = pending.pop()
        for index, other in enumerate(done):
            both = _union(other, row)
            if both is not None:
                del done[index]
                pending.append(both)
                break
        else:
            done.append(row)
    return sorted(done, key=lambda row: (row[0], row[1], str(_sorted(row[2]))))


def _union(one: Row, other: Row) -> Row | None:
    """Return the row that admits what either does, None if it would admit more."""
    (first, last, parameters), (next_first, next_last, types) = sorted((one, other), key=lambda row: row[:2])
    if parameters == types and next_first <= last + 1:
        return first, max(last, next_last), parameters
    if (first, last) != (next_first, next_last) or parameters.keys() != types.keys():
        return None
    different = [name for name in types if parameters[name] != types[name]]
    if len(different) != 1:
        return None
    (name,) = different
    return first, last, parameters | {name: parameters[name] | types[name]}


def _sorted(parameters: dict[str, Types]) -> dict[str, list[str]]:
    return {name: sorted(types) for name, types in sorted(parameters.items())}


def _written(rows: list[Row], numbers: dict[Types, int]) -> str:
    written = [
        (first, last, {name: numbers[types] for name, types in sorted(parameters.items())})
        for first, last, parameters in rows
    ]
    return json.dumps(written, separators=(",", ":"))


def _lines(brackets: str, items: Iterable[str]) -> str:
    return f"{brackets[0]}\n" + ",\n".join(items) + f"\n{brackets[1]}"


if __name__ == "__main__":
    main()
